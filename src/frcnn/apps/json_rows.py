"""Rows of JSON, written one by one as they come: what is done when the work is cut off stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from frcnn.errors import UserError

Note = Callable[[dict], None]


@contextmanager
def open_rows(file: str | Path, before: str = "[", after: str = "]") -> Iterator[Note]:
    """A function that takes a row; the file is whole JSON when it is closed.

    Args:
        file: what is written; its folder is made.
        before: what the file has before the first row, a list's bracket at the end.
        after: what it has after the last one.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(file)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("w", encoding="utf-8")
        opened.write(before)
    between = "\n"

    def note(row: dict) -> None:
        nonlocal between
        with _named(path):
            opened.write(between + json.dumps(row))
        between = ",\n"

    try:
        yield note
    finally:
        with _named(path), opened:
            opened.write(f"\n{after}\n")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file the disk has a complaint about."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
