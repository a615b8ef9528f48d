"""Read the tensors of a PyTorch weight file without PyTorch, and without trusting the file.

A ``.pth`` file is a pickle, and unpickling runs whatever the file names; here only its data are
read (``pickle_data``), and the handful of names that a dict of tensors needs. Both containers are
read: the zip archive of PyTorch 1.6 and later, and the older plain sequence of pickles followed
by the raw storages. No array is larger than the file that is said to hold it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from frcnn.files import DAMAGE, open_file
from frcnn.zoo.pickle_data import pairs_to_dict, read_pickle
from frcnn.zoo.torch_tensors import STORAGES, Storage, Tensor

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ZIP_MAGIC = b"PK\x03\x04"

# Where training scripts keep the state dict in what they save.
_WRAPPERS = ("model", "state_dict", "model_state_dict")

MAX_BYTES = 1 << 33  # of a file of weights; the largest detectors have an eighth of that
# Tensors may share a storage, as tied weights do, and are copied out of it one by one.
_MAX_SHARING = 16


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
    except (*DAMAGE, zipfile.BadZipFile, struct.error, EOFError) as error:
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


def _content(archive: zipfile.ZipFile, root: str, storage: Storage) -> bytes:
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


def _load(file: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle: its object, and the storages that it refers to, by their keys."""
    storages: dict[str, Storage] = {}

    def refer(identity: Any) -> Storage:
        storage = _storage(identity)
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key} is described in two ways")
        return storage

    return read_pickle(file, _find, refer), storages


def _storage(identity: Any) -> Storage:
    """The storage of a persistent id, ("storage", type, key, device, length[, None])."""
    if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != "storage":
        raise ValueError("it refers to something else than a storage")
    kind, key, length = identity[1], identity[2], identity[4]
    if not (isinstance(kind, str) and kind in STORAGES and isinstance(key, str)):
        raise ValueError("it refers to a storage of no type or name")
    if not isinstance(length, int) or length < 0 or identity[5:] not in ((), (None,)):
        raise ValueError(f"it refers to a part of storage {key!r:.100}")
    return Storage(key, kind, length)


def _ordered_dict(pairs: list | None = None) -> dict:
    """An OrderedDict; Python 2 wrote its items as an argument."""
    if pairs is None:
        return {}
    if not isinstance(pairs, list):
        raise TypeError
    items = pairs_to_dict(pairs)
    pairs.clear()  # or a small file could have a long list copied over and over
    return items


def _nothing(*_) -> None:
    """Stands for an object that is no weight: what the file says of it is dropped."""


# What the names in a file stand for.
_NAMES: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: Tensor(
        storage, offset, shape, strides
    ),
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", kind): kind for kind in STORAGES},
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


def _state_dict(loaded: Any, size: int) -> Mapping[str, Tensor]:
    """The tensors of a state dict or of a checkpoint that holds one, in a file of so many bytes."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__} instead of a dict of tensors")
    for wrapper in _WRAPPERS:
        if isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
            break
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ValueError(f"entry {name!r:.100} is a {kind} instead of a tensor")
        value.check()
    if sum(value.size * value.storage.dtype.itemsize for value in loaded.values()) > (
        _MAX_SHARING * size
    ):
        raise ValueError(f"its tensors are far larger than its own {size:,} bytes")
    return loaded
