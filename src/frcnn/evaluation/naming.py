"""Names from files in sentences: quoted, printable, not too long nor too many."""

from __future__ import annotations

from frcnn.errors import printable


def shown(name: str) -> str:
    """A name in quotes."""
    return printable(repr(name if len(name) <= 60 else name[:57] + "..."))


def listed(parts: list[str], most: int = 5) -> str:
    """``"a, b and 3 more"``."""
    first = ", ".join(parts[:most])
    return f"{first} and {len(parts) - most} more" if len(parts) > most else first
