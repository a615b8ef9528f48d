"""Detections of overlapping tiles as one list: objects that a seam cuts are put together again.

Where two tiles overlap they see the same pixels, so an object there has the same box in both once
the two boxes are cut down to what both tiles see. That tells parts of one object from two objects
side by side, which the overlap of the whole boxes does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn.structures import Detections

SAME = 0.5  # IoU, in what two tiles see, of two boxes that are of one object
_MARGIN = 0.01  # of a tile's side: a box that ends so near to a seam is cut by it


@dataclass(frozen=True, eq=False)
class Seen:
    """The detections of all tiles.

    Args:
        boxes: float64 (N, 4), xyxy in pixels of the picture.
        scores: (N,).
        labels: (N,).
        tile: int (N,), the tile that each is of.
        cut: bool (N,), whether it ends at a seam, so that there may be more of the object.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    tile: np.ndarray
    cut: np.ndarray


def merge_tiles(
    found: Sequence[Detections], tiles: np.ndarray, size: tuple[int, int]
) -> Detections:
    """Merge the detections of tiles.

    A detection that no seam cuts stands for all that are of the same object; of several the most
    confident does. Parts of an object that every tile cuts become one box around them.

    Args:
        found: of each tile, in pixels of the picture.
        tiles: int (T, 4), xyxy; one may be the whole picture.
        size: (height, width) of the picture.
    """
    seen = _seen(found, tiles, size)
    first, second = _same_objects(seen, tiles)
    boxes, rows = _representatives(seen, _neighbours(len(seen.scores), first, second))
    order = np.argsort(-seen.scores[rows], kind="stable")
    rows = rows[order]
    return Detections(boxes[order], seen.scores[rows], seen.labels[rows], found[0].classes)


def beyond_tiles(found: Detections, tiles: np.ndarray, size: tuple[int, int]) -> Detections:
    """Those detections of a whole picture that no tile sees all of.

    The others are for the tiles to judge, which see more of them.

    Args:
        found: in pixels of the picture.
        tiles: int (T, 4), xyxy.
        size: (height, width) of the picture.
    """
    held = np.zeros(len(found), bool)
    boxes = found.boxes.astype(np.float64)
    for tile in tiles:
        inside = (boxes[:, :2] >= tile[:2]).all(axis=1) & (boxes[:, 2:] <= tile[2:]).all(axis=1)
        held |= inside & ~_cut(boxes, tile, size)
    return found[~held]


def _cut(boxes: np.ndarray, extents: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which boxes end at a seam of their tiles, int (4,) or (N, 4), bool (N,)."""
    border = np.array([0, 0, size[1], size[0]])
    sides = extents[..., 2:] - extents[..., :2]
    margins = _MARGIN * np.concatenate([sides, sides], axis=-1)
    return ((np.abs(boxes - extents) <= margins) & (extents != border)).any(axis=1)


def _seen(found: Sequence[Detections], tiles: np.ndarray, size: tuple[int, int]) -> Seen:
    boxes = np.concatenate([each.boxes for each in found]).astype(np.float64)
    tile = np.repeat(np.arange(len(found)), [len(each) for each in found])
    cut = _cut(boxes, tiles[tile], size)
    scores = np.concatenate([each.scores for each in found])
    return Seen(boxes, scores, np.concatenate([each.labels for each in found]), tile, cut)


def _same_objects(seen: Seen, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of detections, by their rows, of one object in two tiles."""
    starts = np.searchsorted(seen.tile, np.arange(len(tiles) + 1))
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for one, other in _overlapping(tiles):
        low = np.maximum(tiles[one, :2], tiles[other, :2])
        common = np.concatenate([low, np.minimum(tiles[one, 2:], tiles[other, 2:])])
        first, second = (
            _within(seen, slice(starts[tile], starts[tile + 1]), common) for tile in (one, other)
        )
        if len(first) and len(second):
            rows, columns = np.nonzero(_alike(seen, first, second, common))
            pairs.append((first[rows], second[columns]))
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _overlapping(tiles: np.ndarray) -> np.ndarray:
    """Pairs of tiles with pixels in common, int (P, 2)."""
    pairs = [np.zeros((0, 2), np.int64)]
    for number, tile in enumerate(tiles):
        later = tiles[number + 1 :]
        meet = (later[:, :2] < tile[2:]).all(axis=1) & (later[:, 2:] > tile[:2]).all(axis=1)
        others = np.flatnonzero(meet) + number + 1
        pairs.append(np.stack([np.full(len(others), number), others], axis=1))
    return np.concatenate(pairs)


def _within(seen: Seen, rows: slice, common: np.ndarray) -> np.ndarray:
    """Those of the rows whose boxes have some of ``common``."""
    boxes = seen.boxes[rows]
    meet = (boxes[:, :2] < common[2:]).all(axis=1) & (boxes[:, 2:] > common[:2]).all(axis=1)
    return np.flatnonzero(meet) + rows.start


def _alike(seen: Seen, first: np.ndarray, second: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Which of the rows ``first`` (N,) and ``second`` (M,) are of one object, bool (N, M)."""
    boxes, others = seen.boxes[first][:, None], seen.boxes[second][None]
    both = _intersection(boxes, others)
    low, high = common[:2], common[2:]
    areas, other_areas = (
        np.prod(np.minimum(each[..., 2:], high) - np.maximum(each[..., :2], low), axis=-1)
        for each in (boxes, others)
    )
    alike = both >= SAME * (areas + other_areas - both)
    return alike & (seen.labels[first][:, None] == seen.labels[second][None])


def _intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[..., :2], others[..., :2])
    return np.clip(np.minimum(boxes[..., 2:], others[..., 2:]) - low, 0, None).prod(axis=-1)


def _neighbours(count: int, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """The rows that each row is paired with."""
    rows, others = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.argsort(rows, kind="stable")
    return np.split(others[order], np.searchsorted(rows[order], np.arange(1, count)))


def _representatives(seen: Seen, neighbours: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The box (K, 4) and the row (K,) of one detection an object."""
    taken = np.zeros(len(seen.scores), bool)
    boxes, rows = [np.zeros((0, 4))], []
    # Whole objects first, the most confident of them first; then what is cut everywhere.
    for row in np.lexsort((-seen.scores, seen.cut)):
        if taken[row]:
            continue
        group = _parts(row, seen, neighbours, taken)
        taken[group] = True
        own = seen.boxes[group] if seen.cut[row] else seen.boxes[row][None]
        boxes.append(np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)])[None])
        rows.append(row)
    return np.concatenate(boxes), np.array(rows, np.int64)


def _parts(row: int, seen: Seen, neighbours: list[np.ndarray], taken: np.ndarray) -> list[int]:
    """The rows that a row stands for: its neighbours; if it is cut, theirs too, and so on."""
    group, waiting = {int(row)}, [int(row)]
    while waiting:
        new = [int(r) for r in neighbours[waiting.pop()] if not taken[r] and int(r) not in group]
        group.update(new)
        waiting += new if seen.cut[row] else []
    return list(group)
