"""A counter that people see while something long goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frcnn.console import new_console


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show ``what`` with a bar on standard error; gives a function to call after each item.

    Args:
        what: goes on.
        total: items; None: unknown.
    """
    progress = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=new_console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
