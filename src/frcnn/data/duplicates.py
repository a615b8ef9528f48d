"""Pictures that show the same: copies, also re-encoded, resized or of another brightness.

Each picture is decoded once, small, to a 64-bit hash of its coarse structure and a thumbnail.
Hashes that differ in a few bits name the candidates, thumbnails that correlate decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from frcnn.data.faults import Fault, ImageError
from frcnn.data.images import has_16_bits, read_grey

_SIDE = 32  # pixels of a thumbnail
_LEAST = 2 * _SIDE  # that a picture is reduced to before it is resized to one
_BITS = 64
# The lowest frequencies of the cosine transform but the mean, by their sum: rows and columns.
_FREQUENCIES = sorted(np.ndindex(11, 11), key=lambda at: (sum(at), at))[1 : _BITS + 1]
_ROWS, _COLUMNS = np.array(_FREQUENCIES).T

DISTANCE = 8  # bits by which the hashes of two like pictures differ at most; others by 12 to 50
_CORRELATION = 0.95  # of their thumbnails, at least
_PLAIN = 2.0  # grey levels; what varies less shows nothing that could be correlated
# Two of so many bands of two hashes are the same if they differ in no more bits than that.
_BANDS = DISTANCE + 2
_BAND = _BITS // _BANDS  # bits
# Pictures with the same two bands that each is compared with: enough for some hundred thousand of
# different scenes, and a bound for as many of one.
_WINDOW = 100
_DARK = 32  # of 255; a picture of 16 bits that is darker everywhere uses 13 of them or fewer
_AT_ONCE = 4096  # pictures given to the threads before the next


@dataclass(frozen=True, eq=False)
class Looks:
    """What pictures look like.

    Args:
        hashes: uint64 (N,).
        thumbnails: uint8 (N, 32, 32), grey.
        readable: bool (N,), whether the picture could be decoded; the others have zeros.
        faults: why not.
        dark: pictures of 16 bits that become nearly black with 8.
    """

    hashes: np.ndarray
    thumbnails: np.ndarray
    readable: np.ndarray
    faults: tuple[Fault, ...] = ()
    dark: tuple[Path, ...] = ()


def look_at(
    paths: Sequence[Path], workers: int = 1, progress: Callable[[], None] | None = None
) -> Looks:
    """Decode pictures, each once.

    Args:
        paths: of the pictures; those that cannot be decoded are faults.
        workers: threads.
        progress: called after each picture.
    """
    thumbnails = np.zeros((len(paths), _SIDE, _SIDE), np.uint8)
    hashes = np.zeros(len(paths), np.uint64)
    readable = np.zeros(len(paths), bool)
    faults, dark = [], []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            found = pool.map(_look, paths[start : start + _AT_ONCE])
            for index, look in enumerate(found, start):
                if isinstance(look, Fault):
                    faults.append(look)
                else:
                    thumbnails[index], hashes[index], is_dark = look
                    dark += [paths[index]] if is_dark else []
                    readable[index] = True
                if progress:
                    progress()
    return Looks(hashes, thumbnails, readable, tuple(faults), tuple(dark))


def _look(path: Path) -> tuple[np.ndarray, np.uint64, bool] | Fault:
    try:
        grey = read_grey(path, _LEAST)
        dark = int(grey.max()) < _DARK and has_16_bits(path)
    except ImageError as error:
        return Fault(error.file, error.problem, images=1, kind=error.kind)
    thumbnail = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return thumbnail, picture_hash(thumbnail), dark


def picture_hash(thumbnail: np.ndarray) -> np.uint64:
    """A hash of which low frequencies of a picture are above their median.

    Neither brightness nor contrast changes it (Zauner, "Implementation and Benchmarking of
    Perceptual Image Hash Functions", 2010, section 3.2.1; here without the constant term).

    Args:
        thumbnail: uint8 (32, 32).
    """
    low = cv2.dct(thumbnail.astype(np.float32))[_ROWS, _COLUMNS]
    return np.packbits(low > np.median(low)).view(np.uint64)[0]


def like_groups(looks: Looks) -> list[np.ndarray]:
    """Groups of pictures that show the same, directly or by way of others.

    All pairs whose hashes differ in at most ``DISTANCE`` bits are found, unless more than a
    hundred pictures have two of ten parts of the hash in common: of those, only neighbours are
    compared.

    Returns:
        Sorted indices int64 (M,), M at least 2, of each group; the first of the groups ascend.
    """
    indices = np.flatnonzero(looks.readable)
    hashes = looks.hashes[indices]
    union = _Union(len(indices))
    bands = [_band(hashes, number) for number in range(_BANDS)]
    for first_band, second_band in combinations(bands, 2):
        both = first_band << _BAND | second_band
        order = np.argsort(both, kind="stable")
        in_order, both = hashes[order], both[order]
        for step in range(1, _WINDOW + 1):
            first = np.flatnonzero(both[step:] == both[:-step])
            if not len(first):
                break
            near = _differing_bits(in_order[first] ^ in_order[first + step]) <= DISTANCE
            one, other = order[first[near]], order[first[near] + step]
            apart = union.roots[one] != union.roots[other]
            one, other = one[apart], other[apart]
            alike = _correlated(looks.thumbnails, indices[one], indices[other])
            union.join(one[alike], other[alike])
    return [indices[group] for group in union.groups()]


def _band(hashes: np.ndarray, number: int) -> np.ndarray:
    """The bits of one band of each hash, int32."""
    return (hashes >> np.uint64(number * _BAND) & np.uint64(2**_BAND - 1)).astype(np.int32)


def _differing_bits(values: np.ndarray) -> np.ndarray:
    """How many bits of uint64 values are set (NumPy has it from version 2 on)."""
    values = values - (values >> np.uint64(1) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    values = (values & pairs) + (values >> np.uint64(2) & pairs)
    values = (values + (values >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _correlated(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which pairs of thumbnails are the same but for brightness and contrast, bool."""
    alike = np.zeros(len(first), bool)
    for start in range(0, len(first), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        one, other = (
            thumbnails[each[part]].reshape(-1, _SIDE * _SIDE).astype(np.float32)
            for each in (first, second)
        )
        means = np.abs(one.mean(axis=1) - other.mean(axis=1))
        one -= one.mean(axis=1, keepdims=True)
        other -= other.mean(axis=1, keepdims=True)
        spread, other_spread = one.std(axis=1), other.std(axis=1)
        plain = (spread < _PLAIN) & (other_spread < _PLAIN)
        product = (one * other).mean(axis=1) >= _CORRELATION * spread * other_spread
        varied = (spread >= _PLAIN) & (other_spread >= _PLAIN)
        alike[part] = np.where(plain, means < _PLAIN, product & varied)
    return alike


class _Union:
    """Disjoint sets of 0..N-1 whose roots can be compared all at once."""

    def __init__(self, count: int):
        self.roots = np.arange(count)

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        if not len(first):
            return
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            one, other = self._root(one), self._root(other)
            self.roots[max(one, other)] = min(one, other)
        while not np.array_equal(above := self.roots[self.roots], self.roots):
            self.roots = above

    def _root(self, item: int) -> int:
        while self.roots[item] != item:
            item = int(self.roots[item])
        return item

    def groups(self) -> list[np.ndarray]:
        order = np.argsort(self.roots, kind="stable")
        starts = np.flatnonzero(np.diff(self.roots[order], prepend=-1))
        return [group for group in np.split(order, starts[1:]) if len(group) > 1]
