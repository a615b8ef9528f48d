"""Batches for training: decode, transform, resize, pad, a few batches ahead of the model.

What a batch holds depends on (seed, epoch, index) only, never on the number of threads or the
order in which they finish. Threads suffice because OpenCV releases Python's lock while it works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import keras
import numpy as np

from frcnn.data.dataset import Dataset, trained_on
from frcnn.data.examples import Examples
from frcnn.data.faults import DataError, Fault
from frcnn.data.planning import (
    BLANK,
    Planned,
    Variety,
    batch_count,
    group_by_canvas,
    plan_in_order,
    plan_shuffled,
)
from frcnn.data.repeats import repeat_factors
from frcnn.data.resizing import Size, plan_canvases, scaled_canvas
from frcnn.data.transforms import Transform

Batch = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]

_AHEAD = 4  # batches made before they are asked for


class DetectionBatches(keras.utils.PyDataset):
    """The batches of one data set, each of one canvas and always full.

    A batch is ``(x, y)``: ``x["images"]`` uint8 (B, H, W, 3) RGB, zero right of and below the
    picture; ``x["sizes"]`` int32 (B, 2), the (height, width) of the picture in it;
    ``y["boxes"]`` float32 (B, G, 4) in pixels of the canvas and ``y["labels"]`` int32 (B, G),
    both filled up with -1. Difficult objects are no targets.

    Pictures are grouped by canvas. Shuffled, the last batch of a group is filled up from its
    start; in order, with blanks of size (0, 0), and ``samples_of`` tells which those are.

    Give ``fit`` ``shuffle=False``: by default it draws the batches themselves in a random order,
    and then none can be made ahead. ``epoch`` may be set; ``waited`` counts the seconds that
    asking for batches took, ``faults`` the pictures that could not be decoded after all.

    Args:
        dataset: the samples.
        batch_size: B.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        canvases: (height, width) to choose from; None plans a few from the pictures' sizes. On
            TensorFlow they are joined into one.
        transforms: applied to the decoded picture, in turn.
        variety: what is shown how often and how large; only where shuffled.
        seed: of the order and of the transforms.
        shuffle: a new order each epoch; else the data set's own, by canvas.
        max_boxes: G, of more some are drawn; None takes the most of any sample, rounded up to 8;
            with mosaics twice as many, as these show twice as many objects on average.
        steps: batches an epoch; None makes an epoch one pass over the data.
        workers: threads that prepare batches ahead; 0 prepares each when it is asked for.
        strict: raise when a picture turns out to be undecodable, instead of replacing it.
        rows: those of each batch to make, where other processes make the others; None: all.

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
        variety: Variety = Variety(),
        seed: int = 0,
        shuffle: bool = True,
        max_boxes: int | None = None,
        steps: int | None = None,
        workers: int = 2,
        strict: bool = False,
        rows: Sequence[int] | None = None,
    ):
        # One worker for Keras means that it asks from its own thread, batch by batch: the
        # reading ahead here also runs across the end of an epoch, and its waiting is measured.
        super().__init__(workers=1)
        if not len(dataset):
            raise DataError(f"{dataset.root}: has no images to make batches of")
        self.dataset = dataset
        self.batch_size = batch_size
        self.rows: Sequence[int] = range(batch_size) if rows is None else rows
        self.short, self.long = short, long
        self.variety = variety if shuffle else Variety()
        self.seed, self.shuffle, self.steps, self.strict = seed, shuffle, steps, strict
        self.max_boxes = max_boxes or most_boxes(dataset) * (2 if self.variety.mosaics else 1)
        self._examples = Examples(dataset, transforms, replace=shuffle, strict=strict)
        self._repeats = repeat_factors(dataset, variety.rare) if self.variety.rare else None
        sizes = [tuple(size) for size in dataset.sizes().tolist()]
        canvases = one_if_needed(canvases or plan_canvases(sizes, short, long))
        self._groups = group_by_canvas(sizes, short, long, canvases, batch_size)
        self._scaled = self._scaled_canvases()
        self.epoch = 0
        self.waited = 0.0
        self._pool = ThreadPoolExecutor(workers, "frcnn-batch") if workers else None
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, int], Future[Batch]] = {}
        self._handed: set[int] = set()
        self._next = 0
        self._planned: tuple[int, list[tuple[float, Planned]]] = (-1, [])
        # Batches are the unit of parallelism; threads within one picture would only compete.
        cv2.setNumThreads(1)

    @property
    def canvases(self) -> tuple[Size, ...]:
        """The (height, width) of the canvases in use, the smallest area first."""
        used = dict.fromkeys(self._scaled.values())
        return tuple(sorted(used, key=lambda canvas: (canvas[0] * canvas[1], canvas)))

    @property
    def plain_canvases(self) -> tuple[Size, ...]:
        """Those for pictures at their own scale, the smallest area first."""
        return tuple(self._groups)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The pictures that could not be decoded after all."""
        return self._examples.faults

    def _scaled_canvases(self) -> dict[tuple[Size, float], Size]:
        """The canvas to use for each plain one at each scale."""
        scaled = {
            (canvas, scale): scaled_canvas(canvas, scale)
            for canvas in self._groups
            for scale in self.variety.scales
        }
        first, *others = one_if_needed([*scaled.values()])
        return scaled if others else dict.fromkeys(scaled, first)

    def __len__(self) -> int:
        if self.steps is not None:
            return self.steps
        return batch_count(self._groups, self.batch_size, self._repeats)

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
            batch = self._future(self._pool, epoch, index).result()
        self.waited += time.perf_counter() - started
        self._handed.add(index)
        return batch

    def on_epoch_end(self):
        """Go on to the next epoch, if all of this one was handed out.

        Keras calls this also after a first look at the data, before training.
        """
        if len(self._handed) == len(self):
            self.epoch += 1
            self._handed.clear()

    def samples_of(self, index: int, epoch: int = 0) -> np.ndarray:
        """Which samples a batch holds: int64 (B,), indices into the data set, -1 for a blank."""
        return self._plan(epoch)[index][1][1]

    def load(self, epoch: int, index: int) -> Batch:
        """Make a batch here and now; the same arguments always give the same batch."""
        scale, (plain, samples) = self._plan(epoch)[index]
        canvas, short, long = self._scaled[plain, scale], *self._sides(scale)
        mosaics = self.variety.mosaics_in(epoch)
        count = len(self.rows)
        images = np.zeros((count, *canvas, 3), np.uint8)
        sizes = np.zeros((count, 2), np.int32)
        boxes = np.full((count, self.max_boxes, 4), -1, np.float32)
        labels = np.full((count, self.max_boxes), -1, np.int32)
        for slot, row in enumerate(self.rows):
            rng = np.random.default_rng((self.seed, epoch, index * self.batch_size + row))
            if samples[row] == BLANK:
                continue
            made = self._examples.make(int(samples[row]), canvas, short, long, rng, mosaics)
            if made is None:
                continue
            images[slot], sizes[slot], found, names = made
            kept = np.sort(rng.permutation(len(found))[: self.max_boxes])
            boxes[slot, : len(kept)] = found[kept]
            labels[slot, : len(kept)] = names[kept]
        return {"images": images, "sizes": sizes}, {"boxes": boxes, "labels": labels}

    def _sides(self, scale: float) -> Size:
        """Pixels of the short side, and the most of the long side, at a scale."""
        return round(scale * self.short), round(scale * self.long)

    def _plan(self, epoch: int) -> list[tuple[float, Planned]]:
        """Scale, plain canvas and samples of every batch; the last epoch asked for is kept."""
        planned_epoch, plan = self._planned
        if planned_epoch != epoch:
            plan = self._new_plan(epoch)
            self._planned = epoch, plan
        return plan

    def _new_plan(self, epoch: int) -> list[tuple[float, Planned]]:
        if not self.shuffle:
            return [(1.0, each) for each in plan_in_order(self._groups, self.batch_size, len(self))]
        rng = np.random.default_rng((self.seed, epoch))
        plan = plan_shuffled(self._groups, self.batch_size, len(self), rng, self._repeats)
        scales = rng.choice(self.variety.scales, len(plan))
        return list(zip(scales.tolist(), plan, strict=True))

    def _future(self, pool: ThreadPoolExecutor, epoch: int, index: int) -> Future[Batch]:
        """The wanted batch on its way, and those after it started; others are forgotten."""
        count = len(self)
        with self._lock:
            # Out of turn, nothing says what will be asked for next.
            ahead = _AHEAD if index in (0, self._next) else 0
            self._next = index + 1
            wanted = [divmod(epoch * count + index + step, count) for step in range(ahead + 1)]
            if not self.shuffle:  # every epoch is the same
                wanted = [(0, place) for _, place in wanted]
            self._pending = {
                key: self._pending.get(key) or pool.submit(self.load, *key) for key in wanted
            }
            return self._pending.pop((epoch, index))


def one_if_needed(canvases: Sequence[Size]) -> tuple[Size, ...]:
    """On TensorFlow one canvas that holds them all, on the other backends the given ones.

    Keras feeds TensorFlow through a signature taken from two batches, in which sides that differ
    would become unknown, and the network's shapes with them.
    """
    if keras.config.backend() != "tensorflow":
        return tuple(canvases)
    heights, widths = zip(*canvases, strict=True)
    return ((max(heights), max(widths)),)


class FollowEpochs(keras.callbacks.Callback):
    """Make batches those of the epoch that ``fit`` is in, also when it begins at a later one.

    Without it batches count the epochs they were drawn to the end, which starts from 0 on resuming.

    Args:
        batches: what ``fit`` is given.
    """

    def __init__(self, batches: DetectionBatches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        """Set the epoch before Keras asks for its first batch."""
        self.batches.epoch = epoch


def most_boxes(dataset: Dataset) -> int:
    """The largest number of targets of any sample, rounded up to a multiple of 8."""
    most = max((int(trained_on(sample).sum()) for sample in dataset), default=0)
    return max(-(-most // 8) * 8, 8)
