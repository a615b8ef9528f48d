"""How a detector looks at pictures: once, in tiles, or several times."""

from __future__ import annotations

from dataclasses import dataclass

from frcnn.errors import UserError
from frcnn.inference.augmented import AugmentedDetector
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.tiles import OVERLAP, TiledDetector


@dataclass(frozen=True)
class Views:
    """What the command line says of it.

    Args:
        tiles: pixels of a tile's side; None for no tiles.
        overlap: of neighbouring tiles, as a share of the side; None: ``TiledDetector``'s own.
        tta: whether to look several times.

    Raises:
        UserError: a value out of range, or an overlap without tiles.
    """

    tiles: int | None = None
    overlap: float | None = None
    tta: bool = False

    def __post_init__(self):
        if self.tiles is not None and not 32 <= self.tiles <= 100_000:
            raise UserError(f"--tiles must be in 32..100,000. Received: {self.tiles}.")
        if self.overlap is not None and not 0 <= self.overlap <= 0.9:
            raise UserError(f"--overlap must be in 0..0.9. Received: {self.overlap}.")
        if self.overlap is not None and self.tiles is None:
            raise UserError("--overlap is of neighbouring tiles: give --tiles too.")

    def of(self, detector: PictureDetector) -> PictureDetector:
        """The detector, made to look so."""
        if self.tta:
            detector = AugmentedDetector(detector)
        if self.tiles is not None:
            overlap = OVERLAP if self.overlap is None else self.overlap
            detector = TiledDetector(detector, self.tiles, overlap)
        return detector
