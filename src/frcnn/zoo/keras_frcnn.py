"""Detectors that keras-frcnn trained: its weight files, in networks that keep its conventions.

Proposals are whole cells of 16 pixels, RoIs are cropped and resized, ResNet's first pooling is not
padded, and RGB pixels have means subtracted that were meant for BGR. Weights trained in that way
give their results in that way alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from frcnn.errors import UserError
from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.layers import Normalize
from frcnn.models.resnet import ResNetVariant, resnet50, resnet50_stage5
from frcnn.models.roi_head import RoIHead
from frcnn.models.rpn import AnchorGrid, ProposalRule, RegionProposalNetwork
from frcnn.models.targets import RPNTargetRule
from frcnn.models.vgg import VGG_PREPROCESSING, vgg16
from frcnn.zoo.keras_h5 import read_keras_h5, resnet_layer_names
from frcnn.zoo.matching import load_by_name

Layers = dict[str, dict[str, np.ndarray]]

# Preset -> a layer by which a file of its architecture is known, and the inputs of its RoI head.
_MARKS = {"vgg16": "block5_conv3", "resnet50_c4": "res4f_branch2c"}
_INPUTS = {"vgg16": 7 * 7 * 512, "resnet50_c4": 2048}
_HIDDEN = {"vgg16": ("fc1", "fc2"), "resnet50_c4": ()}

# Its layers -> ours. Dense layers have the number of classes in their names.
_NAMES = {
    r"rpn_out_class": "objectness",
    r"rpn_out_regress": "deltas",
    r"dense_class_\d+": "class_logits",
    r"dense_regress_\d+": "box_deltas",
}
# VGG's fully connected layers lie in wrappers without names, which Keras numbers in their order.
_WRAPPER = re.compile(r"(?:time_distributed_|fc)(\d+)")

# Ends of the names that layers inside a wrapper gave their weights: dense_3_W, ..._running_std.
_WEIGHTS = {
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # it holds variances
    "W": "kernel",
    "b": "bias",
}
_WRAPPED = re.compile(rf"\w+_({'|'.join(_WEIGHTS)})")

_SHORT = 600  # pixels; the original has no limit for the long side
_LONG = 10 * _SHORT  # what is longer would fill the memory
_SIZES, _RATIOS = (128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
_RATIOS_THERE = (1.0, 2.0, 0.5)
_RPN_UNITS = 1 / 4  # the RPN's deltas were trained times 4
_ROI_UNITS = 10 / 8  # the RoIs' times (8, 8, 4, 4); our box weights are (10, 10, 5, 5)
_RESNET = ResNetVariant(stride_in_3x3=False, epsilon=1e-3, padded_pool=False)
_ALL = 10**6  # more anchors than there are

_DIFFERENCES = (
    "Pictures are resized bilinearly, where keras-frcnn resizes bicubically: scores differ a "
    "little.",
    "Boxes are not rounded to 16 pixels, as keras-frcnn's are. It shows what scores at least 0.8, "
    "which is frcnn predict --score 0.8.",
)


def convert_keras_frcnn(
    path: str | Path, preset: str, classes: Sequence[str] | None = None
) -> tuple[DetectionModel, tuple[str, ...]]:
    """A detector with the weights of a ``model_frcnn.hdf5`` that keras-frcnn trained.

    It follows the original, on TensorFlow 1. Forks on TensorFlow 2 resize crops with another
    alignment, up to half a cell away.

    Args:
        path: the file.
        preset: "vgg16" or "resnet50_c4".
        classes: names of its classes without background, in the order of its ``class_mapping``;
            numbers, if left out.

    Returns:
        The detector, and in sentences what a user should know of the conversion.

    Raises:
        UserError: another preset; the file is missing, damaged or of another architecture, or has
            another number of classes.
    """
    if preset not in _MARKS:
        raise UserError(
            f"{path}: keras-frcnn's weights are converted to {' or '.join(_MARKS)}. "
            f"Received: {preset}."
        )
    try:
        source = _our_layers(_todays_names(read_keras_h5(path)), preset)
        network = _build(source, preset)
        count = network.roi_head.num_classes
        if classes is not None and len(classes) != count:
            raise ValueError(
                f"it has {count} classes besides background, but {len(classes)} names were given"
            )
        _load(network, source, str(path))
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{path} could not be converted to {preset}: {error}") from error
    names = classes or [str(number) for number in range(1, count + 1)]
    model = DetectionModel(
        network,
        tuple(names),
        _SHORT,
        _LONG,
        (),
        DetectionRule(count=300),
        resizing="plain",
        multiple=1,  # the original does not pad
    )
    return model, _DIFFERENCES if classes else (*_DIFFERENCES, _nameless(Path(path)))


def _nameless(path: Path) -> str:
    remark = (
        "The classes are called 1, 2, 3 in keras-frcnn's order: give their names with --classes, "
        "in the order of its class_mapping and without bg."
    )
    pickle = path.with_name("config.pickle")
    if pickle.is_file():
        remark += f" It stands in {pickle}, which is not read: a pickle may run any program."
    return remark


def _todays_names(layers: Mapping[str, Mapping[str, np.ndarray]]) -> Layers:
    """The layers with the names that weights have today, inside wrappers too."""

    def today(name: str) -> str:
        wrapped = _WRAPPED.fullmatch(name)
        return _WEIGHTS[wrapped[1]] if wrapped else name

    return {
        layer: {today(name): array for name, array in weights.items()}
        for layer, weights in layers.items()
    }


def _our_layers(layers: Layers, preset: str) -> Layers:
    """keras-frcnn's layers under our names, in our order of anchors and our units of deltas.

    Background is the last class in both.

    Raises:
        ValueError: it is another architecture, or its outputs are missing or do not fit.
    """
    if _MARKS[preset] not in layers:
        other = [f"; it is of {name}" for name, mark in _MARKS.items() if mark in layers]
        raise ValueError(f"it has no layer {_MARKS[preset]}{''.join(other)}")
    names = _our_names(layers)
    ours = {names.get(name, name): weights for name, weights in layers.items()}
    if len(ours) < len(layers):
        raise ValueError(f"several of its layers have one place: {', '.join(sorted(names))}")
    _check_outputs(ours, preset)

    def change(layer: str, function) -> None:
        ours[layer] = {name: function(array) for name, array in ours[layer].items()}

    change("objectness", lambda array: _by_ratio(array, 1))
    change("deltas", lambda array: _by_ratio(array, 4) * _RPN_UNITS)
    change("box_deltas", lambda array: array * _ROI_UNITS)
    return resnet_layer_names(ours) if preset == "resnet50_c4" else ours


def _our_names(layers: Iterable[str]) -> dict[str, str]:
    """Its names -> ours, of the layers that are not called the same."""
    names = {
        name: ours
        for name in layers
        for pattern, ours in _NAMES.items()
        if re.fullmatch(pattern, name)
    }
    wrappers = [match for match in map(_WRAPPER.fullmatch, layers) if match]
    wrappers.sort(key=lambda match: int(match[1]))
    return names | {match[0]: ours for match, ours in zip(wrappers, ("fc1", "fc2"), strict=False)}


def _check_outputs(layers: Layers, preset: str) -> None:
    """Refuse shapes that a network cannot be built for: of the rest, ``_load`` judges.

    Raises:
        ValueError: an output layer is missing, or its shape is no such layer's.
    """
    hidden = (*_HIDDEN[preset], "class_logits")
    for name in ("objectness", "deltas", *hidden, "box_deltas"):
        if not {"kernel", "bias"} <= layers.get(name, {}).keys():
            raise ValueError(f"it has no complete layer {_their_name(name)}")
    for name, outputs in (("objectness", 9), ("deltas", 36)):
        _check_shape(layers, name, (1, 1, 512, outputs))
    inputs = _INPUTS[preset]
    for name in hidden:
        _check_shape(layers, name, (inputs, layers[name]["bias"].size))
        before, inputs = inputs, layers[name]["bias"].size
    if inputs < 2:
        raise ValueError(f"its layer {_their_name('class_logits')} has no class but background")
    _check_shape(layers, "box_deltas", (before, 4 * (inputs - 1)))


def _check_shape(layers: Layers, name: str, expected: tuple[int, ...]) -> None:
    kernel, bias = (layers[name][weight].shape for weight in ("kernel", "bias"))
    if kernel != expected or bias != expected[-1:]:
        raise ValueError(
            f"its layer {_their_name(name)} has shapes {kernel} and {bias}; "
            f"expected {expected} and {expected[-1:]}"
        )


def _their_name(name: str) -> str:
    """What a layer of ours is called there, for messages."""
    theirs = {ours: pattern.replace(r"\d+", "N") for pattern, ours in _NAMES.items()}
    return theirs.get(name, f"time_distributed_N ({name})")


def _by_ratio(array: np.ndarray, values: int) -> np.ndarray:
    """Reorder anchors (..., size * ratio * values), in its order of ratios, to ratio * size."""
    shape = array.shape[:-1]
    array = array.reshape(*shape, len(_SIZES), len(_RATIOS), values)
    array = array[..., [_RATIOS_THERE.index(ratio) for ratio in _RATIOS], :]
    return np.moveaxis(array, -2, -3).reshape(*shape, -1)


def _build(source: Layers, preset: str) -> FasterRCNN:
    """A network of the file's widths, with keras-frcnn's conventions."""
    units = {name: layer["bias"].size for name, layer in source.items() if "bias" in layer}
    classes, vgg = units["class_logits"] - 1, preset == "vgg16"
    head = RoIHead(
        classes,
        strides=(16,),
        units=tuple(units[name] for name in _HIDDEN[preset]),
        pool_size=7 if vgg else 14,
        dropout=0.5 if vgg else 0.0,
        stage=None if vgg else resnet50_stage5(_RESNET),
        pooling="crop",
    )
    return FasterRCNN(
        preprocessing=Normalize(VGG_PREPROCESSING["mean"], VGG_PREPROCESSING["std"], "rgb"),
        extractor=vgg16() if vgg else resnet50(_RESNET, taps=(16,)),
        rpn=RegionProposalNetwork(
            AnchorGrid((16,), (_SIZES,), _RATIOS, offset=0.0),
            channels=512,
            training=ProposalRule(before_nms=12000, after_nms=2000),
            inference=ProposalRule(before_nms=_ALL, after_nms=300),
            whole_cells=True,
        ),
        roi_head=head,
        rpn_targets=RPNTargetRule(ignore_border=True),
    )


def _load(network: FasterRCNN, source: Layers, origin: str) -> None:
    """Give the network all weights.

    Raises:
        ValueError: a layer of the network has none there, or the other way round.
    """
    report = load_by_name(network, source, origin)
    wrong = [f"{layer} {reason}" for layer, reason in report.mismatched.items()]
    wrong += [f"{layer} is missing" for layer in report.missing]
    wrong += [f"{name} is not known" for name in report.left_over]
    if wrong:
        more = f" and {len(wrong) - 5} layers more" if len(wrong) > 5 else ""
        raise ValueError(f"{'; '.join(wrong[:5])}{more}")
