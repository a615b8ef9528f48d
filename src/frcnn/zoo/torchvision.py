"""torchvision's weights under our names.

Covers the state dicts of its four Faster R-CNNs, of any number of classes, and the ImageNet
classifiers that they are built on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.normalization import ConvNorm
from frcnn.zoo.matching import MatchReport, load_by_name

Tensors = Mapping[str, np.ndarray]

_NORM_WEIGHTS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
PARALLEL = "module."  # what PyTorch's wrappers for several GPUs put before each name
_CLASSES, _BOXES = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"

# Patterns of torchvision's owners of weights -> our layers'. "{1}" is a group, "{1+}" the group's
# number plus one. The first that matches counts.
_NAMES = (
    (r"conv1", "conv1_conv"),
    (r"bn1", "conv1_bn"),
    (r"layer(\d)\.(\d+)\.conv(\d)", "conv{1+}_block{2+}_{3}_conv"),
    (r"layer(\d)\.(\d+)\.bn(\d)", "conv{1+}_block{2+}_{3}_bn"),
    (r"layer(\d)\.(\d+)\.downsample\.0", "conv{1+}_block{2+}_0_conv"),
    (r"layer(\d)\.(\d+)\.downsample\.1", "conv{1+}_block{2+}_0_bn"),
    (r"0\.0", "stem_conv"),
    (r"0\.1", "stem_bn"),
    (r"16\.0", "last_conv"),
    (r"16\.1", "last_bn"),
    # The blocks of MobileNetV3: the first has no expansion, some have squeeze and excitation.
    (r"1\.block\.0\.0", "block1_depthwise_conv"),
    (r"1\.block\.0\.1", "block1_depthwise_bn"),
    (r"1\.block\.1\.0", "block1_project_conv"),
    (r"1\.block\.1\.1", "block1_project_bn"),
    (r"(\d+)\.block\.0\.0", "block{1}_expand_conv"),
    (r"(\d+)\.block\.0\.1", "block{1}_expand_bn"),
    (r"(\d+)\.block\.1\.0", "block{1}_depthwise_conv"),
    (r"(\d+)\.block\.1\.1", "block{1}_depthwise_bn"),
    (r"(\d+)\.block\.2\.fc1", "block{1}_squeeze"),
    (r"(\d+)\.block\.2\.fc2", "block{1}_excite"),
    (r"(\d+)\.block\.[23]\.0", "block{1}_project_conv"),
    (r"(\d+)\.block\.[23]\.1", "block{1}_project_bn"),
)
_DETECTOR_NAMES = (
    (r"backbone\.fpn\.inner_blocks\.(\d)(\.0)?", "lateral{1}"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1", "lateral{1}_bn"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(\.0)?", "smoothing{1}"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1", "smoothing{1}_bn"),
    (r"rpn\.head\.conv", "rpn_conv1"),
    (r"rpn\.head\.conv\.(\d)\.0", "rpn_conv{1+}"),
    (r"rpn\.head\.cls_logits", "objectness"),
    (r"rpn\.head\.bbox_pred", "deltas"),
    (r"roi_heads\.box_head\.fc6", "fc1"),
    (r"roi_heads\.box_head\.fc7", "fc2"),
    (r"roi_heads\.box_head\.5", "fc1"),
    (r"roi_heads\.box_head\.(\d)\.0", "box_conv{1+}_conv"),
    (r"roi_heads\.box_head\.(\d)\.1", "box_conv{1+}_bn"),
    (re.escape(_CLASSES), "class_logits"),
    (re.escape(_BOXES), "box_deltas"),
)


def class_count(tensors: Tensors) -> int:
    """The number of classes of a detector's state dict, without background.

    Raises:
        ValueError: it is not the state dict of a torchvision Faster R-CNN.
    """
    name = f"{_CLASSES}.bias"
    bias = tensors.get(name, tensors.get(f"{PARALLEL}{name}"))
    if bias is None or bias.ndim != 1 or len(bias) < 2:
        raise ValueError(
            f"it has no tensor {_CLASSES}.bias, which every Faster R-CNN of torchvision has. It "
            f"begins with {', '.join(list(tensors)[:3]) or 'nothing'}"
        )
    return len(bias) - 1


def load_detector(network: FasterRCNN, tensors: Tensors, origin: str) -> MatchReport:
    """Give a network all weights of a state dict of the same architecture.

    Args:
        network: built for ``class_count(tensors)`` classes.
        tensors: names -> arrays in PyTorch's layout.
        origin: where they come from, for messages.

    Raises:
        ValueError: a layer of the network has no weights there, or the other way round.
    """
    source = from_torchvision(tensors)
    report = load_by_name(network, source, origin)
    strange = (*report.mismatched, *report.missing, *report.left_over)
    if strange:
        raise ValueError(
            f"it is of another architecture: {len(report.matched)} layers fit, {len(strange)} do "
            f"not, such as {', '.join(strange[:3])}"
        )
    return report


def load_features(extractor, tensors: Tensors, origin: str) -> MatchReport:
    """Give an extractor the weights of an ImageNet classifier; the classifier is left over."""
    return load_by_name(extractor, from_torchvision(tensors), origin)


def set_epsilon(network: FasterRCNN, epsilon: float) -> None:
    """Change what is added to the variances of the extractor's batch normalisations."""
    for layer in network.extractor.layers:
        if isinstance(layer, ConvNorm):
            layer.norm.epsilon = epsilon


