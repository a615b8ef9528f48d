"""How each architecture is put together.

Every builder takes ``(num_classes, frozen, rois, seed)``: classes without background, stages of
the extractor that keep their weights, RoIs an image that train the second stage, and the seed of
the sampling; and gives a ``FasterRCNN`` with random weights.
"""

from __future__ import annotations

from functools import partial

from frcnn.models.efficientnet_lite import (
    EFFICIENTNET_LITE_PREPROCESSING,
    efficientnet_lite0,
    efficientnet_lite2,
)
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.fpn import FeaturePyramid
from frcnn.models.layers import Normalize
from frcnn.models.mobilenet import mobilenet_v3_large
from frcnn.models.resnet import (
    IMAGENET_PREPROCESSING,
    KERAS,
    ResNetVariant,
    resnet50,
    resnet50_stage5,
)
from frcnn.models.roi_head import RoIHead
from frcnn.models.rpn import AnchorGrid, ProposalRule, RegionProposalNetwork
from frcnn.models.targets import RoITargetRule, RPNTargetRule
from frcnn.models.vgg import VGG_PREPROCESSING, vgg16
from frcnn.zoo.keras_applications import build_extractor

PYRAMID = (4, 8, 16, 32)  # strides of a ResNet's four maps


def lite_fpn(extractor, num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    """An EfficientNet-Lite with a narrow pyramid, made for a CPU."""
    strides = (8, 16, 32)
    anchors = AnchorGrid(
        strides=(*strides, 64),
        sizes=tuple((side, 1.6 * side) for side in (24.0, 48.0, 96.0, 192.0)),
    )
    return FasterRCNN(
        preprocessing=Normalize(**EFFICIENTNET_LITE_PREPROCESSING),
        extractor=extractor(frozen_stages=frozen),
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


efficientnet_lite0_fpn = partial(lite_fpn, efficientnet_lite0)
efficientnet_lite2_fpn = partial(lite_fpn, efficientnet_lite2)


def application_fpn(name: str, num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    """A pyramid on the maps of stride 8, 16 and 32 of a network of ``keras.applications``."""
    preprocessing, extractor, strides = build_extractor(name, frozen_stages=frozen)
    return FasterRCNN(
        preprocessing=preprocessing,
        extractor=extractor,
        neck=FeaturePyramid(256),
        rpn=RegionProposalNetwork(
            AnchorGrid(
                (*strides, 2 * strides[-1]),
                tuple((4.0 * stride, 6.4 * stride) for stride in (*strides, 2 * strides[-1])),
            ),
            training=ProposalRule(2000, 1000),
            inference=ProposalRule(1000, 500),
        ),
        roi_head=RoIHead(num_classes, strides),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


def _single_level_rpn(channels: int) -> RegionProposalNetwork:
    """The paper's: nine anchors on each cell of stride 16."""
    return RegionProposalNetwork(
        AnchorGrid(strides=(16,), sizes=((128.0, 256.0, 512.0),)),
        channels=channels,
        training=ProposalRule(before_nms=12000, after_nms=2000),
        inference=ProposalRule(before_nms=6000, after_nms=300),
    )


def vgg16_single(num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    """VGG16 on one map of stride 16, as in the paper."""
    return FasterRCNN(
        preprocessing=Normalize(**VGG_PREPROCESSING),
        extractor=vgg16(frozen_blocks=frozen),
        rpn=_single_level_rpn(512),
        roi_head=RoIHead(num_classes, strides=(16,), units=(4096, 4096), dropout=0.5),
        rpn_targets=RPNTargetRule(ignore_border=True),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


def resnet50_c4(num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    """ResNet-50 on one map of stride 16, its last stage as the RoI head (He et al. 2016)."""
    return FasterRCNN(
        preprocessing=Normalize(**VGG_PREPROCESSING),
        extractor=resnet50(KERAS, frozen, taps=(16,)),
        rpn=_single_level_rpn(512),
        roi_head=RoIHead(
            num_classes, strides=(16,), units=(), pool_size=14, stage=resnet50_stage5(KERAS)
        ),
        rpn_targets=RPNTargetRule(ignore_border=True),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


def _torchvision_anchors(strides, sizes) -> AnchorGrid:
    sizes = tuple(tuple(map(float, level)) for level in sizes)
    return AnchorGrid(strides, sizes, offset=0.0, rounded=True, floored=True)


def _resnet50_anchors() -> AnchorGrid:
    return _torchvision_anchors((*PYRAMID, 64), [(32 * 2**level,) for level in range(5)])


def resnet50_fpn(num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    """torchvision's ``fasterrcnn_resnet50_fpn``."""
    return FasterRCNN(
        preprocessing=Normalize(**IMAGENET_PREPROCESSING),
        extractor=resnet50(frozen_stages=frozen),
        neck=FeaturePyramid(256),
        rpn=RegionProposalNetwork(
            _resnet50_anchors(),
            training=ProposalRule(2000, 2000),
            inference=ProposalRule(1000, 1000),
        ),
        roi_head=RoIHead(num_classes, PYRAMID, aligned=False),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


def resnet50_fpn_v2(
    num_classes: int, frozen: int, rois: int, seed: int, norm: str = "batch"
) -> FasterRCNN:
    """torchvision's ``fasterrcnn_resnet50_fpn_v2``: deeper heads, batch normalisation in all."""
    return FasterRCNN(
        preprocessing=Normalize(**IMAGENET_PREPROCESSING),
        extractor=resnet50(ResNetVariant(norm=norm), frozen_stages=frozen),
        neck=FeaturePyramid(256, norm=norm),
        rpn=RegionProposalNetwork(
            _resnet50_anchors(),
            training=ProposalRule(2000, 2000),
            inference=ProposalRule(1000, 1000),
            depth=2,
        ),
        roi_head=RoIHead(
            num_classes,
            PYRAMID,
            units=(1024,),
            aligned=False,
            convolutions=(256,) * 4,
            norm=norm,
        ),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


def resnet50_fpn_cascade(num_classes: int, frozen: int, rois: int, seed: int) -> FasterRCNN:
    """ResNet-50 with a pyramid and three box heads (Cai and Vasconcelos 2018)."""
    heads = [
        RoIHead(num_classes, PYRAMID, class_agnostic=True, name=f"box_head{number}")
        for number in (1, 2, 3)
    ]
    rules = [
        RoITargetRule(
            foreground=0.4 + 0.1 * number,
            count=rois,
            weights=(10.0 * number, 10.0 * number, 5.0 * number, 5.0 * number),
        )
        for number in (1, 2, 3)
    ]
    anchors = AnchorGrid((*PYRAMID, 64), tuple((32.0 * 2**level,) for level in range(5)))
    return FasterRCNN(
        preprocessing=Normalize(**IMAGENET_PREPROCESSING),
        extractor=resnet50(frozen_stages=frozen),
        neck=FeaturePyramid(256),
        rpn=RegionProposalNetwork(
            anchors, training=ProposalRule(2000, 2000), inference=ProposalRule(1000, 1000)
        ),
        roi_head=heads[0],
        roi_targets=rules[0],
        cascade=heads[1:],
        cascade_targets=rules[1:],
        seed=seed,
    )


def _mobilenet(before_nms: int, after_nms: int, num_classes, frozen, rois, seed) -> FasterRCNN:
    """torchvision's two detectors over MobileNetV3-Large, whose two maps are both of stride 32."""
    anchors = _torchvision_anchors((32, 32, 64), [(32, 64, 128, 256, 512)] * 3)
    return FasterRCNN(
        preprocessing=Normalize(**IMAGENET_PREPROCESSING),
        extractor=mobilenet_v3_large(frozen_stages=frozen),
        neck=FeaturePyramid(256),
        rpn=RegionProposalNetwork(
            anchors,
            training=ProposalRule(2000, 2000),
            inference=ProposalRule(before_nms, after_nms),
            min_score=0.05,
        ),
        # Of two maps of one stride torchvision pools all RoIs from the first.
        roi_head=RoIHead(num_classes, (32,), aligned=False),
        roi_targets=RoITargetRule(count=rois),
        seed=seed,
    )


mobilenet_v3_large_fpn = partial(_mobilenet, 1000, 1000)
mobilenet_v3_large_320_fpn = partial(_mobilenet, 150, 150)
