"""The live line of a training, in terminals of two widths."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from frcnn.models.faster_rcnn import LOSSES
from frcnn.training.display import WIDE, Display


@pytest.mark.parametrize("width", [80, WIDE])
def test_the_live_line_fits(width):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None)
    display = Display(console, SimpleNamespace(rows=[]), 16, 100, 999, done=99 * 999)
    display.on_epoch_begin(99)
    display._began -= 4  # seconds
    display.on_train_batch_end(0, {name: 0.25 for name in LOSSES})
    (line,) = console.render_lines(display._progress.get_renderable(), pad=False)
    text = "".join(part.text for part in line)
    assert text.startswith("epoch 100/100 ") and " 98902/99900 " in text and "…" not in text
    assert text.rstrip()[-4:].count(":") >= 1  # the time left
    assert ("rpn_box 0.250" in text) == (width >= WIDE) == ("loss 1.000" not in text)
    assert " images/s" in text
