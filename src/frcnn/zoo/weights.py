"""Where training starts: ImageNet features, a file, or nothing."""

from __future__ import annotations

from pathlib import Path

import keras

from frcnn.errors import UserError
from frcnn.models.detector import read_model
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.zoo.efficientnet_lite import load_efficientnet_lite0
from frcnn.zoo.keras_h5 import load_vgg16
from frcnn.zoo.matching import MatchReport

# The file that keras.applications downloads, with the digest it checks.
VGG16_TOP = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
VGG16_NO_TOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG16_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
VGG16_DIGEST = "64373286793e3c8b2b4e3219cbf3544b"


def load_weights(network: FasterRCNN, preset: str, weights: str) -> MatchReport | None:
    """Give a network the weights it starts from.

    Args:
        network: of this preset.
        preset: its name.
        weights: "imagenet", "none", a ``.keras`` model of the same preset, or the file that the
            preset's ImageNet weights come in.

    Returns:
        What matched, or None for "none".

    Raises:
        UserError: the file is missing, damaged, or fits no layer of this network.
    """
    if weights == "none":
        return None
    try:
        if Path(weights).suffix == ".keras":
            return _from_model(network, Path(weights))
        if preset == "vgg16":
            path = _vgg16_file() if weights == "imagenet" else weights
            return load_vgg16([network.extractor, network.roi_head], path)
        if weights == "imagenet":
            return load_efficientnet_lite0(network.extractor)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"--weights {weights}: {error}") from error
    raise UserError(f"--weights {weights}: {preset} starts from imagenet, none or a .keras model.")


def _from_model(network: FasterRCNN, path: Path) -> MatchReport:
    """Copy all weights of the same shape; class layers of another class list stay as they are."""
    old = read_model(path).network.weights
    if len(old) != len(network.weights):
        raise UserError(f"{path} is a model of another preset.")
    matched, mismatched = {}, {}
    for ours, theirs in zip(network.weights, old, strict=True):
        if ours.shape == theirs.shape:
            ours.assign(keras.ops.convert_to_numpy(theirs))
            matched[ours.path] = (tuple(ours.shape),)
        else:
            mismatched[ours.path] = f"{tuple(theirs.shape)} there, {tuple(ours.shape)} here"
    return MatchReport(str(path), matched, mismatched, (), ())


def _vgg16_file() -> Path:
    """The ImageNet file in the working folder, else the one that Keras downloads."""
    for name in (VGG16_TOP, VGG16_NO_TOP):
        if Path(name).is_file():
            return Path(name)
    try:
        return Path(
            keras.utils.get_file(
                VGG16_TOP,
                VGG16_ADDRESS + VGG16_TOP,
                cache_subdir="models",
                file_hash=VGG16_DIGEST,
            )
        )
    except Exception as error:  # get_file has no error of its own for a failed download
        raise UserError(
            f"The ImageNet weights of VGG16 could not be downloaded ({error}). Fetch "
            f"{VGG16_ADDRESS}{VGG16_TOP} and name the file with --weights."
        ) from error
