"""Which files are the same, under whatever name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from frcnn.data.images import MAX_BYTES
from frcnn.files import open_file

_BLOCK = 1 << 20  # bytes


def same_files(files: Sequence[Path], others: Iterable[Path]) -> list[int]:
    """Which files are among others, or have the same bytes as one of them.

    Only files of equal length are read. Those that cannot be read are the same as no other.

    Args:
        files: the files asked about.
        others: those they are compared with.

    Returns:
        indices into ``files``, ascending.
    """
    others = list(others)
    places = {os.path.realpath(other) for other in others}
    by_length: dict[int, list[Path]] = {}
    for other in others:
        by_length.setdefault(_length(other), []).append(other)
    digests: dict[int, set[bytes]] = {}
    found = []
    for index, file in enumerate(files):
        length = _length(file)
        if os.path.realpath(file) in places:
            found.append(index)
        elif length >= 0 and length in by_length:
            if length not in digests:
                digests[length] = {_digest(other) for other in by_length[length]} - {b""}
            if _digest(file) in digests[length]:
                found.append(index)
    return found


def _length(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):  # a name that no file can have
        return -1


def _digest(file: Path) -> bytes:
    """Of the bytes; none if they cannot be read."""
    try:
        with open_file(file, MAX_BYTES) as stream:
            digest = hashlib.sha256()
            while block := stream.read(_BLOCK):
                digest.update(block)
            return digest.digest()
    except OSError:
        return b""
