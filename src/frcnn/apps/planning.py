"""What ``frcnn plan`` prints: the memory of training steps by their images."""

from __future__ import annotations

from rich import print as show
from rich.table import Table

from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.plan import USED, Room, gibibytes, measure_step
from frcnn.training.train import STRIDE
from frcnn.zoo.presets import build_network, preset

_SLOTS = 32  # ground-truth boxes an image, of which memory hardly depends


def print_plan(name: str, size: int | None, batch: int, classes: int, remat: bool) -> None:
    """Print what steps of 1, 2, 4, ... ``batch`` images take of the memory there is.

    Args:
        name: the preset.
        size: pixels of the short side, or None for the preset's; the long side is 4/3 of it.
        batch: the most images.
        classes: how many.
        remat: as of ``FasterRCNN``.

    Raises:
        UserError: no such preset; memory does not suffice to measure.
    """
    short = size or preset(name).size
    height, width = (-(-round(side) // STRIDE) * STRIDE for side in (short, short * 4 / 3))
    room = Room.now()

    def build() -> FasterRCNN:
        network = build_network(name, classes)
        network.remat = remat
        return network

    kind = name, classes, None, None, remat
    memory = measure_step(build, (height, width), _SLOTS, batch, kind)
    title = f"{name}, {classes} classes, {width}x{height} pixels" + ", maps made again" * remat
    table = Table(title=title)
    for title in ("images a step", "memory", "fits"):
        table.add_column(title, justify="right")
    counts = sorted({*(2**power for power in range(batch.bit_length())), batch})
    most = USED * room.limit
    otherwise = "in parts" if room.used + memory.of(1) <= most else "no"
    for images in counts:
        peak = room.used + memory.of(images)
        table.add_row(str(images), gibibytes(peak), "yes" if peak <= most else otherwise)
    show(table)
    print(f"There is {gibibytes(room.limit)}, of which training uses {USED:.0%} at most.")
