"""The errors that are the user's to mend, and text that is safe to show."""

from __future__ import annotations

import errno
import re

# Control characters steer a terminal; the line and paragraph separators and those that turn the
# direction of writing disguise a text; halves of surrogate pairs cannot be written at all.
_UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST = 20_000  # characters of a message
# A disk that is full, not to be written to, or broken.
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class UserError(ValueError):
    """Something given cannot be used; the message names it and says what to do.

    The command line shows the message alone and exits with status 2; every other exception is a
    fault of the program and keeps its traceback. A message often has names and texts in it that
    come from files, so it is made ``printable``, and cut where it is endless.
    """

    def __init__(self, message: str):
        message = printable(message)
        super().__init__(message if len(message) <= _MOST else f"{message[:_MOST]}...")


def printable(text: str) -> str:
    """The text on one line, with escapes such as ``\\x1b`` for what must not reach a terminal."""
    if text.isprintable():
        return text
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


def disk_reason(error: OSError) -> str | None:
    """What a file system refused, with the file if the error names it; None for other errors.

    An error in opening a file names it; one in writing, as on a full disk, does not.
    """
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return error.strerror if error.errno in _OF_DISKS else None
