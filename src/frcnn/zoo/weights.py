"""Where training starts: ImageNet features, someone's detector, a file, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from frcnn.errors import UserError
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.zoo.download import fetch
from frcnn.zoo.efficientnet_lite import (
    efficientnet_lite2_file,
    load_efficientnet_lite0,
    load_efficientnet_lite2,
)
from frcnn.zoo.keras_applications import build_extractor
from frcnn.zoo.keras_h5 import load_vgg16, read_keras_h5, resnet_layer_names
from frcnn.zoo.matching import MatchReport, load_by_name
from frcnn.zoo.presets import APPLICATIONS, Preset
from frcnn.zoo.presets import preset as preset_of
from frcnn.zoo.references import (
    TORCH_SUFFIXES,
    convert_torch,
    is_published,
    model_file,
    open_model,
    read_tensors,
)
from frcnn.zoo.torchvision import PARALLEL, load_features
from frcnn.zoo.transfer import transfer

VGG16_NO_TOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_SUFFIXES = (".h5", ".hdf5")
FILE_SUFFIXES = (*TORCH_SUFFIXES, *KERAS_SUFFIXES, ".keras")
OTHERS = ("imagenet", "none", "a .pth, .safetensors or .h5 file")  # than trained detectors


def find_weights(preset: str, weights: str) -> None:
    """Have the file that ``load_weights`` is going to read, before anything else takes long.

    Args:
        preset: name of an architecture.
        weights: as of ``load_weights``; models that others publish are left for later.

    Raises:
        UserError: there is no such file, or it cannot be downloaded.
    """
    if weights == "imagenet":
        chosen = preset_of(preset)
        if chosen.features.kind == "lite2":
            efficientnet_lite2_file()
        if chosen.features.kind in ("keras", "torchvision"):
            with _named(weights):
                _features_file(chosen)
    elif weights == "none" or is_published(weights):
        return
    elif Path(weights).suffix.lower() not in FILE_SUFFIXES:
        with _named(weights):
            model_file(weights, OTHERS)
    elif not Path(weights).is_file():
        raise UserError(f"--weights {weights}: there is no such file.")


def load_weights(
    network: FasterRCNN, preset: str, weights: str, classes: tuple[str, ...] = ()
) -> MatchReport | None:
    """Give a network the weights it starts from.

    Args:
        network: of this preset.
        preset: its name.
        weights: "imagenet"; "none"; a trained detector, by any reference that ``frcnn.load``
            takes; or a file: of a torchvision detector or ImageNet classifier (``.pth``, ``.pt``,
            ``.safetensors``), or Keras's ImageNet weights (``.h5``).
        classes: of the network; outputs for classes of these names are kept.

    Returns:
        What matched, or None for "none".

    Raises:
        UserError: the file is missing, damaged, or fits no layer of this network.
    """
    if weights == "none":
        return None
    with _named(weights):
        if weights == "imagenet":
            return _imagenet(network, preset)
        suffix = Path(weights).suffix.lower()
        if suffix in TORCH_SUFFIXES:
            return _torch_file(network, preset, weights, classes)
        if suffix in KERAS_SUFFIXES:
            return _keras_file(network, preset, Path(weights))
        model = open_model(weights, OTHERS)
        return transfer(network, classes, model.network, model.classes, weights)


@contextmanager
def _named(weights: str) -> Iterator[None]:
    """Say in errors which setting they come from."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"--weights {weights}: {error}") from error


def _imagenet(network: FasterRCNN, preset: str) -> MatchReport:
    chosen = preset_of(preset)
    kind = chosen.features.kind
    if kind == "lite0":
        return load_efficientnet_lite0(network.extractor)
    if kind == "lite2":
        return load_efficientnet_lite2(network.extractor)
    if kind == "applications":
        return _application(network, preset, "imagenet")
    path = _features_file(chosen)
    if kind == "torchvision":
        return load_features(network.extractor, read_tensors(path), str(path))
    return _keras_file(network, preset, path)


def _features_file(chosen: Preset) -> Path:
    """The ImageNet file in the working folder, else the one of the cache, else downloaded."""
    features = chosen.features
    names = [features.file] + [VGG16_NO_TOP] * ("vgg16" in features.file)
    for name in names:
        if Path(name).is_file():
            return Path(name)
    return fetch(features.address, digest=features.digest)


def _torch_file(network: FasterRCNN, preset: str, weights: str, classes) -> MatchReport:
    tensors = read_tensors(weights)
    if any(name.removeprefix(PARALLEL).startswith("roi_heads.") for name in tensors):
        model = convert_torch(weights, preset)
        return transfer(network, classes, model.network, model.classes, weights)
    if preset_of(preset).features.kind != "torchvision":
        raise UserError(f"--weights {weights}: {preset} has no features that torchvision trains.")
    return load_features(network.extractor, tensors, weights)


def _keras_file(network: FasterRCNN, preset: str, path: Path) -> MatchReport:
    kind = preset_of(preset).features.kind
    if preset.startswith(APPLICATIONS):
        return _application(network, preset, path)
    if kind != "keras":
        raise UserError(f"--weights {path}: {preset} has no features that Keras trains.")
    if preset == "vgg16":
        return load_vgg16([network.extractor, network.roi_head], path)
    source = resnet_layer_names(read_keras_h5(path))
    return load_by_name([network.extractor, network.roi_head.stage], source, str(path))


def _application(network: FasterRCNN, preset: str, weights: str | Path) -> MatchReport:
    """Of a network of ``keras.applications``, which reads its files itself."""
    name = preset.removeprefix(APPLICATIONS)
    _, extractor, _ = build_extractor(name, weights)
    for ours, theirs in zip(network.extractor.weights, extractor.weights, strict=True):
        ours.assign(keras.ops.convert_to_numpy(theirs))
    matched = {layer.name: tuple(w.shape for w in layer.weights) for layer in extractor.layers}
    matched = {name: shapes for name, shapes in matched.items() if shapes}
    return MatchReport(f"{name}, {weights}", matched, {}, (), ())
