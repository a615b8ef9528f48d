"""The page: files that stand beside this one, complete in themselves."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "static"
_INDEX = "page.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def media_type(file: Path) -> str:
    """What a browser is told that a file is."""
    return f"{_TYPES[file.suffix]}; charset=utf-8"


# Where each file is found.
PAGE = {
    "/" if file.name == _INDEX else f"/{file.name}": file
    for file in sorted(_FOLDER.iterdir())
    if file.suffix in _TYPES
}
