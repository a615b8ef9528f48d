"""Where progress and reports are printed."""

from __future__ import annotations

import importlib.util

from rich.console import Console


def new_console(stderr: bool = False) -> Console:
    """A console: live on a terminal and in a notebook, line by line elsewhere.

    A notebook without ipywidgets, of which rich makes its live display there, gets lines too.

    Args:
        stderr: print to standard error instead of standard output.
    """
    widgets = importlib.util.find_spec("ipywidgets") is not None
    return Console(stderr=stderr, force_jupyter=None if widgets else False)
