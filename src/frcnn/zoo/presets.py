"""The named architectures: how each is built, sized and started, and what was published for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from frcnn.errors import UserError
from frcnn.models.detector import DetectionRule
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.zoo import builders

APPLICATIONS = "keras_applications:"  # before the name of a network of ``keras.applications``

_PYTORCH = "https://download.pytorch.org/models/"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
_BSD = "BSD-3-Clause (torchvision)"


@dataclass(frozen=True)
class Published:
    """A checkpoint that others trained.

    Args:
        name: what its publisher calls it, ``fasterrcnn_resnet50_fpn``.
        address: where it is fetched; the name ends in the first digits of its SHA-256.
        licence: its licence and publisher.
        long: most pixels of a picture's long side.
        ap: COCO AP on val2017 that was published.
        epsilon: of the extractor's batch normalisations, where it is not the preset's.
    """

    name: str
    address: str
    licence: str
    long: int
    ap: float
    epsilon: float | None = None

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Features:
    """ImageNet weights of an extractor.

    Args:
        kind: who reads them: "lite0", "lite2", "applications", "keras" or "torchvision".
        address: where they are fetched; empty where they come with a package.
        digest: the first digits of the SHA-256, or "md5:" and an MD5.
    """

    kind: str
    address: str = ""
    digest: str = ""

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Preset:
    """One architecture and the settings it is usually trained with.

    Args:
        summary: one line for ``frcnn presets``.
        build: ``(num_classes, frozen, rois, seed) -> FasterRCNN``.
        size: short side of the images in pixels.
        lr: peak learning rate for one image a step; a batch multiplies it.
        frozen: stages of the extractor that keep their weights.
        rois: RoIs an image that train the second stage.
        rule: which boxes a detector returns.
        features: the ImageNet weights that training starts from.
        published: the detector that others trained, if there is one.
    """

    summary: str
    build: Callable[[int, int, int, int], FasterRCNN]
    size: int
    lr: float
    frozen: int
    rois: int
    rule: DetectionRule
    features: Features
    published: Published | None = None


# Boxes of low score lower no precision and add recall, which average precision counts; those who
# look at pictures cut higher.
_PYRAMID_RULE = DetectionRule(score=0.01)
_SINGLE_MAP_RULE = DetectionRule(score=0.01, iou_threshold=0.3)
_RESNET50_V1 = Features("torchvision", _PYTORCH + "resnet50-0676ba61.pth", "0676ba61")
_MOBILENET = Features("torchvision", _PYTORCH + "mobilenet_v3_large-8738ca79.pth", "8738ca79")

PRESETS = {
    "efficientnet_lite0_fpn": Preset(
        summary="EfficientNet-Lite0 with a feature pyramid: the default, made for a CPU",
        build=builders.efficientnet_lite0_fpn,
        size=320,
        lr=0.0025,
        frozen=0,
        rois=256,
        rule=_PYRAMID_RULE,
        features=Features("lite0"),
    ),
    "efficientnet_lite2_fpn": Preset(
        summary="EfficientNet-Lite2 with the same pyramid: a little better, a little slower",
        build=builders.efficientnet_lite2_fpn,
        size=384,
        lr=0.0025,
        frozen=0,
        rois=256,
        rule=_PYRAMID_RULE,
        features=Features("lite2"),
    ),
    "vgg16": Preset(
        summary="VGG16 on one feature map of stride 16: the network of the paper",
        build=builders.vgg16_single,
        size=600,
        lr=0.001,
        frozen=2,
        rois=128,
        rule=_SINGLE_MAP_RULE,
        features=Features(
            "keras",
            _KERAS + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
            "md5:64373286793e3c8b2b4e3219cbf3544b",
        ),
    ),
    "resnet50_c4": Preset(
        summary="ResNet-50 on one feature map of stride 16, its last stage as the head",
        build=builders.resnet50_c4,
        size=600,
        lr=0.001,
        frozen=2,
        rois=128,
        rule=_SINGLE_MAP_RULE,
        features=Features(
            "keras",
            _KERAS + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5:4d473c1dd8becc155b73f8504c6f6626",
        ),
    ),
    "resnet50_fpn": Preset(
        summary="ResNet-50 with a feature pyramid, torchvision's fasterrcnn_resnet50_fpn",
        build=builders.resnet50_fpn,
        size=800,
        lr=0.00125,
        frozen=2,
        rois=512,
        rule=_PYRAMID_RULE,
        features=_RESNET50_V1,
        published=Published(
            name="fasterrcnn_resnet50_fpn",
            address=_PYTORCH + "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
            licence=_BSD,
            long=1333,
            ap=37.0,
            epsilon=0.0,
        ),
    ),
    "resnet50_fpn_v2": Preset(
        summary="the same with deeper heads and batch norm in all, torchvision's ..._v2",
        build=builders.resnet50_fpn_v2,
        size=800,
        lr=0.00125,
        frozen=2,
        rois=512,
        rule=_PYRAMID_RULE,
        features=_RESNET50_V1,
        published=Published(
            name="fasterrcnn_resnet50_fpn_v2",
            address=_PYTORCH + "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
            licence=_BSD,
            long=1333,
            ap=46.7,
        ),
    ),
    "resnet50_fpn_cascade": Preset(
        summary="ResNet-50 with a feature pyramid and a cascade of three box heads",
        build=builders.resnet50_fpn_cascade,
        size=800,
        lr=0.00125,
        frozen=2,
        rois=512,
        rule=_PYRAMID_RULE,
        features=_RESNET50_V1,
    ),
    "mobilenet_v3_large_fpn": Preset(
        summary="MobileNetV3-Large with a pyramid, torchvision's",
        build=builders.mobilenet_v3_large_fpn,
        size=800,
        lr=0.00125,
        frozen=3,
        rois=512,
        rule=_PYRAMID_RULE,
        features=_MOBILENET,
        published=Published(
            name="fasterrcnn_mobilenet_v3_large_fpn",
            address=_PYTORCH + "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
            licence=_BSD,
            long=1333,
            ap=32.8,
        ),
    ),
    "mobilenet_v3_large_320_fpn": Preset(
        summary="the same on small pictures with few proposals, torchvision's ..._320_fpn",
        build=builders.mobilenet_v3_large_320_fpn,
        size=320,
        lr=0.00125,
        frozen=3,
        rois=512,
        rule=_PYRAMID_RULE,
        features=_MOBILENET,
        published=Published(
            name="fasterrcnn_mobilenet_v3_large_320_fpn",
            address=_PYTORCH + "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
            licence=_BSD,
            long=640,
            ap=22.8,
        ),
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UserError: there is none; the names there are, are listed.
    """
    if name.startswith(APPLICATIONS):
        return _application(name.removeprefix(APPLICATIONS))
    if name not in PRESETS:
        near = ", ".join(get_close_matches(name, PRESETS, n=3))
        meant = f" Did you mean {near}?" if near else ""
        raise UserError(
            f"There is no preset {name!r}.{meant} Choose one of: {', '.join(PRESETS)}; or "
            f"{APPLICATIONS}NAME, a network of keras.applications."
        )
    return PRESETS[name]


def _application(name: str) -> Preset:
    """A pyramid on a network of ``keras.applications``."""
    return Preset(
        summary=f"{name} of keras.applications with a feature pyramid",
        build=partial(builders.application_fpn, name),
        size=512,
        lr=0.00125,
        frozen=1,
        rois=256,
        rule=_PYRAMID_RULE,
        features=Features("applications"),
    )


def build_network(
    name: str,
    num_classes: int,
    frozen: int | None = None,
    rois: int | None = None,
    seed: int = 0,
) -> FasterRCNN:
    """A network of this preset with random weights; None takes the preset's value.

    ``seed`` is of the sampling in training; initial weights follow Keras's global seed.
    """
    chosen = preset(name)
    return chosen.build(
        num_classes,
        chosen.frozen if frozen is None else frozen,
        chosen.rois if rois is None else rois,
        seed,
    )
