"""What commands say and write."""

from __future__ import annotations

import json
import os
from pathlib import Path

from frcnn.errors import UserError


def speaks() -> bool:
    """Whether this process reports, of those that torchrun may have started together."""
    return os.environ.get("RANK", "0") == "0"


def check_json(path: str | None, *inputs: str) -> None:
    """Refuse a file for JSON that cannot be written, or that is likely another by mistake.

    Args:
        path: the file; None is no mistake.
        inputs: what the command reads, of which none may be overwritten.

    Raises:
        UserError: it is a folder, one of the inputs, or named as a picture, a video or a table.
    """
    if path is None:
        return
    from frcnn.data.images import SUFFIXES
    from frcnn.inference import video

    if os.path.isdir(path):
        raise UserError(f"--json names the file to write. {path} is a folder.")
    other = (*SUFFIXES, *video.SUFFIXES, ".parquet")
    if any(Path(each).suffix.lower() in other for each in (path, os.path.realpath(path))):
        raise UserError(
            f"--json names the file to write, which should end in .json. Received: {path}."
        )
    for each in inputs:
        if os.path.exists(path) and os.path.exists(each) and os.path.samefile(path, each):
            raise UserError(f"--json would overwrite {each}, which is read: name another file.")


def write_json(path: str, value) -> None:
    """Write a value as JSON; a file that cannot be written is a user's mistake."""
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
