"""Weight files of Keras (HDF5), matched by layer name.

Keras 1 and 2 wrote one group a layer. What the arrays in it are called changed:
``block1_conv1/block1_conv1_W_1:0`` in the files of Keras 1, ``block1_conv1/block1_conv1/kernel:0``
later. A whole saved model has the same groups below ``model_weights``. The ``.weights.h5`` files
of Keras 3 number layers and arrays, ``layers/conv2d_3/vars/0``; the layer's name is an attribute.
"""

from __future__ import annotations

import math
import re
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from frcnn.files import DAMAGE
from frcnn.zoo.torch_tensors import bfloat16_to_float32
from frcnn.zoo.trial import try_first

if TYPE_CHECKING:  # it imports Keras, which the process that tries a file can do without
    from frcnn.zoo.matching import MatchReport, Source

# What Keras 1 and 2 called the weights of today's layers.
_OLD_NAMES = {
    "W": "kernel",
    "b": "bias",
    "depthwise_kernel": "kernel",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}

# In which order a kind of layer has its weights, for each count of them that is unambiguous.
_KERNEL_BIAS = {1: ("kernel",), 2: ("kernel", "bias")}
_ORDERS = {
    "conv2d": _KERNEL_BIAS,
    "depthwise_conv2d": _KERNEL_BIAS,
    "dense": _KERNEL_BIAS,
    "batch_normalization": {4: ("gamma", "beta", "moving_mean", "moving_variance")},
}
_NUMBERED = re.compile(r"(layers/\w+/)+vars/\d+")

# ResNet's layers in the first years of Keras: res4b_branch2a, bn4b_branch2a.
_OLD_RESNET = re.compile(r"(?P<kind>res|bn)(?P<stage>[2-5])(?P<block>[a-z])_branch(?P<branch>\w+)")
_OLD_STEM = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn"}
_BRANCHES = {"1": 0, "2a": 1, "2b": 2, "2c": 3}

