"""Detection in pictures larger than the network sees: tile by tile, and on the whole."""

from __future__ import annotations

import numpy as np

from frcnn.data.faults import ImageError
from frcnn.data.images import decode_image, read_image
from frcnn.inference.pictures import Errors, PictureDetector, Progress
from frcnn.inference.preparation import UNNAMED, Image, checked
from frcnn.inference.seams import beyond_tiles, merge_tiles
from frcnn.inference.wrapped import WrappedDetector
from frcnn.structures import Detections

SMALLEST = 32  # pixels of a tile
OVERLAP = 0.2
_MOST_OVERLAP = 0.9
# A picture of 20,000 x 20,000 is decoded to 1.2 GB; one alone is held.
MOST_PIXELS = 1 << 29


class TiledDetector(WrappedDetector):
    """Looks at square tiles that overlap, and at the whole picture, and merges what they show.

    An object as large as the overlap or smaller is whole in some tile. What no tile sees all of is
    seen on the whole picture, which is believed in nothing else: there small objects are hardly
    seen, and groups of them are mistaken for one. A picture no larger than a tile is detected on
    as ever.

    Args:
        detector: what detects in each tile: of Keras, exported, or an ``AugmentedDetector``.
        size: pixels of a tile's side, in the picture; each is resized as a picture would be.
        overlap: of two neighbouring tiles, as a share of the side.
        whole: also look at the whole picture.

    Raises:
        ValueError: ``size`` below 32, ``overlap`` outside 0..0.9.
    """

    def __init__(
        self,
        detector: PictureDetector,
        size: int = 640,
        overlap: float = OVERLAP,
        whole: bool = True,
    ):
        super().__init__(detector)
        if size < SMALLEST or not 0 <= overlap <= _MOST_OVERLAP:
            raise ValueError(
                f"Expected tiles of at least {SMALLEST} pixels that overlap by 0 to "
                f"{_MOST_OVERLAP}. Received: size={size}, overlap={overlap}."
            )
        self.size = size
        self.overlap = overlap
        self.whole = whole

    @property
    def most_pixels(self) -> int:
        """Pixels that a picture's file may have: more than others take, as it is seen in parts."""
        return MOST_PIXELS

    def find(
        self,
        images: list[Image],
        score: float,
        batch: int,
        progress: Progress = None,
        errors: Errors = None,
    ) -> list[Detections]:
        """As ``detect``, of a list; the tiles of one picture share batches."""
        found = []
        for index, image in enumerate(images):
            try:
                found.append(self._find_in(image, batch).above(score))
            except ImageError as error:
                if errors is None:
                    raise
                errors[index] = error
                found.append(self.nothing())
            if progress:
                progress()
        return found

    def _find_in(self, image: Image, batch: int) -> Detections:
        if isinstance(image, bytes):
            pixels = decode_image(image, UNNAMED, self.most_pixels)
        elif isinstance(image, np.ndarray):
            pixels = checked(image)
        else:
            pixels = read_image(image, self.most_pixels)
        height, width = pixels.shape[:2]
        tiles = plan_tiles((height, width), self.size, self.overlap)
        if len(tiles) == 1:
            return self.detector.find([pixels], 0.0, batch)[0]
        views: list[Image] = [pixels[y1:y2, x1:x2] for x1, y1, x2, y2 in tiles]
        seen = self.detector.find([*views, pixels] if self.whole else views, 0.0, batch)
        found = [
            Detections(each.boxes + np.tile(tile[:2], 2), each.scores, each.labels, each.classes)
            for each, tile in zip(seen, tiles, strict=False)
        ]
        if self.whole:
            found.append(beyond_tiles(seen[-1], tiles, (height, width)))
            tiles = np.concatenate([tiles, [[0, 0, width, height]]])
        return merge_tiles(found, tiles, (height, width))


def plan_tiles(size: tuple[int, int], side: int, overlap: float) -> np.ndarray:
    """Square tiles that cover a picture; the last of a row ends at its border.

    Args:
        size: (height, width) of the picture.
        side: of a tile; less where the picture has less.
        overlap: the least share of the side that neighbours have in common.

    Returns:
        int (T, 4), xyxy, row by row.
    """
    rows, columns = (_starts(extent, side, overlap) for extent in size)
    height, width = (min(side, extent) for extent in size)
    return np.array([(x, y, x + width, y + height) for y in rows for x in columns], np.int64)


def _starts(extent: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin, evenly spaced: none overlaps more than its neighbours do."""
    if extent <= side:
        return [0]
    step = max(int(side * (1 - overlap)), 1)
    count = -(-(extent - side) // step)
    return [round(index * (extent - side) / count) for index in range(count + 1)]
