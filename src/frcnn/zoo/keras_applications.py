"""The networks of ``keras.applications`` as feature extractors, by the names they have there."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from frcnn.errors import UserError
from frcnn.files import DAMAGE
from frcnn.models.keras_extractor import strides_of, tapped, taps_for
from frcnn.models.layers import Normalize
from frcnn.zoo.keras_h5 import read_keras_h5

_CAFFE = {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "order": "bgr"}
_TENSORFLOW = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}
_TORCH = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_HALVES = {"mean": (128.0, 128.0, 128.0), "std": (128.0, 128.0, 128.0)}

# What a family's networks were trained with, as arguments of ``Normalize``; some families begin
# with it as layers. Families are modules of ``keras.applications``.
PREPROCESSING: dict[str, dict[str, Any]] = {
    "convnext": _TORCH,
    "densenet": _TORCH,
    "efficientnet": _TORCH,
    "efficientnet_v2": _TORCH,
    "inception_resnet_v2": _TENSORFLOW,
    "inception_v3": _TENSORFLOW,
    "mobilenet": _TENSORFLOW,
    "mobilenet_v2": _TENSORFLOW,
    "mobilenet_v3": _TENSORFLOW,
    "resnet": _CAFFE,
    "resnet_v2": _TENSORFLOW,
    "vgg16": _CAFFE,
    "vgg19": _CAFFE,
    "xception": _TENSORFLOW,
}
# Networks that differ from their family.
_OWN_PREPROCESSING = {f"EfficientNetV2{size}": _HALVES for size in "SML"}


def extractor_names() -> tuple[str, ...]:
    """The names that ``build_extractor`` knows; NASNet, which takes one size only, is not there."""
    return tuple(_functions())


def build_extractor(
    name: str, weights: str | Path | None = None, frozen_stages: int = 0
) -> tuple[Normalize, keras.Model, tuple[int, ...]]:
    """A network of ``keras.applications`` down to its deepest maps of stride 8, 16 and 32.

    Inception's networks convolve without padding, so that their cells lie further in than the
    detector takes them to, by about a cell. It learns with that, but others suit it better.

    Args:
        name: of a function there, such as "ResNet50" or "ConvNeXtTiny".
        weights: None for random ones, "imagenet" for those that Keras downloads, or a file of
            weights for the network without its top.
        frozen_stages: ``frozen`` of ``tapped``.

    Returns:
        The preprocessing the network was trained with, the extractor, and its strides.

    Raises:
        UserError: the name is unknown, or the weights cannot be downloaded or read.
        ValueError: ``frozen_stages`` out of range.
    """
    functions = _functions()
    if name not in functions:
        raise UserError(_unknown(name, functions))
    if weights is None or weights == "imagenet":
        model = _build(functions[name], None if weights is None else "imagenet")
    else:
        model = _build(functions[name], None)
        _load(model, Path(weights))
    family = _family(functions[name])
    if family == "efficientnet":  # the one family that cannot be built without preprocessing
        model = keras.Model(model.get_layer("stem_conv_pad").input, model.output, name=model.name)
    extractor = tapped(model, taps_for(model), frozen_stages)
    preprocessing = Normalize(**_OWN_PREPROCESSING.get(name, PREPROCESSING[family]))
    return preprocessing, extractor, strides_of(extractor)


def _functions() -> dict[str, Callable]:
    members = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name: member for name, member in members if _family(member) in PREPROCESSING}


def _family(function: Callable) -> str:
    return function.__module__.rpartition(".")[2]


def _build(function: Callable, weights: str | None) -> keras.Model:
    options: dict[str, Any] = {"include_top": False, "input_shape": (None, None, 3)}
    if "include_preprocessing" in inspect.signature(function).parameters:
        options["include_preprocessing"] = False
    with warnings.catch_warnings():
        # MobileNets say that they take their weights for 224 pixels, which is what we want.
        warnings.filterwarnings("ignore", "`input_shape` is undefined")
        try:
            return function(weights=weights, **options)
        except Exception as error:  # Keras has no error of its own for a failed download
            if "URL fetch failure" not in str(error):
                raise
            raise UserError(
                f"The ImageNet weights of {function.__name__} could not be downloaded ({error}). "
                "Fetch that file by other means and name it with --weights FILE."
            ) from error


def _load(model: keras.Model, path: Path) -> None:
    """Read a file of weights as Keras reads its own."""
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}.")
    try:
        read_keras_h5(path)  # refuses what Keras would follow, or unpack without end
        model.load_weights(path)
    except DAMAGE as error:
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise UserError(f"{path} holds no weights for {model.name}: {reason}") from error


def _unknown(name: str, functions: dict[str, Callable]) -> str:
    if name.startswith("NASNet"):
        return f"{name} takes pictures of one size only. Choose another of keras.applications."
    lower = {known.lower(): known for known in functions}
    near = [lower[key] for key in difflib.get_close_matches(name.lower(), lower)]
    choice = f"Did you mean {' or '.join(near)}?" if near else f"Choose of: {', '.join(functions)}."
    return f"keras.applications has no network {name!r}. {choice}"
