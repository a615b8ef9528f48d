"""The networks of ``keras.applications`` as feature extractors, by the names they have there."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from frcnn.errors import UserError
from frcnn.models.keras_extractor import strides_of, tapped, taps_for
from frcnn.models.layers import Normalize

# What ``preprocess_input`` of a family does, as Keras calls it.
_CAFFE = {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "order": "bgr"}
_TENSORFLOW = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}
_TORCH = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_INSIDE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}  # the network begins with it

# Module of ``keras.applications`` -> arguments of ``Normalize``.
PREPROCESSING: dict[str, dict[str, Any]] = {
    "convnext": _INSIDE,
    "densenet": _TORCH,
    "efficientnet": _INSIDE,
    "efficientnet_v2": _INSIDE,
    "inception_resnet_v2": _TENSORFLOW,
    "inception_v3": _TENSORFLOW,
    "mobilenet": _TENSORFLOW,
    "mobilenet_v2": _TENSORFLOW,
    "mobilenet_v3": _INSIDE,
    "resnet": _CAFFE,
    "resnet_v2": _TENSORFLOW,
    "vgg16": _CAFFE,
    "vgg19": _CAFFE,
    "xception": _TENSORFLOW,
}


def extractor_names() -> tuple[str, ...]:
    """The names that ``build_extractor`` knows; NASNet, which takes one size only, is not there."""
    return tuple(_functions())


def build_extractor(
    name: str, weights: str | Path | None = None, frozen_stages: int = 0
) -> tuple[Normalize, keras.Model, tuple[int, ...]]:
    """A network of ``keras.applications`` down to its deepest maps of stride 8, 16 and 32.

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
    family = _family(functions[name])
    if weights is None or weights == "imagenet":
        model = _build(functions[name], weights)
    else:
        model = _build(functions[name], None)
        _load(model, family, Path(weights))
    extractor = tapped(model, taps_for(model), frozen_stages)
    return Normalize(**PREPROCESSING[family]), extractor, strides_of(extractor)


def _functions() -> dict[str, Callable]:
    members = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name: member for name, member in members if _family(member) in PREPROCESSING}


def _family(function: Callable) -> str:
    return function.__module__.rpartition(".")[2]


def _build(function: Callable, weights: str | None) -> keras.Model:
    with warnings.catch_warnings():
        # MobileNets say that they take their weights for 224 pixels, which is what we want.
        warnings.filterwarnings("ignore", "`input_shape` is undefined")
        try:
            return function(include_top=False, weights=weights, input_shape=(None, None, 3))
        except Exception as error:  # Keras has no error of its own for a failed download
            if "URL fetch failure" not in str(error):
                raise
            raise UserError(
                f"The ImageNet weights of {function.__name__} could not be downloaded ({error}). "
                "Fetch that file by other means and name it with --weights FILE."
            ) from error


def _load(model: keras.Model, family: str, path: Path) -> None:
    """Read a file of weights as Keras reads its own."""
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}.")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise UserError(f"{path} holds no weights for {model.name}: {reason}") from error
    if family == "efficientnet":
        # What the published files call the variance is the deviation; for them Keras adds a
        # layer that divides by its root once more.
        norm = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
        norm.adapt_variance.assign(ops.square(norm.adapt_variance))
        norm.finalize_state()


def _unknown(name: str, functions: dict[str, Callable]) -> str:
    if name.startswith("NASNet"):
        return f"{name} takes pictures of one size only. Choose another of keras.applications."
    lower = {known.lower(): known for known in functions}
    near = [lower[key] for key in difflib.get_close_matches(name.lower(), lower)]
    choice = f"Did you mean {' or '.join(near)}?" if near else f"Choose of: {', '.join(functions)}."
    return f"keras.applications has no network {name!r}. {choice}"
