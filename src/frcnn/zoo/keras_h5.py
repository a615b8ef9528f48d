"""Legacy Keras weight files (HDF5), matched by layer name.

Keras 1 and 2 wrote one group a layer. What the arrays in it are called changed:
``block1_conv1/block1_conv1_W_1:0`` in the files of Keras 1, ``block1_conv1/block1_conv1/kernel:0``
later. A whole saved model has the same groups below ``model_weights``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from frcnn.zoo.matching import MatchReport, load_by_name

# What Keras 1 and 2 called the weights of today's layers.
_OLD_NAMES = {
    "W": "kernel",
    "b": "bias",
    "depthwise_kernel": "kernel",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


def load_vgg16(layers, path: str | Path) -> MatchReport:
    """Load a VGG16 file, with or without the top, into ``vgg16()`` and a detection head.

    Args:
        layers: a built layer or model, or several; convolutions are named
            ``block{1..5}_conv{1..3}``, the dense layers ``fc1``, of 25088 inputs (a 7x7x512 map
            flattened height, width, channel), and ``fc2``.
        path: the file, e.g. ``vgg16_weights_tf_dim_ordering_tf_kernels.h5``.

    Returns:
        The account of every layer and name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a legacy Keras file, or none of its names is a layer's.
    """
    return load_by_name(layers, read_keras_h5(path), str(path))


def read_keras_h5(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read all arrays of a legacy Keras file as layer name -> weight name -> array.

    Weights have the names of Keras 3 (kernel, bias, gamma, ...) whatever the file calls them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not HDF5, truncated, or not in the legacy layout.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {path}; check the path or download it first.")
    try:
        with h5py.File(path, "r") as file:
            layers = _read_groups(file)
    except OSError as error:
        raise ValueError(
            f"Cannot read {path} as HDF5, it may be truncated or another format: {error}. "
            "Download it again."
        ) from error
    if not layers or any(name.isdigit() for weights in layers.values() for name in weights):
        raise ValueError(
            f"{path} is HDF5 but not in Keras's legacy layout of one group a layer "
            f"(top level: {', '.join(layers) or 'no arrays'}). A .weights.h5 file of Keras 3 is "
            "loaded with load_weights of the model that saved it."
        )
    return layers


def _read_groups(file: h5py.File) -> dict[str, dict[str, np.ndarray]]:
    layers: dict[str, dict[str, np.ndarray]] = {}
    root: Any = file.get("model_weights", file)
    for group, content in root.items():
        arrays = _arrays(content)
        owners = {path.rpartition("/")[0] for path in arrays}
        for path, array in arrays.items():
            owner, _, name = path.rpartition("/")
            # A layer's arrays lie together, perhaps below its name once more, with a number if it
            # had a namesake. A group with arrays in several places is a model inside the model.
            layer = group if len(owners) == 1 else owner.rpartition("/")[2]
            layers.setdefault(layer, {})[_weight_name(layer, name)] = array
    return layers


def _arrays(group) -> dict[str, np.ndarray]:
    """All arrays below a group: path within it -> array."""
    arrays: dict[str, np.ndarray] = {}

    def visit(path: str, item):
        if isinstance(item, h5py.Dataset):
            arrays[path] = np.asarray(item)

    if isinstance(group, h5py.Group):
        group.visititems(visit)
    return arrays


def _weight_name(layer: str, dataset: str) -> str:
    """Keras 3's name of a weight: ``block1_conv1_W_1:0`` and ``kernel:0`` are both "kernel"."""
    name = dataset.removesuffix(":0").removeprefix(f"{layer}_")
    name = re.sub(r"_\d+$", "", name)
    return _OLD_NAMES.get(name, name)
