"""What commands say and write."""

from __future__ import annotations

import json
import os
from pathlib import Path

from frcnn.errors import UserError


def speaks() -> bool:
    """Whether this process reports, of those that torchrun may have started together."""
    return os.environ.get("RANK", "0") == "0"


def write_json(path: str, value) -> None:
    """Write a value as JSON; a file that cannot be written is a user's mistake."""
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
