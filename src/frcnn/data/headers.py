"""The size of a picture from its first bytes, and whether its end is missing.

Opening a data set must neither decode every picture nor leave a truncated one to be met in the
middle of training, so the headers are read here. Sizes are those of the picture as decoded: an
EXIF orientation that turns it by a quarter swaps height and width.
"""

from __future__ import annotations

import re
import struct
import zlib
from mmap import mmap

Buffer = bytes | mmap

FORMATS = "JPEG, PNG, BMP, TIFF or WebP"

# Trailers (padding, a camera's maker notes) may follow the end marker; it is searched for in
# this many last bytes before the whole file is.
_TAIL = 1 << 16
# A file of many million parts would keep the reader busy, one of many scans the decoder; cameras
# and programs write a few dozens of each.
_MOST_PARTS = 10_000
_MOST_SCANS = 200
_MOST_CHUNKS = 1_000_000  # of a PNG, its pixels' among them
_QUARTER_TURNS = (5, 6, 7, 8)
_STANDALONE_MARKERS = (0x01, *range(0xD0, 0xD9))
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_MARKERS = (0xC2, 0xC6, 0xCA, 0xCE)
_BITS, _FORMAT, _FLOAT = 0x102, 0x153, 3  # TIFF 6.0: BitsPerSample, SampleFormat, and floats
_WEBP_EXIF = 0x08  # flag of an extended WebP file: it has an EXIF chunk
_FILL = re.compile(b"\xff+")


class HeaderError(ValueError):
    """A header that cannot be understood, or a file that ends too early."""


def read_size(data: Buffer) -> tuple[int, int]:
    """Read a picture's (height, width) in pixels, without decoding it.

    Args:
        data: the whole file.

    Raises:
        HeaderError: an empty file, another format, a damaged header, or a missing end.
    """
    if not len(data):
        raise HeaderError("is empty (0 bytes)")
    for matches, reader in _READERS:
        if matches(data[:16]):
            try:
                height, width = reader(data)
            except (struct.error, IndexError):
                raise HeaderError("ends inside its header: it is truncated") from None
            if height < 1 or width < 1:
                raise HeaderError(f"states a size of {width}x{height} pixels")
            return height, width
    raise HeaderError(f"is not a {FORMATS} picture (it begins with {bytes(data[:8])!r})")


def sample_bits(data: Buffer) -> int:
    """How many bits a sample of a PNG or TIFF has whose size could be read; 8 of other formats."""
    if data[:8] == _PNG:
        return data[24]
    if data[:4] in _TIFF:
        return _tiff_tags(data, (_BITS,)).get(_BITS, 1)
    return 8


