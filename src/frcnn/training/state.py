"""A training's state in one file, which is there whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import UserError

_MAGIC = b"frcnn training state 1\n"
_DIGEST = 64  # hexadecimal digits of SHA-256
_NOTES = "notes"  # the array that holds them


@dataclass(frozen=True)
class Notes:
    """What a state holds beside its arrays.

    Args:
        epoch: epochs finished.
        step: steps finished of the epoch after them.
        best: the highest validation figure so far, or None.
        rows: the history so far.
        data: what tells the training data from others.
    """

    epoch: int
    step: int
    best: float | None
    rows: list[dict[str, float]]
    data: dict[str, Any]


def write_state(path: Path, arrays: Mapping[str, np.ndarray], notes: Notes) -> None:
    """Write a state in place of the one that is there.

    That stays until the new one has been read back from the disk, byte for byte.

    Raises:
        OSError: it cannot be written; the state that was there is as it was.
    """
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(asdict(notes)).encode(), np.uint8)
    np.savez(buffer, **{_NOTES: text}, **arrays)  # type: ignore[arg-type]
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).hexdigest().encode()
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with partial.open("wb") as file:
            for part in (_MAGIC, digest, payload):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        _payload(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_state(path: Path) -> tuple[dict[str, np.ndarray], Notes]:
    """Read what ``write_state`` wrote; nothing in it is run.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    try:
        with np.load(io.BytesIO(_payload(path)), allow_pickle=False) as archive:
            arrays = dict(archive)
        return arrays, Notes(**json.loads(arrays.pop(_NOTES).tobytes()))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the state of a training: {error}.") from error


def _payload(path: Path) -> bytes:
    data = path.read_bytes()
    start = len(_MAGIC) + _DIGEST
    if not data.startswith(_MAGIC):
        raise OSError("it does not begin as one does")
    payload = data[start:]
    if hashlib.sha256(payload).hexdigest().encode() != data[len(_MAGIC) : start]:
        raise OSError("its checksum does not agree")
    return payload
