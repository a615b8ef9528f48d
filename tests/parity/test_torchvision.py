"""The same weights give the same answers, stage by stage, as in torchvision."""

import os
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import ops

import torchvision_peer as peers
from frcnn.data.images import read_image
from frcnn.inference.predict import Detector

DATA = Path(os.environ.get("FRCNN_DATA", "../shared/data"))
EVERYWHERE = ("resnet50_fpn", "mobilenet_v3_large_320_fpn")
ON_TORCH = ("resnet50_fpn_v2", "mobilenet_v3_large_fpn")
pytestmark = pytest.mark.backend


def photographs() -> list[np.ndarray]:
    """Three photographs of different sizes and shapes, or an empty list."""
    chosen: dict[tuple, np.ndarray] = {}
    for file in sorted((DATA / "coco_tiny").rglob("*.jpg")):
        image = read_image(file)
        chosen.setdefault(image.shape, image)
        if len(chosen) == 3:
            break
    return list(chosen.values())


def drawn() -> np.ndarray:
    """A picture with as much detail at each scale, as photographs have."""
    rng = np.random.default_rng(0)
    image = np.full((300, 417, 3), 127.0)
    for cells in (3, 6, 12, 25, 50, 100, 200):
        octave = rng.normal(0, 60 / cells**0.5, (cells, cells, 3))
        image += cv2.resize(octave, (417, 300), interpolation=cv2.INTER_CUBIC)
    return image.clip(0, 255).astype(np.uint8)


# The first two stand for all on the compiled backends.
PRESETS = (*EVERYWHERE, *ON_TORCH) if keras.config.backend() == "torch" else EVERYWHERE


@pytest.fixture(scope="module", params=PRESETS)
def pair(request):
    """A peer and our detector with its weights."""
    peer = peers.lively_peer(request.param, [drawn(), *photographs()])
    return peer, peers.our_detector(request.param, peers.our_network(request.param, peer))


def assert_close(ours, theirs, name, tolerance=1e-3):
    """Equal to ``tolerance`` of the largest value there is."""
    ours = ops.convert_to_numpy(ours)
    assert ours.shape == theirs.shape, name
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max(), name


def check_stages(peer, model, image):
    theirs = peers.peer_stages(peer, image)
    prepared, size, _ = Detector(model).preparation.apply(image)
    x = {"images": prepared[None], "sizes": np.array([size], np.int32)}
    network = model.network
    pixels = network.preprocessing(x["images"], x["sizes"])
    assert_close(pixels, theirs["pixels"], "pixels", 1e-4)
    for index, ours in enumerate(network.extractor(pixels)):
        assert_close(ours, theirs[f"body{index}"], f"body{index}")
    found = network(x)
    for index, ours in enumerate(found["features"]):
        assert_close(ours, theirs[f"level{index}"], f"level{index}")
    shapes = [feature.shape[1:3] for feature in found["features"]]
    np.testing.assert_array_equal(network.rpn.anchors.boxes(shapes), theirs["anchors"])
    for name in ("rpn_logits", "rpn_deltas"):
        assert_close(found[name], theirs[name], name)
    check_proposals(network, found, theirs)


def check_proposals(network, found, theirs):
    valid = ops.convert_to_numpy(found["valid"])[0]
    proposals = ops.convert_to_numpy(found["proposals"])[0][valid]
    assert len(proposals) == len(theirs["proposals"]) > 20
    distance = np.abs(proposals[:, None] - theirs["proposals"][None]).max(axis=2)
    assert distance.min(axis=1).max() < 0.05  # px; neighbours of equal score may change places
    assert distance.min(axis=0).max() < 0.05
    logits, deltas = network.roi_head(found["features"], theirs["proposals"][None])
    assert_close(logits[0], theirs["roi_logits"], "roi_logits")
    assert_close(deltas[0], theirs["roi_deltas"], "roi_deltas")


def check_detections(peer, model, image):
    theirs = peers.peer_detections(peer, image)
    ours = Detector(model).detect(image)
    assert len(ours) == len(theirs["scores"]) > 20
    # One to one: for each of theirs the nearest of ours of its label, each used once.
    far = np.abs(ours.boxes[None] - theirs["boxes"][:, None]).max(axis=2)
    far[theirs["labels"][:, None] != ours.labels[None]] = np.inf
    match = far.argmin(axis=1)
    assert len(set(match)) == len(ours)
    assert far.min(axis=1).max() < 0.05
    assert np.abs(ours.scores[match] - theirs["scores"]).max() < 1e-4


def test_stages_and_detections_of_a_drawn_picture(pair):
    check_stages(*pair, drawn())
    check_detections(*pair, drawn())


def test_stages_and_detections_of_photographs(pair):
    images = photographs()
    if not images:
        pytest.skip(f"needs the photographs of {DATA / 'coco_tiny'}; set FRCNN_DATA")
    for image in images:
        check_stages(*pair, image)
        check_detections(*pair, image)
