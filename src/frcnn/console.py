"""Where progress and reports are printed."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 60.0  # seconds between lines where there is no terminal


def new_console(stderr: bool = False) -> Console:
    """A console: live on a terminal and in a notebook, line by line elsewhere.

    A notebook without ipywidgets, of which rich makes its live display there, gets lines too.

    Args:
        stderr: print to standard error instead of standard output.
    """
    widgets = importlib.util.find_spec("ipywidgets") is not None
    return Console(stderr=stderr, force_jupyter=None if widgets else False)


def say(console: Console, text: object) -> None:
    """Print a sentence as it is, neither coloured, nor taken for markup, nor broken into lines."""
    console.print(str(text), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def counting(
    what: str, total: int | None, console: Console | None = None
) -> Iterator[Callable[[], None]]:
    """Show ``what`` with a bar, off a terminal a line a minute; gives what to call after each item.

    Args:
        what: goes on.
        total: items; None: unknown.
        console: where; standard error if left out.
    """
    console = console or new_console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total, console)
        return
    progress = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _lines(what: str, total: int | None, console: Console) -> Callable[[], None]:
    began = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if now - said < _EVERY:
            return
        said = now
        text = f"{what}: {done} in {now - began:.0f} s"
        if total is not None:
            left = (now - began) / done * max(total - done, 0)
            text = f"{what}: {done} of {total} in {now - began:.0f} s, about {left:.0f} s left"
        say(console, text)

    return advance