def webp_orientation(data: Buffer) -> int:
    """The EXIF orientation of a WebP whose size could be read; 1 of other formats."""
    if not _is_webp(data[:16]) or data[12:16] != b"VP8X" or not data[20] & _WEBP_EXIF:
        return 1
    position = 12
    for _ in range(_MOST_PARTS):
        if position + 8 > len(data):
            return 1
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            block = bytes(data[position + 8 : position + 8 + length])
            return _exif_orientation(block.removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return 1


def _is_webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _oriented(height: int, width: int, orientation: int) -> tuple[int, int]:
    return (width, height) if orientation in _QUARTER_TURNS else (height, width)


def _require_end(data: Buffer, marker: bytes, start: int) -> None:
    found = data.rfind(marker, max(start, len(data) - _TAIL))
    if found < 0 and data.rfind(marker, start) < 0:
        raise HeaderError(f"has no end marker after {len(data)} bytes: it is truncated")


def _tiff_tags(data: Buffer, names: tuple[int, ...]) -> dict[int, int]:
    """The wanted integer tags of the first directory (TIFF 6.0, section 2)."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags: dict[int, int] = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in names and tag not in tags and kind in (3, 4):  # SHORT or LONG
            place = entry + 8
            (length,) = struct.unpack_from(order + "I", data, entry + 4)
            if tag in (_BITS, _FORMAT) and length > 2:  # of each sample, which take more room
                (place,) = struct.unpack_from(order + "I", data, place)
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place)
    return tags


def _exif_orientation(block: bytes) -> int:
    try:
        return _tiff_tags(block, (0x112,)).get(0x112, 1)
    except struct.error:  # a damaged EXIF block is no reason to refuse a sound picture
        return 1


def _read_jpeg(data: Buffer) -> tuple[int, int]:
    size, orientation, position, progressive = None, 1, 2, False
    for _ in range(_MOST_PARTS):
        if data[position] != 0xFF:
            raise HeaderError(f"has no JPEG marker at byte {position}: it is damaged")
        # Any number of fill bytes may precede a marker.
        position = _FILL.match(data, position).end()  # type: ignore[union-attr]
        marker = data[position]
        position += 1
        if marker in _STANDALONE_MARKERS:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _FRAME_MARKERS:
            size = struct.unpack_from(">HH", data, position + 3)
            progressive = progressive or marker in _PROGRESSIVE_MARKERS
        elif marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _exif_orientation(bytes(data[position + 8 : position + length]))
        elif marker == 0xD9 or marker == 0xDA:
            break
        position += length
    else:
        raise HeaderError(f"has more than {_MOST_PARTS:,} parts before its scan")
    if size is None:
        raise HeaderError("has no JPEG frame header before its scan: it is damaged")
    # A thumbnail in the EXIF block has an end marker of its own: search behind the first scan.
    _require_end(data, b"\xff\xd9", position)
    if progressive:
        _limit_scans(data, position)
    return _oriented(size[0], size[1], orientation)


def _limit_scans(data: Buffer, position: int) -> None:
    """Refuse a progressive JPEG in which each of many scans, of a few bytes, takes all pixels."""
    for _ in range(_MOST_SCANS):
        position = data.find(b"\xff\xda", position + 1)
        if position < 0:
            return
    raise HeaderError(f"is a JPEG of more than {_MOST_SCANS} scans")


def check_chunks(data: bytes) -> None:
    """Check that the parts of a PNG end within the file, before it is decoded.

    The decoder makes room for as many bytes as a part says that it has: for gigabytes.

    Raises:
        HeaderError: one does not, or there are too many.
    """
    if not data.startswith(_PNG):
        return
    position = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 8 + length > len(data):
            raise HeaderError(f"cannot be decoded: a part of it ends behind its {len(data)} bytes")
        if kind == b"IEND":
            return
        position += 12 + length
    raise HeaderError(f"has more than {_MOST_CHUNKS:,} parts")


def _read_png(data: Buffer) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    orientation, position = 1, 8
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            orientation = _exif_orientation(bytes(data[position + 8 : position + 8 + length]))
        elif kind in (b"IDAT", b"IEND"):
            break
        position += 12 + length
    else:
        raise HeaderError(f"has more than {_MOST_PARTS:,} parts before its pixels")
    _require_end(data, b"IEND", position)
    return _oriented(height, width, _orientation_behind(data, position) or orientation)


def _orientation_behind(data: Buffer, pixels: int) -> int | None:
    """The orientation of a PNG that states it behind its pixels, near its end."""
    place = data.rfind(b"eXIf", max(pixels, len(data) - _TAIL))
    if place < 0:
        return None
    (length,) = struct.unpack_from(">I", data, place - 4)
    block, check = data[place : place + 4 + length], data[place + 4 + length : place + 8 + length]
    if zlib.crc32(block) != int.from_bytes(check):  # among the pixels, by chance
        return None
    return _exif_orientation(bytes(block[4:]))


def _read_bmp(data: Buffer) -> tuple[int, int]:
    (start, header) = struct.unpack_from("<II", data, 10)
    if header == 12:  # the OS/2 header has 16-bit sizes
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: rows are stored from the top
    stride = (width * bits + 31) // 32 * 4
    if compression == 0 and len(data) < start + stride * height:
        raise HeaderError(
            f"has {len(data)} bytes where its header asks for {start + stride * height}: "
            "it is truncated"
        )
    return height, width


def _read_tiff(data: Buffer) -> tuple[int, int]:
    tags = _tiff_tags(data, (0x100, 0x101, 0x112, _BITS, _FORMAT))
    if 0x100 not in tags or 0x101 not in tags:
        raise HeaderError("has a TIFF header without width or height")
    if tags.get(_FORMAT) == _FLOAT:
        kind = f"{tags[_BITS]}-bit float" if _BITS in tags else "float"
        raise HeaderError(f"has {kind} samples; convert it to 8 or 16 bits")
    return _oriented(tags[0x101], tags[0x100], tags.get(0x112, 1))


def _read_webp(data: Buffer) -> tuple[int, int]:
    (length,) = struct.unpack_from("<I", data, 4)
    if len(data) < length + 8:
        raise HeaderError(
            f"has {len(data)} bytes where its header asks for {length + 8}: it is truncated"
        )
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        return _oriented(height, width, webp_orientation(data))
    raise HeaderError(f"has a WebP header of an unknown kind, {bytes(kind)!r}")


_TIFF = (b"II*\0", b"MM\0*")
_PNG = b"\x89PNG\r\n\x1a\n"
_READERS = (
    (lambda head: head.startswith(b"\xff\xd8\xff"), _read_jpeg),
    (lambda head: head.startswith(_PNG), _read_png),
    (lambda head: head.startswith(b"BM"), _read_bmp),
    (lambda head: head.startswith(_TIFF), _read_tiff),
    (_is_webp, _read_webp),
)
