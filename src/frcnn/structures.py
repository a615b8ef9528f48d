"""What the parts of frcnn hand to each other: pictures with their boxes, and detections.

One convention everywhere: boxes are ``(x1, y1, x2, y2)`` in absolute pixels of the original
picture, float32, continuous coordinates (a box covering a whole W x H picture is
``[0, 0, W, H]``). Labels are ``0..C-1`` into a tuple of class names; there is no background class.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_MOST_SHOWN = 50  # detections in a notebook


def _boxes(value) -> np.ndarray:
    boxes = np.asarray(value, np.float32)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"Expected boxes of shape (N, 4). Received: shape {boxes.shape}.")
    if not np.isfinite(boxes).all():
        row = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise ValueError(f"Expected finite boxes. Received: row {row} is {boxes[row].tolist()}.")
    return boxes


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Width by height of xyxy boxes (N, 4), float64 (N,)."""
    corners = boxes.astype(np.float64)
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair, float64 (N, M) for (N, 4) and (M, 4) xyxy boxes.

    The coordinates are continuous. VOC's devkit counts inclusive pixels (``x2 - x1 + 1``), which
    is the same number once VOC boxes are read as ``(xmin - 1, ymin - 1, xmax, ymax)``.
    An empty box has IoU 0 with everything.
    """
    a, b = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]  # (N,1,4) (1,M,4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])  # (N,M,2)
    intersection = np.prod(np.maximum(sides, 0), axis=-1)
    area_a = np.prod(np.maximum(a[..., 2:] - a[..., :2], 0), axis=-1)
    area_b = np.prod(np.maximum(b[..., 2:] - b[..., :2], 0), axis=-1)
    union = area_a + area_b - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _column(value, dtype, length: int, name: str) -> np.ndarray:
    column = np.asarray(value, dtype).reshape(-1)
    if len(column) != length:
        raise ValueError(f"Expected {length} {name}, one a box. Received: {len(column)}.")
    return column


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled picture, not yet decoded.

    Args:
        image: path of the picture file.
        boxes: float32 (N, 4), xyxy in pixels of the picture.
        labels: int64 (N,), 0..C-1.
        difficult: bool (N,), objects neither trained on nor scored, COCO's crowds among them;
            default none.
        size: (height, width) in pixels where the annotation states it, else None.
        areas: float64 (N,), square pixels by which COCO's figures sort the objects into small,
            medium and large: of their masks where COCO states them; default the boxes' own.

    Raises:
        ValueError: shapes that disagree, or a box that is not finite.
    """

    image: Path
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    difficult: np.ndarray = None  # type: ignore[assignment]  # made an array below
    size: tuple[int, int] | None = None
    areas: np.ndarray = None  # type: ignore[assignment]  # made an array below

    def __post_init__(self):
        boxes = _boxes(self.boxes)
        count = len(boxes)
        difficult = np.zeros(count, bool) if self.difficult is None else self.difficult
        areas = box_areas(boxes) if self.areas is None else self.areas
        object.__setattr__(self, "image", Path(self.image))
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _column(self.labels, np.int64, count, "labels"))
        object.__setattr__(self, "difficult", _column(difficult, bool, count, "difficult flags"))
        object.__setattr__(self, "areas", _column(areas, np.float64, count, "areas"))


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one picture, most confident first.

    Args:
        boxes: float32 (N, 4), xyxy in pixels of the original picture.
        scores: float32 (N,), 0..1.
        labels: int64 (N,), index into ``classes``.
        classes: the names of all classes the detector knows.

    Raises:
        ValueError: shapes that disagree, a box that is not finite, a score that is NaN, a label
            without a name.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self):
        boxes = _boxes(self.boxes)
        labels = _column(self.labels, np.int64, len(boxes), "labels")
        classes = tuple(self.classes)
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
            raise ValueError(
                f"Expected labels in 0..{len(classes) - 1} for {len(classes)} classes. "
                f"Received: {labels.min()}..{labels.max()}."
            )
        scores = _column(self.scores, np.float32, len(boxes), "scores")
        if np.isnan(scores).any():
            row = int(np.flatnonzero(np.isnan(scores))[0])
            raise ValueError(f"Expected scores that are numbers. Received: row {row} is nan.")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: int | slice | np.ndarray | Sequence[int]) -> Detections:
        """Select rows: an index, a slice, a mask or a list; an index gives one detection."""
        if isinstance(rows, (int, np.integer)):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"Index {rows} is out of range for {len(self)} detections.")
            rows = slice(rows, rows + 1 or None)
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], self.classes)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.classes[label] for label in self.labels]

    def above(self, score: float) -> Detections:
        """Only the detections scored at least ``score``."""
        return self[self.scores >= score]

    def to_coco(self, image_id: int = 0, first_category: int = 1) -> list[dict]:
        """COCO result rows: ``bbox`` is (x, y, width, height), categories count from 1."""
        return [
            {
                "image_id": image_id,
                "category_id": int(label) + first_category,
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), score, label in zip(
                self.boxes, self.scores, self.labels, strict=True
            )
        ]

    def to_dict(self) -> list[dict]:
        """Plain rows for JSON: ``box`` (xyxy, pixels), ``score``, ``label``, ``name``."""
        return [
            {"box": box.tolist(), "score": float(score), "label": int(label), "name": name}
            for box, score, label, name in zip(
                self.boxes, self.scores, self.labels, self.names, strict=True
            )
        ]

    def to_supervision(self) -> Any:
        """The same as ``supervision.Detections``, with the names as ``data["class_name"]``.

        Raises:
            ImportError: the library supervision is not installed.
        """
        try:
            from supervision import Detections as Theirs
        except ImportError as error:
            raise ImportError(
                "to_supervision needs the library supervision. Install it: pip install supervision"
            ) from error
        return Theirs(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def _repr_html_(self) -> str:
        """A table, as notebooks show it."""
        rows = [
            f"<tr><td>{html.escape(name)}</td><td>{score:.3f}</td>"
            + "".join(f"<td>{value:.1f}</td>" for value in box)
            + "</tr>"
            for name, score, box in zip(
                self.names[:_MOST_SHOWN], self.scores, self.boxes, strict=False
            )
        ]
        more = len(self) - len(rows)
        rows += [f'<tr><td colspan="6">and {more} more</td></tr>'] if more else []
        titles = "".join(f"<th>{each}</th>" for each in ("class", "score", "x1", "y1", "x2", "y2"))
        return f"<table><tr>{titles}</tr>{''.join(rows)}</table>"

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A copy of ``image`` (uint8, (H, W, 3), RGB) with boxes, names and scores on it."""
        from frcnn.draw import draw_detections

        return draw_detections(image, self)
