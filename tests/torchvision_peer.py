"""torchvision's detectors with random weights that give many boxes, and ours with the same."""

from __future__ import annotations

import re

import keras
import numpy as np
import torch
import torchvision

from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.rpn import ProposalRule
from frcnn.zoo.presets import build_network
from frcnn.zoo.torchvision import load_detector

CLASSES = 7  # without background
PROPOSALS = 150

# Short and long side, smaller than the presets' own so that the tests are quick.
SIDES = {
    "resnet50_fpn": (192, 320),
    "resnet50_fpn_v2": (160, 256),
    "mobilenet_v3_large_fpn": (256, 427),
    "mobilenet_v3_large_320_fpn": (320, 640),
}


def lively_peer(preset: str, images: list[np.ndarray], seed: int = 0):
    """A torchvision detector of this preset, in evaluation mode, with lively random weights.

    Args:
        preset: our name of the architecture.
        images: uint8 (H, W, 3) each, by which statistics and the outputs' spread are set.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    build = getattr(torchvision.models.detection, f"fasterrcnn_{preset}")
    short, long = SIDES[preset]
    model = build(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        min_size=short,
        max_size=long,
        rpn_post_nms_top_n_test=PROPOSALS,
    ).eval()
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    with torch.no_grad():
        for name, norm in norms.items():
            # Residual branches weigh less than what they are added to, as in trained networks:
            # many at full weight would be chaotic, and blow up the rounding of float32.
            damp = 0.3 if re.search(r"bn3|block\.[23]\.1", name) else 1.0
            draw(norm.weight, 0.5 * damp, 1.0 * damp)
            draw(norm.bias, -0.2, 0.2)
            norm.train()
            norm.momentum = 1.0  # the images' statistics, so that no layer's maps are flat
        model([as_tensor(image) for image in images])
        for norm in norms.values():
            norm.eval()
    predictor = model.roi_heads.box_predictor
    _spread(model, {model.rpn.head.cls_logits: 2.0, model.rpn.head.bbox_pred: 0.2}, images)
    _spread(model, {predictor.cls_score: 1.2, predictor.bbox_pred: 1.0}, images)
    return model


def _spread(model, layers, images) -> None:
    """Scale layers so that their outputs deviate by so much around zero on these images."""
    seen = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda own, _, output: seen[own].append(output.flatten()))
        for layer in layers
    ]
    with torch.no_grad():
        model([as_tensor(image) for image in images])
        for layer, spread in layers.items():
            layer.weight.mul_(spread / torch.cat(seen[layer]).std())
            layer.bias.zero_()
    for hook in hooks:
        hook.remove()


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) as torchvision wants it: float (3, H, W) in 0..1."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def our_network(preset: str, peer):
    """Our network of this preset with the peer's weights."""
    keras.utils.set_random_seed(0)
    network = build_network(preset, CLASSES)
    tensors = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    load_detector(network, tensors, "the peer")
    rule = network.rpn.inference_rule
    network.rpn.inference_rule = ProposalRule(rule.before_nms, PROPOSALS)
    return network


def our_detector(preset: str, network) -> DetectionModel:
    """A detector which resizes and pads as torchvision does."""
    names = tuple(f"class {label}" for label in range(1, CLASSES + 1))
    short, long = SIDES[preset]
    return DetectionModel(network, names, short, long, (), DetectionRule(), "plain")


def peer_stages(peer, image: np.ndarray) -> dict[str, np.ndarray]:
    """What the peer's stages give for one image, laid out as ours."""
    with torch.no_grad():
        batch, _ = peer.transform([as_tensor(image)])
        body = peer.backbone.body(batch.tensors)
        levels = peer.backbone(batch.tensors)
        logits, deltas = peer.rpn.head(list(levels.values()))
        proposals, _ = peer.rpn(batch, levels)
        pooled = peer.roi_heads.box_roi_pool(levels, proposals, batch.image_sizes)
        classes, boxes = peer.roi_heads.box_predictor(peer.roi_heads.box_head(pooled))
    anchors = peer.rpn.anchor_generator(batch, list(levels.values()))[0]
    return {
        "pixels": _channels_last(batch.tensors),
        **{f"body{i}": _channels_last(x) for i, x in enumerate(body.values())},
        **{f"level{i}": _channels_last(x) for i, x in enumerate(levels.values())},
        "anchors": anchors.numpy(),
        "rpn_logits": _by_anchor(logits, 1)[..., 0],
        "rpn_deltas": _by_anchor(deltas, 4),
        "proposals": proposals[0].numpy(),
        "roi_logits": np.roll(classes.numpy(), -1, axis=1),  # background goes last
        "roi_deltas": boxes.numpy().reshape(len(boxes), -1, 4)[:, 1:],
    }


def _channels_last(tensor) -> np.ndarray:
    return tensor.permute(0, 2, 3, 1).numpy()


def _by_anchor(levels, values: int) -> np.ndarray:
    """Maps (B, A * values, H, W) of all levels -> (B, all anchors, values)."""
    rows = [_channels_last(level).reshape(len(level), -1, values) for level in levels]
    return np.concatenate(rows, axis=1)


def peer_detections(peer, image: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes, labels from 0 and scores of one image."""
    with torch.no_grad():
        found = {name: tensor.numpy() for name, tensor in peer([as_tensor(image)])[0].items()}
    return {**found, "labels": found["labels"] - 1}
