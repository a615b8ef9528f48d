"""Reading pictures as RGB arrays, within a limit on their size."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import cv2
import numpy as np

from frcnn.data.faults import ImageError, Kind
from frcnn.data.headers import (
    Buffer,
    HeaderError,
    check_chunks,
    read_size,
    sample_bits,
    webp_orientation,
)
from frcnn.data.resizing import Size, reduction
from frcnn.files import open_file, read_file

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp")

# A small file can unpack into gigabytes; the header tells before any memory is taken.
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30  # of a file; so many pixels of 16 bits take less, unpacked

_JPEG = b"\xff\xd8\xff"
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# What OpenCV 4 leaves of a WebP's EXIF orientation, to be flipped as ``cv2.flip`` does: rows and
# columns exchanged or not, then around this axis.
_TURNS = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}
_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def image_size(path: str | os.PathLike, most: int = MAX_PIXELS) -> tuple[int, int]:
    """Read the (height, width) in pixels that ``read_image`` would give, without decoding.

    Args:
        path: of the picture.
        most: pixels that it may have.

    Raises:
        ImageError: a file that is missing, empty, truncated, too large or not a picture.
    """
    path = _picture_file(path)
    try:
        with open_file(path, MAX_BYTES) as file:
            if not os.fstat(file.fileno()).st_size:
                return _checked_size(path, b"", most)  # an empty file cannot be mapped
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _checked_size(path, data, most)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_image(path: str | os.PathLike, most: int = MAX_PIXELS) -> np.ndarray:
    """Decode a picture, whatever its depth and channels.

    Grey, palette, 16-bit and transparent pictures all become three 8-bit channels (16 bits are
    divided by 256, whatever part of their range is used); an EXIF orientation is applied.

    Args:
        path: of the picture.
        most: pixels that it may have.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ImageError: a file that is missing, empty, truncated, too large or not a picture.
    """
    path, data = _read(path)
    return _decode(path, data, _checked_size(path, data, most), 1)


def read_reduced(
    path: str | os.PathLike, short: int, long: int, zoom: float = 1.0
) -> tuple[np.ndarray, int]:
    """As ``read_image``, but no larger than it has to be for resizing.

    A JPEG file far larger than that is decoded at a half, a quarter or an eighth of its size in
    half the time, each pixel being the mean of those it stands for, save for a few levels.

    Args:
        path: of the picture.
        short: pixels of the short side after resizing.
        long: most pixels of the long side after resizing.
        zoom: how much larger than that some of it may be shown.

    Returns:
        uint8 (H, W, 3), RGB, and by how much both sides were divided.

    Raises:
        ImageError: as ``read_image``.
    """
    path, data = _read(path)
    return decode_reduced(data, path, short, long, zoom)


def decode_reduced(
    data: bytes, name: str | os.PathLike, short: int, long: int, zoom: float = 1.0
) -> tuple[np.ndarray, int]:
    """As ``read_reduced``, of a file's bytes; ``name`` is what an error calls it."""
    path = Path(name)
    size = _checked_size(path, data)
    by = reduction(size, short, long, zoom) if data.startswith(_JPEG) else 1
    return _decode(path, data, size, by), by


def read_grey(path: str | os.PathLike, least: int) -> np.ndarray:
    """Decode a picture to look at as a whole: grey, and a JPEG file reduced as far as may be.

    Args:
        path: of the picture.
        least: pixels that its short side keeps, if it has as many.

    Returns:
        uint8 (H, W), its sides those of ``read_image`` over 1, 2, 4 or 8.

    Raises:
        ImageError: as ``read_image``.
    """
    path, data = _read(path)
    size = _checked_size(path, data)
    fitting = (by for by in (8, 4, 2) if data.startswith(_JPEG) and min(size) >= by * least)
    return _pixels(path, data, size, next(fitting, 1), _GREY)


def has_16_bits(path: str | os.PathLike) -> bool:
    """Whether the samples of a picture that can be read have 16 bits."""
    return sample_bits(_read(path)[1]) == 16


def decode_image(data: bytes, name: str | os.PathLike, most: int = MAX_PIXELS) -> np.ndarray:
    """As ``read_image``, of a file's bytes; ``name`` is what an error calls it."""
    path = Path(name)
    return _decode(path, data, _checked_size(path, data, most), 1)


def _read(path: str | os.PathLike) -> tuple[Path, bytes]:
    path = _picture_file(path)
    try:
        return path, read_file(path, MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None


def _decode(path: Path, data: bytes, size: Size, by: int) -> np.ndarray:
    """Decode a picture whose header states a size, at a part of that."""
    image = _pixels(path, data, size, by, _FLAGS)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _pixels(path: Path, data: bytes, size: Size, by: int, flags: dict[int, int]) -> np.ndarray:
    try:
        check_chunks(data)
        turned = webp_orientation(data)
        ignored = cv2.IMREAD_IGNORE_ORIENTATION if turned != 1 else 0
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags[by] | ignored)
    except HeaderError as error:
        raise ImageError(path, str(error)) from None
    except cv2.error as error:
        raise ImageError(path, f"cannot be decoded ({error.err})") from None
    if image is None:
        raise ImageError(path, "cannot be decoded: its data is damaged")
    if turned in _TURNS:
        image = _turn(image, *_TURNS[turned])
    height, width = (-(-side // by) for side in size)
    if image.shape[:2] != (height, width):  # its boxes would be of another picture
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise ImageError(path, f"decodes to {found} pixels where its header says {width}x{height}")
    return image


def _turn(image: np.ndarray, exchanged: bool, axis: int | None) -> np.ndarray:
    image = cv2.transpose(image) if exchanged else image
    return image if axis is None else cv2.flip(image, axis)


def _checked_size(path: Path, data: Buffer, most: int = MAX_PIXELS) -> tuple[int, int]:
    try:
        height, width = read_size(data)
    except HeaderError as error:
        raise ImageError(path, str(error)) from None
    if height * width > most:
        raise ImageError(path, f"has {width}x{height} pixels, more than the limit of {most:,}")
    return height, width


def _picture_file(path: str | os.PathLike) -> Path:
    path = Path(path)
    # Opening a pipe or a device might wait for ever. Unlike Path.is_file, this also takes names
    # that no file can have.
    if not os.path.isfile(path):
        if os.path.exists(path):
            raise ImageError(path, "is not a file")
        raise ImageError(path, "does not exist", Kind.MISSING_PICTURE)
    return path


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(path, f"cannot be read ({error.strerror or error})")
