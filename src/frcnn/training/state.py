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
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frcnn.errors import UserError
from frcnn.files import open_file

_MAGIC = b"frcnn training state 1\n"
_DIGEST = hashlib.sha256().digest_size
_CHUNK = 2**20  # bytes read together
_LINE = 2**24  # bytes; no line is as long
_MOST_BYTES = 2**40
_NUMBERS = re.compile(r"[<>|][biuf][1248]")  # of the types, those that may be read


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
        with open_file(path, _MOST_BYTES) as file:
            file.readline(_LINE)
            notes = _notes(json.loads(file.readline(_LINE)))
            return dict(_arrays(file, path.stat().st_size)), notes
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is not the state of a training: {error}.") from error


def _notes(said: dict[str, Any]) -> Notes:
    """The notes of a line of JSON, all of their types."""
    notes = Notes(**said)
    sound = (
        all(type(each) is int for each in (notes.epoch, notes.step, notes.parts))
        and min(notes.epoch, notes.step, notes.parts - 1) >= 0
        and (notes.best is None or isinstance(notes.best, (int, float)))
        and isinstance(notes.data, dict)
        and isinstance(notes.rows, list)
        and all(isinstance(row, dict) for row in notes.rows)
    )
    if not sound:
        raise ValueError("its notes are of other types")
    return notes


def _arrays(file: BinaryIO, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays, by name, of a file of so many bytes."""
    while (line := file.readline(_LINE)) != b"\n":
        said = json.loads(line)
        name, kind, shape = str(said["name"]), str(said["dtype"]), said["shape"]
        if not _NUMBERS.fullmatch(kind):
            raise ValueError(f"its array {name!r:.100} is of {kind!r:.100} instead of numbers")
        dtype = np.dtype(kind)
        length = math.prod(shape) * dtype.itemsize
        if not 0 <= length <= size - file.tell():
            raise ValueError(f"its array {name!r:.100} of shape {shape} is not in it")
        yield name, np.frombuffer(file.read(length), dtype).reshape(shape)


def _check(path: Path) -> None:
    """Raise ``OSError`` for a file that is not, byte for byte, what was written."""
    with open_file(path, _MOST_BYTES) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise OSError("it does not begin as one does")
        digest = hashlib.sha256(_MAGIC)
        left = os.fstat(file.fileno()).st_size - len(_MAGIC) - _DIGEST
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        if left or file.read() != digest.digest():
            raise OSError("its checksum does not agree")