def from_torchvision(tensors: Tensors) -> dict[str, dict[str, np.ndarray]]:
    """Rename, transpose and reorder a state dict to our layers.

    Returns:
        Layer name -> weight name -> array in Keras's layout. What is unknown keeps its name.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    for owner, weight, tensor in _weights(tensors):
        name = _layer_name(owner)
        if name in ("class_logits", "box_deltas"):
            tensor = _without_background(tensor, name)
        if name.endswith("_bn"):
            weight = _NORM_WEIGHTS.get(weight, weight)
        elif weight == "weight":
            weight, tensor = "kernel", _kernel(tensor, name)
        layers.setdefault(name, {})[weight] = np.ascontiguousarray(tensor)
    return {_with_norm(name, layers): weights for name, weights in layers.items()}


def _weights(tensors: Tensors) -> Iterator[tuple[str, str, np.ndarray]]:
    for name, tensor in tensors.items():
        owner, _, weight = name.removeprefix(PARALLEL).rpartition(".")
        if weight != "num_batches_tracked":  # a training counter, no weight
            yield owner, weight, tensor


def _layer_name(owner: str) -> str:
    feature = owner.removeprefix("backbone.body.").removeprefix("features.")
    for patterns, name in ((_DETECTOR_NAMES, owner), (_NAMES, feature)):
        for pattern, ours in patterns:
            match = re.fullmatch(pattern, name)
            if match:
                numbers = [group for group in match.groups() if group and group.isdigit()]
                for place, number in enumerate(numbers, start=1):
                    ours = ours.replace(f"{{{place}}}", number)
                    ours = ours.replace(f"{{{place}+}}", str(int(number) + 1))
                return ours
    return owner


def _with_norm(name: str, layers: Mapping) -> str:
    """A pyramid's convolution is called ``lateral0_conv`` where a normalisation follows it."""
    return f"{name}_conv" if f"{name}_bn" in layers else name


def _without_background(tensor: np.ndarray, name: str) -> np.ndarray:
    """Class 0, the background there, goes last among the logits; it needs no box."""
    if name == "class_logits":
        return np.concatenate([tensor[1:], tensor[:1]])
    return tensor[4:]


def _kernel(tensor: np.ndarray, name: str) -> np.ndarray:
    """A kernel in Keras's layout."""
    if tensor.ndim == 4:  # OIHW to HWIO; a depthwise kernel has its channels in O, and I is 1
        return tensor.transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))
    if name == "fc1" and tensor.shape[1] % 49 == 0:  # flattened channel, height, width
        units = len(tensor)
        return tensor.reshape(units, -1, 7, 7).transpose(2, 3, 1, 0).reshape(-1, units)
    return tensor.T
