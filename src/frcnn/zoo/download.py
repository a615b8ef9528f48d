"""Fetch a file over HTTPS once, check it, and keep it."""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from frcnn.console import new_console
from frcnn.errors import UserError

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
MOST_BYTES = 1 << 34  # of a file; one whose length is not announced is ended there
_OWN_MACHINE = {"localhost", "127.0.0.1", "::1"}


def cache_folder() -> Path:
    """Where fetched files are kept.

    It is ``FRCNN_CACHE``, else ``frcnn`` below ``XDG_CACHE_HOME``, else ``~/.cache/frcnn``.
    """
    if own := os.environ.get("FRCNN_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "frcnn"


def fetch(
    address: str,
    name: str | None = None,
    digest: str | None = None,
    folder: str | Path | None = None,
) -> Path:
    """The file of this address: the one fetched before, else downloaded now.

    A file that lies in the folder under the right name is taken as it is if its checksum agrees,
    whoever put it there. A download appears under that name whole and checked, or not at all,
    also if several processes fetch it at once.

    Args:
        address: begins with https://; http:// is for servers on this machine only.
        name: the file's name in the folder; the last part of the address if left out.
        digest: the SHA-256 checksum in hexadecimal, or the first eight or more of its digits, as
            PyTorch writes them into its file names; ``md5:`` and 32 digits for an MD5 checksum.
        folder: where the file is kept; ``cache_folder()`` if left out.

    Raises:
        UserError: the file cannot be downloaded, written, or is not the one of the checksum.
        ValueError: the address, name or digest is malformed.
    """
    _check_address(address)
    check = None if digest is None else _Checksum(digest)
    name = unquote(PurePosixPath(urlsplit(address).path).name) if name is None else name
    if name in ("", ".", "..") or set(name) & set("/\\:\0"):
        raise ValueError(f"Expected `name` to be a file name without folders. Received: {name!r}.")
    target = Path(cache_folder() if folder is None else folder) / name
    stale = ""
    try:
        if target.is_file():
            found = None if check is None else check.of(target)
            if check is None or found == check.digits:
                return target
            stale = f" in place of the file there, whose checksum begins with {found}"
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(address, target, check)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{address} could not be downloaded: {' '.join(_reason(error).split())}. "
            f"Try again, or fetch it by other means and put it at {target}{stale}."
        ) from error
    return target


class _Checksum:
    """The leading digits of a file's checksum, as its publisher gives them."""

    def __init__(self, digest: str):
        algorithm, _, digits = digest.lower().rpartition(":")
        self.algorithm = algorithm or "sha256"
        self.digits = digits
        shortest = {"sha256": 8, "md5": 32}.get(self.algorithm)
        if shortest is None or not shortest <= len(digits) <= len(self.new().hexdigest()):
            raise ValueError(f"Expected 8 to 64 digits of SHA-256, or md5: and 32. Got {digest!r}.")
        if set(digits) - set("0123456789abcdef"):
            raise ValueError(f"Expected `digest` in hexadecimal digits. Received: {digest!r}.")

    def new(self):
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def of(self, path: Path) -> str:
        """As many digits of the file's checksum."""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, self.new)
        return self.short(found)

    def short(self, found) -> str:
        return found.hexdigest()[: len(self.digits)]


def _download(address: str, target: Path, check: _Checksum | None):
    """Write the whole file under a name of its own, then give it the right one."""
    request = urllib.request.Request(address, headers={"User-Agent": "frcnn"})
    # Each download writes a file of its own, so that two never share one.
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with _opener().open(request, timeout=TIMEOUT) as answer, partial.open("xb") as file:
            found = _copy(answer, file, target, hashlib.sha256() if check is None else check.new())
            file.flush()
            os.fsync(file.fileno())
        if check is not None and check.short(found) != check.digits:
            raise UserError(
                f"{address} is not the file that was expected: its {check.algorithm} checksum "
                f"begins with {check.short(found)} instead of {check.digits}; nothing was kept."
            )
        partial.replace(target)
    except BaseException:  # an interrupt as well: nothing half done stays
        with suppress(FileNotFoundError):
            partial.unlink()
        raise


def _copy(answer, file: BinaryIO, target: Path, found):
    """Copy an answer's body to the file, and its bytes to the checksum."""
    length = answer.headers.get("Content-Length")
    total = int(length) if length and length.isdecimal() else None
    free = shutil.disk_usage(target.parent).free
    if total is not None and total > free:
        raise OSError(f"it has {total:,} bytes, and the disk has room for {free:,}")
    done = 0
    with _shown(target.name, total) as advance:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            found.update(chunk)
            done += len(chunk)
            if done > MOST_BYTES:
                raise OSError(f"it has more than {MOST_BYTES:,} bytes, as no weights do")
            advance(len(chunk))
    if total is not None and done != total:
        raise OSError(f"the connection ended after {done:,} of {total:,} bytes")
    return found


@contextmanager
def _shown(name: str, total: int | None) -> Iterator:
    """A bar on standard error with the bytes and the speed; gives a function of bytes more."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=new_console(stderr=True),
    )
    with progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.advance(task, count)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to encrypted addresses; from this machine's servers also to its own."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not (_is_encrypted(newurl) or (_is_own(req.full_url) and _is_own(newurl))):
            fp.close()
            raise OSError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str):
    if not (_is_encrypted(address) or _is_own(address)):
        raise ValueError(f"Expected `address` to begin with https://. Received: {address!r}.")


def _is_encrypted(address: str) -> bool:
    return urlsplit(address).scheme == "https"


def _is_own(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname in _OWN_MACHINE


def _reason(error: BaseException) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it is the answer as well, and holds the connection
        return f"the server answered {error.code} {error.reason}".rstrip()
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return _reason(error.reason)
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} seconds"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the file did"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
