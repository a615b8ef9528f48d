"""Batches for training: decode, transform, resize, pad, a few batches ahead of the model.

What a batch holds depends on (seed, epoch, index) only, never on the number of threads or the
order in which they finish. Threads suffice because OpenCV releases Python's lock while it works.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import keras
import numpy as np

from frcnn.data.dataset import Dataset
from frcnn.data.faults import DataError, Fault, ImageError
from frcnn.data.images import read_image
from frcnn.data.resizing import Size, fit_canvas, plan_canvases, prepare, scale_for, scaled_size
from frcnn.data.transforms import Transform, apply
from frcnn.structures import Sample

Batch = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]

log = logging.getLogger(__name__)

_BLANK = -1  # in a plan: no sample, a blank picture
_SMALLEST_SIDE = 1.0  # pixels of the canvas; a thinner box is no target


class DetectionBatches(keras.utils.PyDataset):
    """The batches of one data set, each of one canvas and always full.

    A batch is ``(x, y)``: ``x["images"]`` uint8 (B, H, W, 3) RGB, zero right of and below the
    picture; ``x["sizes"]`` int32 (B, 2), the (height, width) of the picture in it;
    ``y["boxes"]`` float32 (B, G, 4) in pixels of the canvas and ``y["labels"]`` int32 (B, G),
    both filled up with -1. Difficult objects are no targets.

    Pictures are grouped by canvas. Shuffled, the last batch of a group is filled up from its
    start; in order, with blanks of size (0, 0), and ``samples_of`` tells which those are.

    Args:
        dataset: the samples.
        batch_size: B.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        canvases: (height, width) to choose from; None plans a few from the pictures' sizes.
        transforms: applied to the decoded picture, in turn.
        seed: of the order and of the transforms.
        shuffle: a new order each epoch; else the data set's own, by canvas.
        max_boxes: G; None takes the largest number in the data set, rounded up to 8.
        steps: batches an epoch; None makes an epoch one pass over the data.
        workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
        ahead: batches prepared ahead.
        strict: raise when a picture turns out to be undecodable, instead of replacing it.

    Raises:
        DataError: an empty data set; at a batch, no picture of it can be decoded.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        short: int,
        long: int,
        *,
        canvases: Sequence[Size] | None = None,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        shuffle: bool = True,
        max_boxes: int | None = None,
        steps: int | None = None,
        workers: int = 2,
        ahead: int = 4,
        strict: bool = False,
    ):
        # One worker for Keras means that it asks from its own thread, batch by batch: the
        # reading ahead here also runs across the end of an epoch, and its waiting is measured.
        super().__init__(workers=1)
        if not len(dataset):
            raise DataError(f"{dataset.root}: has no images to make batches of")
        self.dataset = dataset
        self.batch_size = batch_size
        self.short, self.long = short, long
        self.transforms = tuple(transforms)
        self.seed, self.shuffle, self.steps, self.strict = seed, shuffle, steps, strict
        self.max_boxes = most_boxes(dataset) if max_boxes is None else max_boxes
        sizes = [tuple(size) for size in dataset.sizes().tolist()]
        offered = plan_canvases(sizes, short, long) if canvases is None else tuple(canvases)
        self._groups = _group(sizes, short, long, offered, batch_size)
        self.epoch = 0
        self.waited = 0.0
        self.faults: tuple[Fault, ...] = ()
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(workers, "frcnn-batch") if workers else None
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, int], Future[Batch]] = {}
        self._handed_last = False
        # Batches are the unit of parallelism; threads within one picture would only compete.
        cv2.setNumThreads(1)

    @property
    def canvases(self) -> tuple[Size, ...]:
        """The (height, width) of the canvases in use, the smallest area first."""
        return tuple(sorted(self._groups, key=lambda canvas: (canvas[0] * canvas[1], canvas)))

    def __len__(self) -> int:
        if self.steps is not None:
            return self.steps
        return sum(-(-len(group) // self.batch_size) for group in self._groups.values())

    def __getitem__(self, index: int) -> Batch:
        """Give batch ``index`` of the current epoch and start on those after it."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"Batch {index} is out of range for {len(self)} batches.")
        index %= len(self)
        epoch = self.epoch if self.shuffle else 0
        started = time.perf_counter()
        if self._pool is None:
            batch = self.load(epoch, index)
        else:
            batch = self._future(epoch, index).result()
        self.waited += time.perf_counter() - started
        self._handed_last = index == len(self) - 1
        return batch

    def on_epoch_end(self):
        """Go on to the next epoch, if this one was handed out to its end.

        Keras calls this also after a first look at the data, before training.
        """
        if self._handed_last:
            self.epoch += 1
            self._handed_last = False

    def samples_of(self, index: int, epoch: int = 0) -> np.ndarray:
        """Which samples a batch holds: int64 (B,), indices into the data set, -1 for a blank."""
        return self._plan(epoch)[index][1]

    def load(self, epoch: int, index: int) -> Batch:
        """Make a batch here and now; the same arguments always give the same batch."""
        canvas, samples = self._plan(epoch)[index]
        images = np.zeros((self.batch_size, *canvas, 3), np.uint8)
        sizes = np.zeros((self.batch_size, 2), np.int32)
        boxes = np.full((self.batch_size, self.max_boxes, 4), -1, np.float32)
        labels = np.full((self.batch_size, self.max_boxes), -1, np.int32)
        for slot, sample in enumerate(samples):
            rng = np.random.default_rng((self.seed, epoch, index * self.batch_size + slot))
            made = None if sample == _BLANK else self._decode(int(sample))
            if made is None:
                continue
            images[slot], sizes[slot], found, names = self._example(*made, canvas, rng)
            kept = np.sort(rng.permutation(len(found))[: self.max_boxes])
            boxes[slot, : len(kept)] = found[kept]
            labels[slot, : len(kept)] = names[kept]
        return {"images": images, "sizes": sizes}, {"boxes": boxes, "labels": labels}

    def _example(self, sample: Sample, image: np.ndarray, canvas: Size, rng: np.random.Generator):
        """One slot of a batch: padded image, size, boxes float32 (N, 4), labels (N,)."""
        easy = _targets(sample)
        image, boxes, labels = apply(
            self.transforms, image, sample.boxes[easy], sample.labels[easy], rng
        )
        padded, size, (down, across) = prepare(image, self.short, self.long, canvas)
        boxes = boxes * np.array([across, down, across, down], np.float32)
        kept = (boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_SIDE).all(axis=1)
        return padded, size, boxes[kept], labels[kept]

    def _decode(self, index: int) -> tuple[Sample, np.ndarray] | None:
        """A sample and its picture; in place of a broken one the next sound, or a blank."""
        for step in range(len(self.dataset)):
            sample = self.dataset[(index + step) % len(self.dataset)]
            try:
                return sample, read_image(sample.image)
            except ImageError as error:
                if self.strict:
                    raise
                self._report(Fault(error.file, error.problem, images=1))
                if not self.shuffle:
                    return None
        raise DataError(f"{self.dataset.root}: none of its {len(self.dataset)} images can be read")

    def _report(self, fault: Fault) -> None:
        with self._lock:
            if fault in self.faults:
                return
            self.faults += (fault,)
        log.warning("%s; %s", fault, "another takes its place" if self.shuffle else "left blank")

    def _plan(self, epoch: int) -> list[tuple[Size, np.ndarray]]:
        """The canvas and the samples of every batch of an epoch."""
        if not self.shuffle:
            plan = [
                batch
                for canvas in self.canvases
                for batch in _batches(canvas, self._groups[canvas], self.batch_size, fill=False)
            ]
            return (plan * -(-len(self) // len(plan)))[: len(self)]
        rng = np.random.default_rng((self.seed, epoch))
        plan = []
        while len(plan) < len(self):  # more than once only for an epoch of more than one pass
            batches = [
                batch
                for canvas in self.canvases
                for batch in _batches(
                    canvas, rng.permutation(self._groups[canvas]), self.batch_size, fill=True
                )
            ]
            plan += [batches[place] for place in rng.permutation(len(batches))]
        return plan[: len(self)]

    def _future(self, epoch: int, index: int) -> Future[Batch]:
        """The wanted batch on its way, and those after it started; others are forgotten."""
        count = len(self)
        places = [epoch * count + index + step for step in range(self._ahead + 1)]
        wanted = [divmod(place, count) for place in places]
        if not self.shuffle:  # every epoch is the same
            wanted = [(0, place) for _, place in wanted]
        with self._lock:
            assert self._pool is not None
            self._pending = {
                key: self._pending.get(key) or self._pool.submit(self.load, *key) for key in wanted
            }
            return self._pending.pop((epoch, index))


def most_boxes(dataset: Dataset) -> int:
    """The largest number of targets of any sample, rounded up to a multiple of 8."""
    most = max((int(_targets(sample).sum()) for sample in dataset), default=0)
    return max(-(-most // 8) * 8, 8)


def _targets(sample: Sample) -> np.ndarray:
    """Which boxes are trained on, bool (N,): all but the difficult ones."""
    return ~np.asarray(sample.difficult, bool)


def _group(
    sizes: list[Size], short: int, long: int, canvases: Sequence[Size], batch_size: int
) -> dict[Size, np.ndarray]:
    """Indices of the samples by canvas.

    A group too small for one batch joins the largest, shrunk to fit: filled up by itself it
    would show its few pictures far too often.
    """
    groups: dict[Size, list[int]] = {}
    for index, size in enumerate(sizes):
        canvas = fit_canvas(scaled_size(size, scale_for(size, short, long)), canvases)
        groups.setdefault(canvas, []).append(index)
    largest = max(groups, key=lambda canvas: (len(groups[canvas]), canvas))
    for canvas in [c for c in groups if c != largest and len(groups[c]) < batch_size]:
        groups[largest] += groups.pop(canvas)
    return {canvas: np.sort(group) for canvas, group in groups.items()}


def _batches(
    canvas: Size, group: np.ndarray, batch_size: int, fill: bool
) -> list[tuple[Size, np.ndarray]]:
    """Part a group into full batches, the last filled up from its start or with blanks."""
    missing = -len(group) % batch_size
    filling = np.resize(group, missing) if fill else np.full(missing, _BLANK, np.int64)
    parts = np.concatenate([group, filling]).reshape(-1, batch_size)
    return [(canvas, part) for part in parts]
