"""Files that mean harm, and a fence round the tests that read them."""

from __future__ import annotations

import os
import resource
import signal
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from frcnn.data.dataset import Dataset
from frcnn.data.writing import write_dataset
from frcnn.errors import printable
from frcnn.structures import Sample

NAME = "\x1b[31mred\x9b2J\u202eback\n"  # colours, clears the screen, turns the writing, ends a line


@contextmanager
def fenced(seconds: int = 20, megabytes: int = 1500) -> Iterator[None]:
    """Fail what takes longer than so many seconds, or so much memory more than there is in use."""

    def late(*_):
        raise TimeoutError(f"it took more than {seconds} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (4096 * pages + (megabytes << 20), hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def assert_sentence(error: object, length: int = 1200) -> str:
    """One line that a terminal shows as it is."""
    text = str(error)
    assert text == printable(text) and 0 < len(text) <= length
    return text


def pipe(path: Path) -> None:
    """A pipe that nobody writes to: who opens it waits."""
    os.mkfifo(path)


def device(path: Path) -> None:
    """A file without an end."""
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    """A folder of a file's name."""
    path.mkdir()


def sparse(path: Path) -> None:
    """A file of eight terabytes that takes no place on the disk."""
    with path.open("wb") as file:
        file.truncate(1 << 43)


# What may lie where a file is expected.
NO_FILES = {each.__name__: each for each in (pipe, device, loop, folder, sparse)}


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A black PNG, with chunks before and after its pixels."""
    pixels = zlib.compress((b"\0" + bytes(width)) * height, 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    parts = (header, before, chunk(b"IDAT", pixels), after, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def animated_png(frames: int) -> bytes:
    """A PNG of several frames; the first of them is the picture."""
    start = chunk(b"acTL", struct.pack(">II", frames, 0)) + frame(0)
    pixels = zlib.compress((b"\0" + b"\xff" * 64) * 48)
    rest = b"".join(
        frame(2 * number - 1) + chunk(b"fdAT", struct.pack(">I", 2 * number) + pixels)
        for number in range(1, frames)
    )
    return png(64, 48, start, rest)


def frame(number: int) -> bytes:
    """The head of a frame."""
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 64, 48, 0, 0, 1, 10, 0, 0))


def jpeg_of_scans(count: int, size: tuple[int, int] = (48, 64)) -> bytes:
    """A progressive JPEG that refines its pixels over and over, with a few bytes each time."""
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    data = cv2.imencode(".jpg", np.zeros((*size, 3), np.uint8), options)[1].tobytes()
    last = data.rfind(b"\xff\xda")
    return data[:-2] + (count - data.count(b"\xff\xda")) * data[last:-2] + data[-2:]


def tiff(tags: Iterable[tuple[int, int, int]]) -> bytes:
    """A TIFF of one directory: (tag, kind, value) each."""
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def two_pictures(folder: Path, format: str) -> Path:
    """A data set of the pictures a.png and b.png in one of the formats that are written."""
    source = folder / "source"
    source.mkdir()
    samples = []
    for name in "ab":
        (source / f"{name}.png").write_bytes(png(64, 48))
        boxes = [[1, 2, 30, 40], [5, 6, 20, 21]]
        samples.append(Sample(source / f"{name}.png", np.array(boxes), np.array([0, 1])))
    dataset = Dataset(tuple(samples), ("cat", "dog"), source)
    return write_dataset(dataset, folder / format, format).folder  # type: ignore[arg-type]


# The files of such data sets that are read before any picture.
LABELS = {
    "voc": ("Annotations/b.xml", "ImageSets/Main/train.txt"),
    "coco": ("annotations/instances_train.json",),
    "yolo": ("data.yaml", "labels/train/b.txt"),
    "csv": ("train.csv",),
}
