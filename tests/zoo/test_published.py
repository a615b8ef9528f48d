"""Checkpoints that others published, served here by a server of our own."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import frcnn
import torchvision_peer as peers
from frcnn.errors import UserError
from frcnn.zoo import references
from frcnn.zoo.coco_labels import COCO_LABELS
from frcnn.zoo.presets import PRESETS, build_network, preset
from frcnn.zoo.torchvision import class_count


def test_names_addresses_and_checksums_are_torchvisions():
    from torchvision.models import detection, get_weight

    for chosen in PRESETS.values():
        if chosen.published:
            build = getattr(detection, chosen.published.name)
            assert build.__name__ == chosen.published.name
            weights = next(
                getattr(detection, name).COCO_V1
                for name in dir(detection)
                if name.lower().replace("_", "")
                == chosen.published.name.replace("_", "") + "weights"
            )
            assert weights.url == chosen.published.address
            assert weights.meta["_metrics"]["COCO-val2017"]["box_map"] == chosen.published.ap
    assert (
        preset("resnet50_fpn").features.address == get_weight("ResNet50_Weights.IMAGENET1K_V1").url
    )
    assert (
        preset("mobilenet_v3_large_fpn").features.address
        == get_weight("MobileNet_V3_Large_Weights.IMAGENET1K_V1").url
    )


def test_labels_are_cocos():
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    theirs = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    pairs = zip(COCO_LABELS, theirs, strict=True)
    assert all(ours == name or (name == "N/A" and "unused" in ours) for ours, name in pairs)
    assert len(set(COCO_LABELS)) == 90


@pytest.mark.parametrize("name", [name for name, each in PRESETS.items() if each.published])
def test_as_many_parameters_as_torchvisions(name):
    import torchvision

    build = getattr(torchvision.models.detection, PRESETS[name].published.name)
    peer = build(weights=None, weights_backbone=None, num_classes=91)
    theirs = sum(each.numel() for each in peer.parameters())
    network = build_network(name, 90)
    # Frozen statistics are no parameters there; the four deltas of background are none here.
    ours = sum(
        int(np.prod(variable.shape))
        for variable in network.weights
        if not variable.path.endswith(("moving_mean", "moving_variance", "seed_generator_state"))
    )
    units = network.roi_head.units[-1]
    assert ours + 4 * (units + 1) == theirs


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small checkpoint under the address of a published one, and a cache of its own."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    peer = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=91
    )
    file = tmp_path / "weights.pth"
    torch.save(peer.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path / "cache"))
    chosen = PRESETS["mobilenet_v3_large_320_fpn"]
    address = f"https://download.pytorch.org/models/tiny-{digest}.pth"
    changed = replace(chosen, published=replace(chosen.published, address=address))
    monkeypatch.setitem(PRESETS, "mobilenet_v3_large_320_fpn", changed)
    return peer, file, address


def test_a_published_detector_is_opened_by_its_name(published, tmp_path):
    peer, file, address = published
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / address.rpartition("/")[2]).write_bytes(file.read_bytes())  # fetched before
    for name in ("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", "mobilenet_v3_large_320_fpn"):
        detector = frcnn.load(name)
        assert detector.classes == COCO_LABELS
        assert (detector.model.short, detector.model.long) == (320, 640)
        assert detector.model.resizing == "plain"
    ours = detector.model.network.rpn.objectness.bias
    np.testing.assert_array_equal(np.asarray(ours), peer.rpn.head.cls_logits.bias.detach().numpy())


def test_a_wrong_checksum_and_no_network_are_one_sentence(published, tmp_path, monkeypatch):
    _, file, address = published
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / address.rpartition("/")[2]).write_bytes(file.read_bytes()[:-1])
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(UserError, match="put it at") as error:
        frcnn.load("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn")
    assert address in str(error.value)
    assert "\n" not in str(error.value)


def test_the_published_epsilon_is_set():
    from frcnn.zoo.torchvision import set_epsilon

    network = build_network("resnet50_fpn", 2)
    set_epsilon(network, 0.0)
    layer = network.extractor.get_layer("conv2_block1_1")
    assert layer.norm.epsilon == 0.0
    assert layer.get_config()["epsilon"] == 0.0


def test_a_file_of_other_classes_keeps_numbers_for_names(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    peer = peers.lively_peer("mobilenet_v3_large_320_fpn", [image + 100, image])
    torch.save({"model": peer.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    model = references.convert_torch(tmp_path / "checkpoint.pth", "mobilenet_v3_large_320_fpn")
    assert model.classes == tuple("1234567")
    with pytest.raises(UserError, match="has 7 classes, but 2 names were given"):
        references.convert_torch(
            tmp_path / "checkpoint.pth", "mobilenet_v3_large_320_fpn", ("a", "b")
        )


def test_classes_are_counted_behind_the_prefix_of_several_gpus():
    bias = {"roi_heads.box_predictor.cls_score.bias": np.zeros(4, np.float32)}
    assert class_count(bias) == 3
    assert class_count({f"module.{name}": value for name, value in bias.items()}) == 3
