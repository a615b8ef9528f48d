"""The same weights and pictures give the same losses and gradients in training as in torchvision.

Sampling is made deterministic in both: every anchor and every RoI is kept. So samples differ in
size between pictures, and torchvision divides by that of the batch where here each picture weighs
the same: pictures are taken one by one.
"""

import keras
import numpy as np
import pytest
import torch
from keras import ops

import torchvision_peer as peers
from frcnn.data.resizing import fit_plain, lay
from frcnn.models.faster_rcnn import LOSSES
from frcnn.models.rpn import ProposalRule
from frcnn.models.targets import RoITargetRule, RPNTargetRule

pytestmark = pytest.mark.backend

PRESET = "resnet50_fpn"
ALL = 100_000  # more than there are anchors
KEPT = 300  # proposals an image
CANVASES = ((192, 256), (192, 288))  # of the two pictures, in torchvision as here

# Our weight -> torchvision's, and the axes that bring ours into PyTorch's order. Gradients deeper
# in the extractor agree less and less: a share of 1e-5 of all ReLUs lies so near to 0 that rounding
# decides of them, and each of the fifty layers adds to that.
GRADIENTS = {
    "conv5_block3_3_conv": ("backbone.body.layer4.2.conv3.weight", (3, 2, 0, 1)),
    "lateral1": ("backbone.fpn.inner_blocks.1.0.weight", (3, 2, 0, 1)),
    "rpn_conv1": ("rpn.head.conv.0.0.weight", (3, 2, 0, 1)),
    "fc2": ("roi_heads.box_head.fc7.weight", (1, 0)),
}


def pictures():
    """Two pictures of different sizes with boxes in their own pixels, and labels from 0."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 255, size).astype(np.uint8) for size in ((150, 200, 3), (96, 144, 3))]
    boxes = [
        np.array([[10, 20, 90, 110], [100, 30, 190, 140], [60, 5, 100, 60]], np.float32),
        np.array([[5, 5, 60, 80], [70, 20, 130, 90]], np.float32),
    ]
    return images, boxes, [np.array([0, 3, 6]), np.array([2, 0])]


@pytest.fixture(scope="module")
def peer():
    """torchvision's model in training mode, its normalisation frozen, keeping all it samples."""
    model = peers.lively_peer(PRESET, pictures()[0]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for sampler in (model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image, sampler.positive_fraction = ALL, 1.0
    model.rpn._post_nms_top_n = dict.fromkeys(("training", "testing"), KEPT)
    return model


@pytest.fixture(scope="module")
def network(peer):
    ours = peers.our_network(PRESET, peer)
    ours.rpn.training_rule = ProposalRule(2000, KEPT)
    ours.rpn_rule = RPNTargetRule(count=ALL, fraction=1.0)
    ours.roi_rules = (RoITargetRule(count=KEPT + 4, fraction=1.0),)
    return ours


def our_batch(picture):
    image, boxes, labels = (each[picture] for each in pictures())
    canvas = CANVASES[picture]
    resized, (down, across) = fit_plain(image, *peers.SIDES[PRESET], canvas)
    pixels = np.empty((*canvas, 3), np.float32)
    lay(resized, pixels)
    x = {"images": pixels[None], "sizes": np.array([resized.shape[:2]], np.int32)}
    y = {"boxes": np.full((1, 4, 4), -1, np.float32), "labels": np.full((1, 4), -1, np.int32)}
    y["boxes"][0, : len(boxes)] = boxes * np.array([across, down, across, down], np.float32)
    y["labels"][0, : len(boxes)] = labels
    return x, y


def our_losses(network, picture):
    x, y = our_batch(picture)
    for mean in network.loss_means:
        mean.reset_state()
    found = network(x, training=True)
    total = network.compute_loss(x, y, found, training=True)
    return total, {mean.name: float(mean.result()) for mean in network.loss_means}


def peer_losses(peer, picture):
    image, boxes, labels = (each[picture] for each in pictures())
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels + 1)}
    losses = peer([peers.as_tensor(image)], [target])
    order = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    return sum(losses.values()), [losses[name].item() for name in order]


@pytest.mark.parametrize("picture", range(2))
def test_the_four_losses(peer, network, picture):
    _, ours = our_losses(network, picture)
    with torch.no_grad():
        _, theirs = peer_losses(peer, picture)
    assert [ours[name] for name in LOSSES] == pytest.approx(theirs, rel=1e-3)
    assert min(theirs) > 1e-4


@pytest.mark.skipif(keras.config.backend() != "torch", reason="PyTorch's own gradients")
@pytest.mark.parametrize("picture", range(2))
def test_gradients(peer, network, picture):
    total, _ = our_losses(network, picture)
    network.zero_grad()
    total.backward()
    peer.zero_grad()
    peer_losses(peer, picture)[0].backward()
    theirs = dict(peer.named_parameters())
    weights = {
        variable.path.split("/")[-2]: variable
        for variable in network.trainable_variables
        if variable.name == "kernel"
    }
    for name, (peer_name, axes) in GRADIENTS.items():
        ours = ops.convert_to_numpy(weights[name].value.grad).transpose(axes)
        wanted = theirs[peer_name].grad.numpy()
        assert np.linalg.norm(ours - wanted) <= 1e-3 * np.linalg.norm(wanted) > 0, name
