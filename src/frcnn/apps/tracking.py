"""Which detections of consecutive frames are the same object; NumPy and SciPy.

ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
ECCV 2022), class by class: sure detections are matched with the tracks first, then tracks that
found none with unsure ones, which are often objects half hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frcnn.errors import UserError
from frcnn.evaluation.matching import pairwise_iou
from frcnn.structures import Detections

NOBODY = -1

# A box's coordinates are uncertain by these shares of its mean side: as measured, and its speed a
# frame.
_POSITION, _SPEED = 1 / 20, 1 / 160


@dataclass(frozen=True)
class TrackingRule:
    """When detections are one object.

    Args:
        sure: score from which a detection may begin a track.
        unsure: score from which one may go on with a track.
        overlap: least IoU of a sure detection with where its track is expected.
        overlap_unsure: of an unsure one.
        patience: frames without a detection after which a track ends.
    """

    sure: float = 0.5
    unsure: float = 0.1
    overlap: float = 0.2
    overlap_unsure: float = 0.5
    patience: int = 30


class Tracker:
    """Follows objects from frame to frame.

    Args:
        rule: when detections are one object.

    Raises:
        UserError: SciPy, which finds the best matching, is not installed.
    """

    def __init__(self, rule: TrackingRule = TrackingRule()):  # noqa: B008
        self._rule = rule
        self._assign = _assignment()
        self._motion = _Motion.empty()
        self._labels = np.zeros(0, np.int64)
        self._ids = np.zeros(0, np.int64)  # NOBODY until a second detection confirms the track
        self._missed = np.zeros(0, np.int64)  # frames since the last detection
        self._next = 1
        self._first = True

    def update(self, found: Detections, frames: int = 1) -> np.ndarray:
        """Take the next frame's detections.

        Args:
            found: all from ``rule.unsure`` on.
            frames: how many frames it is after the last one: more than 1 where some were dropped.

        Returns:
            int64 (N,): the number of each detection's track, from 1, or ``NOBODY``.
        """
        self._motion.predict(frames)
        rows = np.full(len(found), NOBODY)  # each detection's track, a row of this frame's
        sure = found.scores >= self._rule.sure
        unsure = ~sure & (found.scores >= self._rule.unsure)
        self._match(found, rows, np.flatnonzero(sure), self._missed >= 0, self._rule.overlap)
        seen = self._missed == 0  # in the last frame: others are too uncertain for the unsure
        self._match(found, rows, np.flatnonzero(unsure), seen, self._rule.overlap_unsure)
        matched = rows != NOBODY
        self._motion.correct(rows[matched], _centred(found.boxes[matched]))
        self._missed += frames
        self._missed[rows[matched]] = 0
        self._number(rows[matched])
        ids = np.where(matched, self._ids[rows] if len(self._ids) else NOBODY, NOBODY)
        begun = np.flatnonzero(sure & ~matched)
        self._begin(found, begun)
        if self._first:
            ids[begun] = self._ids[len(self._ids) - len(begun) :]
        self._first = False
        self._end()
        return ids.astype(np.int64)

    def _match(self, found: Detections, rows, candidates, tracks, least: float) -> None:
        """Give the candidates the free ones of these tracks that they overlap best."""
        free = np.flatnonzero(tracks & ~np.isin(np.arange(len(self._ids)), rows))
        if not len(free) or not len(candidates):
            return
        expected = _cornered(self._motion.place[free])
        overlap = pairwise_iou(found.boxes[candidates], expected)
        overlap[found.labels[candidates, None] != self._labels[free]] = 0
        # Surer detections win where boxes are equal.
        gain = np.where(overlap >= least, overlap * found.scores[candidates, None], 0)
        for one, other in zip(*self._assign(gain, maximize=True), strict=True):
            if gain[one, other] > 0:
                rows[candidates[one]] = free[other]

    def _number(self, tracks: np.ndarray) -> None:
        for track in np.sort(tracks[self._ids[tracks] == NOBODY]):
            self._ids[track] = self._next
            self._next += 1

    def _begin(self, found: Detections, rows: np.ndarray) -> None:
        self._motion = self._motion.joined(_Motion.begun(_centred(found.boxes[rows])))
        self._labels = np.append(self._labels, found.labels[rows])
        self._missed = np.append(self._missed, np.zeros(len(rows), np.int64))
        ids = np.full(len(rows), NOBODY)
        if self._first:  # there was no frame before to be confirmed by
            ids = np.arange(len(rows)) + 1
            self._next = len(rows) + 1
        self._ids = np.append(self._ids, ids)

    def _end(self) -> None:
        # What was seen once alone was probably nothing.
        patience = np.where(self._ids == NOBODY, 0, self._rule.patience)
        kept = self._missed <= patience
        self._motion = self._motion.only(kept)
        self._labels, self._ids = self._labels[kept], self._ids[kept]
        self._missed = self._missed[kept]


@dataclass
class _Motion:
    """A Kalman filter of constant speed for each number of each box.

    All noise is independent between the four numbers (centre x, y, width, height), so that each
    has a state of two, place and speed, and a covariance of three numbers.
    """

    place: np.ndarray  # float64 (N, 4)
    speed: np.ndarray  # a frame
    place_place: np.ndarray  # variances and covariance
    place_speed: np.ndarray
    speed_speed: np.ndarray

    @classmethod
    def empty(cls) -> _Motion:
        return cls(*(np.zeros((0, 4)) for _ in range(5)))

    @classmethod
    def begun(cls, boxes: np.ndarray) -> _Motion:
        side = _side(boxes)
        nothing = np.zeros_like(boxes)
        wide = nothing + (2 * _POSITION * side) ** 2
        return cls(boxes, nothing, wide, nothing, nothing + (10 * _SPEED * side) ** 2)

    def predict(self, frames: int) -> None:
        """Move on by so many frames."""
        side = _side(self.place)
        self.place = self.place + frames * self.speed
        self.place[:, 2:] = self.place[:, 2:].clip(1e-3)
        self.place_place = (
            self.place_place
            + 2 * frames * self.place_speed
            + frames**2 * self.speed_speed
            + frames * (_POSITION * side) ** 2
        )
        self.place_speed = self.place_speed + frames * self.speed_speed
        self.speed_speed = self.speed_speed + frames * (_SPEED * side) ** 2

    def correct(self, rows: np.ndarray, boxes: np.ndarray) -> None:
        """Take boxes (M, 4) as measured for these tracks."""
        variance = self.place_place[rows] + (_POSITION * _side(self.place[rows])) ** 2
        error = boxes - self.place[rows]
        of_place = self.place_place[rows] / variance
        of_speed = self.place_speed[rows] / variance
        self.place[rows] += of_place * error
        self.speed[rows] += of_speed * error
        self.speed_speed[rows] -= of_speed * self.place_speed[rows]
        self.place_speed[rows] *= 1 - of_place
        self.place_place[rows] *= 1 - of_place

    def joined(self, other: _Motion) -> _Motion:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Motion(*(np.concatenate(pair) for pair in pairs))

    def only(self, kept: np.ndarray) -> _Motion:
        return _Motion(*(values[kept] for values in vars(self).values()))


def _side(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2:].mean(axis=1, keepdims=True)


def _centred(boxes: np.ndarray) -> np.ndarray:
    """Corners as centre, width and height, float64."""
    boxes = boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + sides / 2, sides], axis=1)


def _cornered(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1
    )


def _assignment():
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        if error.name not in ("scipy", "scipy.optimize"):
            raise
        raise UserError(
            "Tracking needs SciPy, which is not installed. Install it with "
            "`pip install 'frcnn[video]'`."
        ) from None
    return linear_sum_assignment
