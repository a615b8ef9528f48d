"""The named architectures: how each is built, sized and started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frcnn.errors import UserError
from frcnn.models.detector import DetectionRule
from frcnn.models.efficientnet_lite import EFFICIENTNET_LITE_PREPROCESSING, efficientnet_lite0
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.fpn import FeaturePyramid
from frcnn.models.layers import Normalize
from frcnn.models.roi_head import RoIHead
from frcnn.models.rpn import AnchorGrid, ProposalRule, RegionProposalNetwork
from frcnn.models.targets import RoITargetRule, RPNTargetRule
from frcnn.models.vgg import VGG_PREPROCESSING, vgg16


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
    """

    summary: str
    build: Callable[[int, int, int, int], FasterRCNN]
    size: int
    lr: float
    frozen: int
    rois: int
    rule: DetectionRule


def _efficientnet_lite0_fpn(num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    strides = (8, 16, 32)
    anchors = AnchorGrid(
        strides=(*strides, 64),
        sizes=tuple((side, 1.6 * side) for side in (24.0, 48.0, 96.0, 192.0)),
    )
    return FasterRCNN(
        preprocessing=Normalize(**EFFICIENTNET_LITE_PREPROCESSING),
        extractor=efficientnet_lite0(frozen_stages=frozen),
        neck=FeaturePyramid(128, extra="maxpool"),
        rpn=RegionProposalNetwork(
            anchors,
            channels=128,
            training=ProposalRule(before_nms=1000, after_nms=500),
            inference=ProposalRule(before_nms=1000, after_nms=300),
        ),
        roi_head=RoIHead(num_classes, strides),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


def _vgg16(num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    anchors = AnchorGrid(strides=(16,), sizes=((128.0, 256.0, 512.0),))
    return FasterRCNN(
        preprocessing=Normalize(**VGG_PREPROCESSING),
        extractor=vgg16(frozen_blocks=frozen),
        rpn=RegionProposalNetwork(
            anchors,
            channels=512,
            training=ProposalRule(before_nms=12000, after_nms=2000),
            inference=ProposalRule(before_nms=6000, after_nms=300),
        ),
        roi_head=RoIHead(num_classes, strides=(16,), units=4096, dropout=0.5),
        rpn_targets=RPNTargetRule(ignore_border=True),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


PRESETS = {
    "efficientnet_lite0_fpn": Preset(
        summary="EfficientNet-Lite0 with a feature pyramid: the default, made for a CPU",
        build=_efficientnet_lite0_fpn,
        size=320,
        lr=0.0025,
        frozen=0,
        rois=128,
        rule=DetectionRule(iou_threshold=0.5),
    ),
    "vgg16": Preset(
        summary="VGG16 on one feature map of stride 16: the network of the paper",
        build=_vgg16,
        size=600,
        lr=0.001,
        frozen=2,
        rois=128,
        rule=DetectionRule(iou_threshold=0.3),
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UserError: there is none; the names there are, are listed.
    """
    if name not in PRESETS:
        raise UserError(f"There is no preset {name!r}. Choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


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
