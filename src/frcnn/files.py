"""Files from outside: only regular ones are opened, and none of more bytes than was agreed.

Opening a pipe or a device can wait for ever, and a file of a few bytes on the disk can say that it
has a terabyte.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

# What reading a damaged or hostile file can end in, besides the errors of its own format.
DAMAGE = (
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def open_file(path: str | os.PathLike, most: int) -> BinaryIO:
    """Open a file for reading.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be opened, is a pipe or a device, or has more bytes.
    """
    try:
        found = os.stat(path)
    except ValueError:  # a name with a zero in it
        raise FileNotFoundError("no file can have this name") from None
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError("it is a pipe or a device, not a file")
    if found.st_size > most:
        raise OSError(f"it has {found.st_size:,} bytes, more than the limit of {most:,}")
    return open(path, "rb")


def read_file(path: str | os.PathLike, most: int) -> bytes:
    """The whole content of a file; arguments and errors as of ``open_file``."""
    with open_file(path, most) as file:
        # Not to its end: some files of the system say that they are empty, and have none.
        return file.read(os.fstat(file.fileno()).st_size)
