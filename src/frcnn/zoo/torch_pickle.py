"""Read the tensors of a PyTorch weight file without PyTorch, and without trusting the file.

A ``.pth`` file is a pickle, and unpickling runs whatever the file names; here only its data are
read (``pickle_data``), and the handful of names that a dict of tensors needs. Both containers are
read: the zip archive of PyTorch 1.6 and later, and the older plain sequence of pickles followed
by the raw storages. No array is larger than the file that is said to hold it.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frcnn.files import open_file
from frcnn.zoo.pickle_data import pairs_to_dict, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ZIP_MAGIC = b"PK\x03\x04"

# Files are little-endian, as every machine that PyTorch ships for.
_STORAGES = {
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

# Where training scripts keep the state dict in what they save.
_WRAPPERS = ("model", "state_dict", "model_state_dict")

MAX_BYTES = 1 << 33  # of a file of weights; the largest detectors have an eighth of that
_MAX_DIMENSIONS = 32
# Tensors may share a storage, as tied weights do, and are copied out of it one by one.
_MAX_SHARING = 16

# Reading a damaged or hostile file can end in any of these.
_DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class _Storage:
    """A flat buffer of the file, not yet read."""

    key: str
    kind: str
    length: int

    @property
    def dtype(self) -> np.dtype:
        return _STORAGES[self.kind]

    @property
    def nbytes(self) -> int:
        return self.length * self.dtype.itemsize

    def check(self, size: int):
        """Make sure that there are as many bytes as the storage has.

        Raises:
            ValueError: there are more or less.
        """
        if size != self.nbytes:
            raise ValueError(f"storage {self.key} has {size:,} bytes instead of {self.nbytes:,}")


@dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def check(self):
        """Make sure that the tensor lies within its storage.

        Raises:
            ValueError: it does not.
        """
        sound = (
            isinstance(self.storage, _Storage)
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


def read_torch_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """Read a file written by ``torch.save(module.state_dict(), path)``.

    A training checkpoint is read as well: a dict with the state dict as its entry ``model``,
    ``state_dict`` or ``model_state_dict``, beside the state of an optimizer, numbers and options.

    Args:
        path: the ``.pth`` or ``.pt`` file, of either container.

    Returns:
        Tensor name -> array, contiguous, in the tensor's shape and type; bfloat16 is widened to
        float32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a dict of tensors, or a pickle that asks for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {path}; check the path or download it first.")
    try:
        with open_file(path, MAX_BYTES) as file:
            zipped = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
            file.seek(0)
            return (_read_zip if zipped else _read_legacy)(file, path.stat().st_size)
    except _DAMAGE as error:
        raise ValueError(
            f"Cannot read {path} as a PyTorch file of weights: {error}. "
            "Give a file that torch.save wrote from a state_dict, or download it again."
        ) from error


def _read_zip(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it was compressed after torch.save had written it")
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("the archive has no data.pkl")
        root = names[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") == b"big":
            raise ValueError("it was written on a big-endian machine")
        loaded, _ = _load(io.BytesIO(archive.read(names[0])))
        tensors = _state_dict(loaded, size)
        storages = {tensor.storage for tensor in tensors.values()}
        if sum(storage.nbytes for storage in storages) > size:
            raise ValueError(f"it describes more than its own {size:,} bytes")
        content = {storage: _content(archive, root, storage) for storage in storages}
    return {name: tensor.view(content[tensor.storage]) for name, tensor in tensors.items()}


def _content(archive: zipfile.ZipFile, root: str, storage: _Storage) -> bytes:
    """The bytes of a storage. The entries of an archive may overlap, each as long as the file."""
    entry = archive.getinfo(f"{root}data/{storage.key}")
    storage.check(entry.file_size)
    return archive.read(entry)


def _read_legacy(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    whole = file.read()
    file = io.BytesIO(whole)
    if _load(file)[0] != _LEGACY_MAGIC or _load(file)[0] != _LEGACY_PROTOCOL:
        raise ValueError("it is neither of PyTorch's containers")
    if not _load(file)[0]["little_endian"]:
        raise ValueError("it was written on a big-endian machine")
    loaded, storages = _load(file)
    tensors = _state_dict(loaded, size)
    content = {}
    for key in _load(file)[0]:
        storage = storages[key]
        length = int.from_bytes(file.read(8), "little")
        if length != storage.length:
            raise ValueError(f"storage {key} has {length} elements instead of {storage.length}")
        start = file.tell()
        if start + storage.nbytes > size:
            raise ValueError(f"it is truncated: storage {key} is incomplete")
        content[storage] = memoryview(whole)[start : start + storage.nbytes]
        file.seek(start + storage.nbytes)
    return {name: tensor.view(content[tensor.storage]) for name, tensor in tensors.items()}


def _load(file: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """Read one pickle: its object, and the storages that it refers to, by their keys."""
    storages: dict[str, _Storage] = {}

    def refer(identity: Any) -> _Storage:
        storage = _storage(identity)
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key} is described in two ways")
        return storage

    return read_pickle(file, _find, refer), storages


def _storage(identity: Any) -> _Storage:
    """The storage of a persistent id, ("storage", type, key, device, length[, None])."""
    if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != "storage":
        raise ValueError("it refers to something else than a storage")
    kind, key, length = identity[1], identity[2], identity[4]
    if not (isinstance(kind, str) and kind in _STORAGES and isinstance(key, str)):
        raise ValueError("it refers to a storage of no type or name")
    if not isinstance(length, int) or length < 0 or identity[5:] not in ((), (None,)):
        raise ValueError(f"it refers to a part of storage {key!r:.100}")
    return _Storage(key, kind, length)


def _ordered_dict(pairs: list | None = None) -> dict:
    """An OrderedDict; Python 2 wrote its items as an argument."""
    if pairs is None:
        return {}
    items = pairs_to_dict(pairs)
    pairs.clear()  # or a small file could have a long list copied over and over
    return items


def _nothing(*_) -> None:
    """Stands for an object that is no weight: what the file says of it is dropped."""


# What the names in a file stand for.
_NAMES: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: _Tensor(
        storage, offset, shape, strides
    ),
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", kind): kind for kind in _STORAGES},
    # What training scripts save beside the weights: options, schedules, figures.
    ("argparse", "Namespace"): _nothing,
    ("collections", "Counter"): _nothing,
    ("torch", "Size"): _nothing,
    ("torch", "device"): _nothing,
    ("numpy", "dtype"): _nothing,
    ("numpy.core.multiarray", "scalar"): _nothing,
    ("numpy._core.multiarray", "scalar"): _nothing,
    ("_codecs", "encode"): _nothing,
}


def _find(module: str, name: str) -> Any:
    if (module, name) not in _NAMES:
        asked = f"{module}.{name}"
        raise ValueError(f"it asks for {asked:.100}, which no weights need; nothing of it was run")
    return _NAMES[module, name]


def _state_dict(loaded: Any, size: int) -> Mapping[str, _Tensor]:
    """The tensors of a state dict or of a checkpoint that holds one, in a file of so many bytes."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__} instead of a dict of tensors")
    for wrapper in _WRAPPERS:
        if isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
            break
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            kind = type(value).__name__
            raise ValueError(f"entry {name!r:.100} is a {kind} instead of a tensor")
        value.check()
    if sum(value.size * value.storage.dtype.itemsize for value in loaded.values()) > (
        _MAX_SHARING * size
    ):
        raise ValueError(f"its tensors are far larger than its own {size:,} bytes")
    return loaded
