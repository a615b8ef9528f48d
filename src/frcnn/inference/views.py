"""How a detector looks at pictures: once, in tiles, or several times."""

from __future__ import annotations

from dataclasses import dataclass

from frcnn.errors import UserError
from frcnn.inference.augmented import AugmentedDetector
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.tiles import TiledDetector


@dataclass(frozen=True)
class Views:
    """What the command line says of it.

    Args:
        tiles: pixels of a tile's side; None for no tiles.
        overlap: of neighbouring tiles, as a share of the side.
        tta: whether to look several times.

    Raises:
        UserError: a value out of range.
    """

    tiles: int | None = None
    overlap: float = 0.2
    tta: bool = False

    def __post_init__(self):
        if self.tiles is not None and not 32 <= self.tiles <= 100_000:
            raise UserError(f"--tiles must be in 32..100,000. Received: {self.tiles}.")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"--overlap must be in 0..0.9. Received: {self.overlap}.")

    def of(self, detector: PictureDetector) -> PictureDetector:
        """The detector, made to look so."""
        if self.tta:
            detector = AugmentedDetector(detector)
        if self.tiles is not None:
            detector = TiledDetector(detector, self.tiles, self.overlap)
        return detector
