import io

import pytest
from rich.console import Console

from frcnn.apps import progress
from frcnn.apps.progress import counting


@pytest.mark.parametrize(
    ("total", "lines"),
    [
        (
            10,
            [
                "detecting: 3 of 10 in 75 s, about 175 s left",
                "detecting: 6 of 10 in 150 s, about 100 s left",
                "detecting: 9 of 10 in 225 s, about 25 s left",
            ],
        ),
        (None, ["detecting: 3 in 75 s", "detecting: 6 in 150 s", "detecting: 9 in 225 s"]),
    ],
)
def test_off_a_terminal_there_is_a_line_a_minute(monkeypatch, total, lines):
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    output = io.StringIO()
    with counting("detecting", total, Console(file=output, width=20)) as advance:
        for _ in range(10):
            advance()
    assert output.getvalue().splitlines() == lines


def test_on_a_terminal_there_is_a_bar():
    output = io.StringIO()
    with counting("detecting", 2, Console(file=output, force_terminal=True)) as advance:
        advance()
        advance()
    assert "detecting" in output.getvalue() and "2/2" in output.getvalue()
