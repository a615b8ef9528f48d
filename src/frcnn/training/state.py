"""A training's state in one file, which is there whole or not at all.

A line that names the format, a line of JSON with the notes, then for each array a line of JSON with
its name, type and shape, and its bytes; an empty line, and the SHA-256 of all that. One array is in
memory at a time, as those of a large network with its optimizer are a gigabyte.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frcnn.errors import UserError

_MAGIC = b"frcnn training state 1\n"
_DIGEST = hashlib.sha256().digest_size
_CHUNK = 2**20  # bytes read together
_LINE = 2**24  # bytes; no line is as long


@dataclass(frozen=True)
class Notes:
    """What a state holds beside its arrays.

    Args:
        epoch: epochs finished.
        step: steps finished of the epoch after them.
        parts: in which each step takes its batch.
        best: the highest validation figure so far, or None.
        rows: the history so far.
        data: what tells the training data from others.
    """

    epoch: int
    step: int
    parts: int
    best: float | None
    rows: list[dict[str, float]]
    data: dict[str, Any]


def write_state(path: Path, arrays: Iterable[tuple[str, np.ndarray]], notes: Notes) -> None:
    """Write a state in place of the one that is there.

    That stays until the new one has been read back from the disk.

    Raises:
        OSError: it cannot be written; the state that was there is as it was.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with partial.open("wb") as file:
            digest = hashlib.sha256()
            for part in _parts(arrays, notes):
                file.write(part)
                digest.update(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        _check(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _parts(arrays: Iterable[tuple[str, np.ndarray]], notes: Notes) -> Iterator[bytes | memoryview]:
    yield _MAGIC
    yield _line(asdict(notes))
    for name, array in arrays:
        array = np.asarray(array)
        yield _line({"name": name, "dtype": array.dtype.str, "shape": array.shape})
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    yield b"\n"


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def read_state(path: Path) -> tuple[dict[str, np.ndarray], Notes]:
    """Read what ``write_state`` wrote; nothing in it is run.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    try:
        _check(path)
        with path.open("rb") as file:
            file.readline(_LINE)
            notes = Notes(**json.loads(file.readline(_LINE)))
            return dict(_arrays(file)), notes
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the state of a training: {error}.") from error


def _arrays(file: BinaryIO) -> Iterator[tuple[str, np.ndarray]]:
    while (line := file.readline(_LINE)) != b"\n":
        said = json.loads(line)
        dtype, shape = np.dtype(said["dtype"]), said["shape"]
        data = file.read(math.prod(shape) * dtype.itemsize)
        yield said["name"], np.frombuffer(data, dtype).reshape(shape)


def _check(path: Path) -> None:
    """Raise ``OSError`` for a file that is not, byte for byte, what was written."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise OSError("it does not begin as one does")
        digest = hashlib.sha256(_MAGIC)
        left = os.fstat(file.fileno()).st_size - len(_MAGIC) - _DIGEST
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        if left or file.read() != digest.digest():
            raise OSError("its checksum does not agree")