# Weights hardly compress; what unpacks to more than this many times the file is no weights.
_MAX_EXPANSION = 16


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
        ValueError: not a file of Keras, or none of its names is a layer's.
    """
    from frcnn.zoo.matching import load_by_name

    return load_by_name(layers, read_keras_h5(path), str(path))


def resnet_layer_names(layers: Source) -> dict[str, dict[str, np.ndarray]]:
    """The layers of a Keras ResNet under one set of names, with convolutions without biases.

    Keras's ResNets have biases before batch normalisation, which subtracts them again with the
    mean; here they are taken off ``moving_mean``, so that the result is the same without them.

    Args:
        layers: of ``read_keras_h5``, in the names of today (``conv2_block1_1_conv``) or of the
            first years (``res2a_branch2a``).

    Returns:
        Layer name -> weight name -> array. The stem is ``conv1_conv`` and ``conv1_bn``, the
        others are ``conv{stage}_block{i}_{0..3}_conv`` and ``..._bn``, of which 0 is the
        projection of the shortcut. Layers of other kinds keep their names.
    """
    named = {_resnet_name(name): dict(weights) for name, weights in layers.items()}
    for name, weights in named.items():
        norm = named.get(f"{name.removesuffix('_conv')}_bn", {}) if name.endswith("_conv") else {}
        bias, mean = weights.get("bias"), norm.get("moving_mean")
        if bias is not None and mean is not None and bias.shape == mean.shape:
            norm["moving_mean"] = mean - weights.pop("bias")
    return named


def _resnet_name(name: str) -> str:
    old = _OLD_RESNET.fullmatch(name)
    if old is None or old["branch"] not in _BRANCHES:
        return _OLD_STEM.get(name, name)
    block, kind = ord(old["block"]) - ord("a") + 1, {"res": "conv", "bn": "bn"}[old["kind"]]
    return f"conv{old['stage']}_block{block}_{_BRANCHES[old['branch']]}_{kind}"


def read_keras_h5(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read all arrays of a Keras weight file as layer name -> weight name -> array.

    Weights have the names of Keras 3 (kernel, bias, gamma, ...) whatever the file calls them.
    Where a ``.weights.h5`` file does not tell what a weight is, its name is its number.
    Links and arrays in other files are refused, and nothing far larger than the file is read. The
    HDF5 library itself can crash on a file made to crash it, so another process reads it first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not HDF5, truncated, in no layout of Keras, or with links to other places.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {path}; check the path or download it first.")
    try:
        try_first(__name__, path)
        layers, top = read_layers(path)
    except DAMAGE as error:
        raise ValueError(
            f"Cannot read {path} as HDF5 of Keras, it may be truncated or another format: "
            f"{error}. Download it again."
        ) from error
    if not layers:
        raise ValueError(
            f"{path} is HDF5 but holds no layers of Keras (top level: {top or 'nothing'}). Give a "
            "file that save_weights of a Keras model wrote."
        )
    return layers


def read_layers(path: Path) -> tuple[dict[str, dict[str, np.ndarray]], str]:
    """All arrays of a file, as ``read_keras_h5`` gives them, and the names at its top.

    Raises:
        any of ``DAMAGE``: it is damaged; a file made for that can end the process.
    """
    with h5py.File(path, "r") as file:
        return _read_layers(_datasets(file), path.stat().st_size), ", ".join(file)


def _address(item: Any) -> int:
    """Where in the file a group or dataset lies."""
    low_level: Any = h5py  # its type stubs leave h5o out
    return low_level.h5o.get_info(item.id).addr


def _datasets(root: h5py.File) -> dict[str, h5py.Dataset]:
    """All datasets of a file by their paths; none that lies, in part or whole, somewhere else."""
    found: dict[str, h5py.Dataset] = {}
    groups: deque[tuple[str, Any]] = deque([("", root)])
    seen = {_address(root)}
    while groups:
        prefix, group = groups.popleft()
        for name in group:
            path = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{path} is a link to another place")
            item = group[name]
            address = _address(item)
            if address in seen:
                raise ValueError(f"{path} is the same as another entry")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append((f"{path}/", item))
            elif isinstance(item, h5py.Dataset):
                found[path] = item
    return found


def _read_layers(
    datasets: Mapping[str, h5py.Dataset], size: int
) -> dict[str, dict[str, np.ndarray]]:
    """Read the weights out of a file of so many bytes, of whichever layout."""
    whole = {path: item for path, item in datasets.items() if path.startswith("model_weights/")}
    if whole:
        datasets = {path.removeprefix("model_weights/"): item for path, item in whole.items()}
    numbered = {path: item for path, item in datasets.items() if _NUMBERED.fullmatch(path)}
    if not numbered and any(path.split("/")[-1].isdigit() for path in datasets):
        raise ValueError(
            "its arrays are numbered, and load_weights of the model that saved it "
            "is the only way to tell them apart"
        )
    chosen = numbered or {path: item for path, item in datasets.items() if "/" in path}
    declared = sum(_memory(item) for item in chosen.values())
    if declared > _MAX_EXPANSION * size:
        raise ValueError(f"it declares arrays of {declared:,} bytes in a file of {size:,}")
    return _numbered_layers(chosen) if numbered else _named_layers(chosen)


def _memory(item: h5py.Dataset) -> int:
    """Bytes that reading an array takes; a chunk of it is unpacked whole, and may be far larger."""
    elements = max(math.prod(item.shape or ()), math.prod(item.chunks or ()))
    return elements * item.dtype.itemsize


def _named_layers(datasets: Mapping[str, h5py.Dataset]) -> dict[str, dict[str, np.ndarray]]:
    """Layers of the layout of Keras 1 and 2."""
    groups: dict[str, dict[str, h5py.Dataset]] = {}
    for path, item in datasets.items():
        group, _, rest = path.partition("/")
        groups.setdefault(group, {})[rest] = item
    layers: dict[str, dict[str, np.ndarray]] = {}
    for group, items in groups.items():
        owners = {path.rpartition("/")[0] for path in items}
        for path, item in items.items():
            owner, _, name = path.rpartition("/")
            # A layer's arrays lie together, perhaps below its name once more, with a number if it
            # had a namesake. A group with arrays in several places is a model inside the model.
            layer = group if len(owners) == 1 else owner.rpartition("/")[2]
            layers.setdefault(layer, {})[_weight_name(layer, name)] = _read(item)
    return layers


def _weight_name(layer: str, dataset: str) -> str:
    """Keras 3's name of a weight: ``block1_conv1_W_1:0`` and ``kernel:0`` are both "kernel"."""
    name = dataset.removesuffix(":0").removeprefix(f"{layer}_")
    name = re.sub(r"_\d+$", "", name)
    return _OLD_NAMES.get(name, name)


def _numbered_layers(datasets: Mapping[str, h5py.Dataset]) -> dict[str, dict[str, np.ndarray]]:
    """Layers of the layout of Keras 3."""
    groups: dict[str, dict[int, h5py.Dataset]] = {}
    for path, item in datasets.items():
        group, _, index = path.rpartition("/")
        groups.setdefault(group, {})[int(index)] = item
    layers: dict[str, dict[str, np.ndarray]] = {}
    for group, items in groups.items():
        layer = next(iter(items.values())).parent.attrs.get("name")
        if not isinstance(layer, str) or layer in layers:
            raise ValueError(f"{group} has no name, or that of another layer")
        kind = re.sub(r"_\d+$", "", group.split("/")[-2])
        names = _ORDERS.get(kind, {}).get(len(items), ())
        layers[layer] = {
            names[index] if index < len(names) else str(index): _read(item)
            for index, item in items.items()
        }
    return layers


def _read(dataset: h5py.Dataset) -> np.ndarray:
    """The numbers of a dataset, in the machine's byte order."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name} lies in another file")
    dtype, kind = dataset.dtype, dataset.attrs.get("dtype")
    bfloat16 = isinstance(kind, str) and kind == "bfloat16" and dtype.itemsize == 2
    if dataset.shape is None or not (bfloat16 or dtype.kind in "fiub"):
        raise ValueError(f"{dataset.name} is of type {dtype} instead of numbers")
    array = np.asarray(dataset[()])
    if bfloat16:
        return bfloat16_to_float32(array.view("<u2"))
    return array.astype(dtype.newbyteorder("="), copy=False)


def _main() -> None:
    """What ``try_first`` runs."""
    try:
        read_layers(Path(sys.argv[1]))
    except DAMAGE as error:
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    _main()
