"""Tensors of PyTorch as its files describe them: strided views of flat storages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Files are little-endian, as every machine that PyTorch ships for.
STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),  # its bits; NumPy has no such type
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

_MAX_DIMENSIONS = 32


@dataclass(frozen=True)
class Storage:
    """A flat buffer of the file, not yet read."""

    key: str
    kind: str
    length: int

    @property
    def dtype(self) -> np.dtype:
        """Of the elements as they lie in the file."""
        return STORAGES[self.kind]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole storage."""
        return self.length * self.dtype.itemsize

    def check(self, size: int):
        """Make sure that there are as many bytes as the storage has.

        Raises:
            ValueError: there are more or less.
        """
        if size != self.nbytes:
            raise ValueError(f"storage {self.key} has {size:,} bytes instead of {self.nbytes:,}")


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def check(self):
        """Make sure that the tensor lies within its storage.

        Raises:
            ValueError: it does not.
        """
        sound = (
            isinstance(self.storage, Storage)
            and isinstance(self.shape, tuple)
            and isinstance(self.strides, tuple)
            and len(self.shape) == len(self.strides) <= _MAX_DIMENSIONS
            and all(
                isinstance(number, int) and number >= 0
                for number in (self.offset, *self.shape, *self.strides)
            )
        )
        if not sound:
            raise ValueError("it describes a tensor of no storage, shape or strides")
        length = self.storage.length
        if self.size > length:
            raise ValueError(f"a tensor of shape {self.shape} lies in {length} elements")
        pairs = zip(self.shape, self.strides, strict=True)
        if self.size and self.offset + sum((n - 1) * stride for n, stride in pairs) >= length:
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage")

    @property
    def size(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    def view(self, content: bytes | memoryview) -> np.ndarray:
        """Copy the elements out of the storage's bytes into an array of their own."""
        self.storage.check(len(content))
        buffer = np.frombuffer(content, self.storage.dtype)
        if self.size == 0:
            array = np.zeros(self.shape, buffer.dtype)
        else:
            steps = [
                stride * buffer.itemsize if count > 1 else 0
                for count, stride in zip(self.shape, self.strides, strict=True)
            ]
            strided = np.lib.stride_tricks.as_strided
            array = strided(buffer[self.offset :], self.shape, steps).copy()
        return bfloat16_to_float32(array) if self.storage.kind == "BFloat16Storage" else array


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """The numbers whose bfloat16 bits are given as uint16: float32 of the same shape, exactly."""
    numbers = np.empty(bits.shape, "<f4")
    numbers.view("<u4")[...] = bits.astype("<u4") << 16
    return numbers
