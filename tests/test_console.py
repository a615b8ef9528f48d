"""Where progress is printed."""

import importlib.util
import io

import pytest
from rich.console import Console

from frcnn import console
from frcnn.console import counting, new_console


@pytest.fixture(params=[False, True], ids=["plain", "widgets"])
def widgets(request, monkeypatch):
    """A notebook, with ipywidgets installed or not."""
    find = importlib.util.find_spec

    def found(name):
        return request.param or None if name == "ipywidgets" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    return request.param


def test_a_notebook_is_live_where_it_can_be(widgets):
    assert new_console().is_jupyter == widgets


@pytest.mark.parametrize("widgets", [False], indirect=True)
def test_a_notebook_without_widgets_is_not_asked_to_install_them(widgets, recwarn):
    with counting("pictures", 2) as count:
        count()
        count()
    assert not recwarn.list


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
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
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
