"""HTML from values: whatever comes from files is escaped here."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from frcnn.errors import printable

_LONGEST = 500  # characters of a text


def text(value: object) -> str:
    """A value as a text between tags or in an attribute."""
    shown = printable(str(value))
    shown = shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "..."
    return html.escape(shown)


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]], texts: Iterable[int] = (0,)) -> str:
    """A table; numbers are written as ``figure`` does.

    Args:
        titles: of the columns.
        rows: their cells: texts, whole numbers, floats.
        texts: the columns that hold texts.
    """
    left = set(texts)

    def cell(tag: str, column: int, value: Any) -> str:
        shown = f"{value:,}" if isinstance(value, int) else value
        shown = figure(shown) if isinstance(shown, float) else "-" if shown is None else shown
        kind = ' class="text"' if column in left else ""
        return f"<{tag}{kind}>{text(shown)}</{tag}>"

    head = "".join(cell("th", column, title) for column, title in enumerate(titles))
    body = "".join(
        "<tr>" + "".join(cell("td", column, value) for column, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def embedded(value: Any) -> str:
    """JSON for a script element: no text in it can end the element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
