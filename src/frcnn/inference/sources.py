"""What a user names as pictures -> the picture files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from frcnn.data.images import SUFFIXES
from frcnn.data.lookup import is_picture
from frcnn.errors import UserError


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Picture files among these files and directly in these folders, folders sorted by name.

    Hidden files in a folder are passed over, such as the ``._a.jpg`` that macOS leaves.

    Raises:
        UserError: a path that does not exist, a folder without pictures, no path at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if is_picture(p.name))
            if not inside:
                below = _folder_below(path)
                hint = f"{below} does: name that" if below else "Name a folder that does"
                raise UserError(
                    f"The folder {path} holds no pictures ({', '.join(SUFFIXES)}). "
                    f"{hint}, or the picture files."
                )
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"There is no file or folder {path}. Check the spelling.")
    if not found:
        raise UserError("No pictures were named. Name picture files or folders of them.")
    return found


def _folder_below(folder: Path) -> Path | None:
    """The first folder with pictures that is in this one, or in a folder in it, by name."""
    for pattern in ("*/", "*/*/"):
        for each in sorted(folder.glob(pattern)):
            if each.is_dir() and any(is_picture(file.name) for file in each.iterdir()):
                return each
    return None
