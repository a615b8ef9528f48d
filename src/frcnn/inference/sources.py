"""What a user names as pictures -> the picture files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from frcnn.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Picture files among these files and directly in these folders, folders sorted by name.

    Raises:
        UserError: a path that does not exist, a folder without pictures, no path at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(
                    f"The folder {path} holds no pictures ({', '.join(SUFFIXES)}). "
                    "Name a folder that does, or the picture files."
                )
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"There is no file or folder {path}. Check the spelling.")
    if not found:
        raise UserError("No pictures were named. Name picture files or folders of them.")
    return found
