"""Where progress is printed."""

import importlib.util

import pytest

from frcnn.apps import progress
from frcnn.console import new_console


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
    with progress.counting("pictures", 2) as count:
        count()
        count()
    assert not recwarn.list
