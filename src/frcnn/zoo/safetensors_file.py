"""Read the tensors of a ``.safetensors`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import UserError
from frcnn.files import read_file
from frcnn.zoo.torch_pickle import MAX_BYTES
from frcnn.zoo.torch_tensors import bfloat16_to_float32

# The format is little-endian.
_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # its bits; NumPy has no such type
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read all tensors of a file.

    Args:
        path: the ``.safetensors`` file.

    Returns:
        Tensor name -> array, in the tensor's shape and type; bfloat16 is widened to float32.

    Raises:
        FileNotFoundError: no such file.
        UserError: the library ``safetensors`` is not installed.
        ValueError: truncated, not in the format, or with a type that no weights have.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {path}; check the path or download it first.")
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError as error:
        raise UserError(
            f'{path} needs another package: pip install "frcnn[safetensors]".'
        ) from error
    try:
        tensors = deserialize(read_file(path, MAX_BYTES))
        return {name: _array(name, tensor) for name, tensor in tensors}
    except (SafetensorError, ValueError, OSError, MemoryError) as error:
        raise ValueError(
            f"Cannot read {path} as a safetensors file: {error}. "
            "Give a file in that format, or download it again."
        ) from error


def _array(name: str, tensor: dict[str, Any]) -> np.ndarray:
    dtype = _TYPES.get(tensor["dtype"])
    if dtype is None:
        raise ValueError(f"tensor {name!r} has type {tensor['dtype']}, which no weights have")
    array = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return bfloat16_to_float32(array) if tensor["dtype"] == "BF16" else array.copy()
