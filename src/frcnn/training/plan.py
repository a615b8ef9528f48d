"""How a training step is made to fit into memory, before the first one is made.

A step is measured with one image and with a few, on a network that is then thrown away: what it
takes grows by the same amount with each image. Measurements are kept, as a step of the same kind
takes the same again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from frcnn.errors import UserError
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.device_memory import on_gpu
from frcnn.training.memory import (
    PeakMemory,
    give_back,
    is_out_of_memory,
    memory_in_use,
    memory_limit,
    out_of_memory_reason,
)
from frcnn.training.optimizer import SGD
from frcnn.zoo.download import cache_folder

# Share of the memory there is that a plan makes use of: pictures, validation and what the
# system needs take the rest.
USED = 0.9
# Steps until one takes what all take: the first makes the gradients, and on a GPU PyTorch records
# the fourth.
STEPS, STEPS_ON_GPU = 2, 5
FEW = 4  # images that are measured together, at most


@dataclass(frozen=True)
class StepMemory:
    """What training steps take beyond what is in use without a network, in bytes.

    Args:
        one: of one image.
        each: of each image more.
        weights: the size of the weights that train.
    """

    one: int
    each: int
    weights: int

    def with_copies(self, count: int) -> StepMemory:
        """The same with so many copies of the weights beside them."""
        return replace(self, one=self.one + count * self.weights)

    def of(self, images: int, parts: int = 1) -> int:
        """Of a step of ``images`` images taken in ``parts`` equal parts."""
        taken = self.one + (images // parts - 1) * self.each
        # PyTorch sums the gradients where they are, the others beside those of a part.
        apart = parts > 1 and keras.config.backend() != "torch"
        return taken + apart * self.weights


@dataclass(frozen=True)
class Plan:
    """What a training is going to take.

    Args:
        images: a step.
        parts: in which each step takes its images.
        peak: bytes in use at most; of the GPU, or of this process.
        whole: what that would be in one part.
        limit: bytes there are.
    """

    images: int
    parts: int
    peak: int
    whole: int
    limit: int

    def __str__(self) -> str:
        there = f"{gibibytes(self.limit)} there is"
        if self.parts == 1:
            return f"Memory: {gibibytes(self.peak)} of the {there}."
        return (
            f"Memory: steps of {self.images} images would take {gibibytes(self.whole)} of the "
            f"{there}. Each is taken in {self.parts} parts of {self.images // self.parts}, whose "
            f"gradients are averaged: {gibibytes(self.peak)}."
        )


@dataclass(frozen=True)
class Room:
    """The memory of a moment, in bytes.

    Args:
        used: by this process.
        limit: there is, that included.
    """

    used: int
    limit: int

    @classmethod
    def now(cls) -> Room:
        """What there is; to be asked before steps are measured, which leave some in use."""
        give_back()
        return cls(memory_in_use(), memory_limit())


def plan_steps(memory: StepMemory, images: int, room: Room) -> Plan:
    """The fewest parts of a step that fit into memory.

    Raises:
        UserError: not even single images fit.
    """
    used, limit = room.used, room.limit
    whole = used + memory.of(images)
    for parts in range(1, images + 1):
        if images % parts == 0 and used + memory.of(images, parts) <= USED * limit:
            return Plan(images, parts, used + memory.of(images, parts), whole, limit)
    raise UserError(
        f"A training step of a single image takes {gibibytes(used + memory.of(1))} of memory, and "
        f"there is {gibibytes(limit)}, of which {USED:.0%} may be used. Train with a smaller "
        "--size, with a smaller preset (`frcnn presets`, `frcnn plan PRESET`), or with --remat, "
        "which takes less memory and more time."
    )


def measure_step(
    build: Callable[[], FasterRCNN],
    canvas: tuple[int, int],
    slots: int,
    images: int,
    kind: Iterable[object],
) -> StepMemory:
    """Measure the steps of a network, unless that was done before.

    Args:
        build: makes it.
        canvas: height and width of the images.
        slots: ground-truth boxes an image.
        images: that a step is going to have, if they fit.
        kind: what, beside these and the versions in use, the memory depends on.

    Raises:
        UserError: memory does not suffice.
    """
    backend = keras.config.backend()
    versions = [version("frcnn"), keras.__version__, sys.modules[backend].__version__]
    policy = keras.config.dtype_policy().name
    few = min(max(images, 2), FEW)
    device = "gpu" if on_gpu() else "cpu"
    key = " ".join(map(str, [backend, device, *versions, policy, *canvas, slots, few, *kind]))
    kept = _read_kept()
    if key in kept:
        return StepMemory(*kept[key])
    step, measured = _measured(build, canvas, slots, few)
    if measured == few:  # with more memory another time there is more to measure
        _write_kept({**kept, key: astuple(step)})
    return step


def _measured(build, canvas: tuple[int, int], slots: int, few: int) -> tuple[StepMemory, int]:
    """Measure one image and ``few``, or as many as fit; the number of these."""
    give_back()  # or steps would be made of what is freed already
    used, limit = memory_in_use(), memory_limit()
    try:
        network = build()
        network.compile(SGD(0.0, momentum=0.9, global_clipnorm=1.0))
        one = max(_peak(network, 1, canvas, slots) - used, 1)
        # What may not fit is not tried: a system that runs out of memory ends the process.
        few = max(min(few, int(USED * limit - used) // one), 1)
        each = one
        if few > 1:
            each = max(_peak(network, few, canvas, slots) - used - one, 0) // (few - 1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"Memory ({gibibytes(memory_limit())}) does not suffice for training steps of few "
            f"images of {canvas[1]}x{canvas[0]} pixels: {out_of_memory_reason(error)}. Train with "
            "a smaller --size or preset, or with --remat."
        ) from error
    weights = sum(int(np.prod(part.shape)) for part in network.trainable_variables) * 4
    del network
    give_back()
    return StepMemory(one, each, weights), few


def _peak(network: FasterRCNN, images: int, canvas: tuple[int, int], slots: int) -> int:
    rng = np.random.default_rng(0)
    boxes = np.full((images, slots, 4), -1, np.float32)
    boxes[:, 0] = 0, 0, canvas[1] / 2, canvas[0] / 2
    labels = np.full((images, slots), -1, np.int32)
    labels[:, 0] = 0
    x = {
        "images": rng.integers(0, 255, (images, *canvas, 3), np.uint8),
        "sizes": np.tile(np.array(canvas, np.int32), (images, 1)),
    }
    give_back()  # what steps of fewer images left
    with PeakMemory() as peak:
        for _ in range(STEPS_ON_GPU if on_gpu() else STEPS):
            network.train_on_batch(x, {"boxes": boxes, "labels": labels})
    return peak.bytes


def _kept() -> Path:
    return cache_folder() / "step-memory.json"


def _read_kept() -> dict[str, tuple[int, int, int]]:
    """Measurements by kind; a file that is missing or damaged holds none."""
    try:
        kept = json.loads(_kept().read_text("utf-8"))
        return {
            str(key): (int(one), int(each), int(rest)) for key, (one, each, rest) in kept.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _write_kept(kept: dict[str, tuple[int, int, int]]) -> None:
    partial = _kept().with_suffix(".partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(kept, indent=1), "utf-8")
        partial.replace(_kept())
    except OSError:  # it is measured again, then
        partial.unlink(missing_ok=True)


def gibibytes(size: int) -> str:
    """A size in bytes, for reading."""
    return f"{size / 2**30:.2f} GiB"
