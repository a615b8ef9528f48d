"""What the preset of a training makes of the data, said before it begins."""

from __future__ import annotations

from frcnn.data.anchor_fit import Anchors
from frcnn.data.audit import brief
from frcnn.data.object_sizes import Working
from frcnn.data.resizing import long_side
from frcnn.models.rpn import AnchorGrid
from frcnn.training.splits import Splits
from frcnn.zoo.presets import build_network, preset

FEW_STEPS, ENOUGH_STEPS = 200, 500  # of a training; docs/recipes.md has what more of them buy


def few_steps(epochs: int, steps: int) -> str | None:
    """A sentence where so many epochs of so many steps are few for a detector, else None."""
    if epochs * steps >= FEW_STEPS:
        return None
    enough = -(-ENOUGH_STEPS // steps)
    return (
        f"{epochs} epochs of {steps} are {epochs * steps} steps, few for a detector: "
        f"--epochs {enough} makes {enough * steps}, which usually find more."
    )


def working_of(name: str, size: int | None, grid: AnchorGrid | None = None) -> Working:
    """The training size and the anchors of a preset.

    Args:
        name: of the preset.
        size: pixels of the short side; None for the preset's.
        grid: the anchors, if a network was built already.

    Raises:
        UserError: there is no such preset.
    """
    short = size or preset(name).size
    found: AnchorGrid = build_network(name, 1).rpn.anchors if grid is None else grid
    anchors = Anchors(found.strides, found.sizes, found.ratios, found.offset, found.rounded)
    return Working(name, short, long_side(short), anchors)


def warnings_of(splits: Splits, working: Working) -> list[str]:
    """Up to four sentences on data that will train badly."""
    held = {} if splits.validation is None else {"val": splits.validation}
    return brief({"train": splits.train, **held}, working)
