"""Read the tensors of a PyTorch weight file without PyTorch, and without trusting the file.

A ``.pth`` file is a pickle, and unpickling runs whatever the file names. The unpickler here admits
the handful of names that a dict of tensors needs and refuses any other before anything of it is
imported. Both containers are read: the zip archive of PyTorch 1.6 and later, and the older plain
sequence of pickles followed by the raw storages.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

# Files are little-endian, as every machine that PyTorch ships for.
_STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

# Reading a damaged or hostile pickle can end in any of these.
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class _Storage:
    """A flat buffer of the file, not yet read."""

    key: str
    dtype: np.dtype
    length: int


@dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, buffer: np.ndarray) -> np.ndarray:
        """Copy the elements out of ``buffer`` (length,) into an array of their own."""
        numbers = (self.offset, *self.shape, *self.strides)
        sound = len(self.shape) == len(self.strides) and all(
            isinstance(number, int) and number >= 0 for number in numbers
        )
        if not sound or int(np.prod(self.shape, dtype=object)) > len(buffer):
            raise ValueError(f"a tensor of shape {self.shape} lies in {len(buffer)} elements")
        if 0 in self.shape:
            return np.zeros(self.shape, buffer.dtype)
        pairs = zip(self.shape, self.strides, strict=True)
        if self.offset + sum((size - 1) * stride for size, stride in pairs) >= len(buffer):
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage")
        steps = [stride * buffer.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(buffer[self.offset :], self.shape, steps).copy()


def read_torch_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """Read a file written by ``torch.save(module.state_dict(), path)``.

    Args:
        path: the ``.pth`` or ``.pt`` file, of either container.

    Returns:
        Tensor name -> array, contiguous, in the tensor's shape and type.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a dict of tensors, or a pickle that asks for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {path}; check the path or download it first.")
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            return read(file)
    except _DAMAGE as error:
        raise ValueError(
            f"Cannot read {path} as a PyTorch file of weights: {error}. "
            "Give a file that torch.save wrote from a state_dict, or download it again."
        ) from error


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("the archive has no data.pkl")
        root = names[0].removesuffix("data.pkl")

        def read(storage: _Storage) -> bytes:
            return archive.read(f"{root}data/{storage.key}")

        tensors = _load(io.BytesIO(archive.read(names[0])))
        buffers = {tensor.storage: read(tensor.storage) for tensor in _tensors(tensors).values()}
        return _arrays(tensors, buffers.__getitem__)


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    if _load(file) != _LEGACY_MAGIC or _load(file) != _LEGACY_PROTOCOL:
        raise ValueError("it is neither of PyTorch's containers")
    if not _load(file)["little_endian"]:
        raise ValueError("it was written on a big-endian machine")
    tensors = _load(file)
    by_key = {tensor.storage.key: tensor.storage for tensor in _tensors(tensors).values()}
    buffers = {}
    for key in _load(file):
        storage = by_key[key]
        length = int.from_bytes(file.read(8), "little")
        if length != storage.length:
            raise ValueError(f"storage {key} has {length} elements instead of {storage.length}")
        buffers[storage] = file.read(length * storage.dtype.itemsize)
    return _arrays(tensors, buffers.__getitem__)


def _load(file: BinaryIO) -> Any:
    return _Unpickler(file, encoding="utf-8").load()


class _Unpickler(pickle.Unpickler):
    """Admits tensors, their storages and dictionaries; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # A new function for every file: a pickle can set attributes of what it is given.
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which no weights need; nothing of it was run"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise pickle.UnpicklingError(f"it refers to {kind!r} instead of a storage")
        return _Storage(key, dtype, length)


def _tensors(loaded: Any) -> Mapping[str, _Tensor]:
    """The loaded object, if it is a plain dict of tensors."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__} instead of a dict of tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"entry {name!r} is a {type(value).__name__} instead of a tensor")
    return loaded


def _arrays(tensors: Any, read: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in _tensors(tensors).items():
        content = read(tensor.storage)
        if len(content) != tensor.storage.length * tensor.storage.dtype.itemsize:
            raise ValueError(f"it is truncated: tensor {name!r} is incomplete")
        arrays[name] = tensor.view(np.frombuffer(content, tensor.storage.dtype))
    return arrays
