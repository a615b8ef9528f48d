"""ImageNet classifiers of torchvision and Keras give their own features in our extractors."""

import keras
import numpy as np
import pytest
import torch
import torchvision
from keras import ops

from frcnn.errors import UserError
from frcnn.zoo.presets import build_network
from frcnn.zoo.weights import load_weights

pytestmark = pytest.mark.backend

IMAGE = np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3)).astype(np.uint8)
SIZES = np.array([[64, 96]], np.int32)


def lively(model):
    """Batch statistics that are not 0 and 1."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def features(network):
    maps = network.extractor(network.preprocessing(IMAGE, SIZES))
    return [ops.convert_to_numpy(each) for each in (maps if isinstance(maps, list) else [maps])]


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max() > 0


def pixels():
    x = torch.from_numpy(IMAGE).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_resnet50_of_torchvision(tmp_path, suffix):
    peer = lively(torchvision.models.resnet50(weights=None))
    file = tmp_path / f"resnet50.{suffix}"
    if suffix == "pth":
        torch.save(peer.state_dict(), file)
    else:
        from safetensors.torch import save_file

        save_file(peer.state_dict(), file)
    network = build_network("resnet50_fpn", 3)
    report = load_weights(network, "resnet50_fpn", str(file), ("a", "b", "c"))
    assert report.left_over == ("fc",)
    assert not report.missing
    with torch.no_grad():
        x = peer.maxpool(peer.relu(peer.bn1(peer.conv1(pixels()))))
        for ours, stage in zip(
            features(network), (peer.layer1, peer.layer2, peer.layer3, peer.layer4), strict=True
        ):
            x = stage(x)
            assert_close(ours, x.permute(0, 2, 3, 1).numpy())


def test_mobilenet_of_torchvision(tmp_path):
    peer = torchvision.models.mobilenet_v3_large(weights=None)
    for module in lively(peer).modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5  # the detector's; the classifier trains with 1e-3
    torch.save(peer.state_dict(), tmp_path / "mobilenet.pth")
    network = build_network("mobilenet_v3_large_fpn", 3)
    report = load_weights(network, "mobilenet_v3_large_fpn", str(tmp_path / "mobilenet.pth"))
    assert report.left_over == ("classifier.0", "classifier.3")
    with torch.no_grad():
        x = pixels()
        for index, layer in enumerate(peer.features):
            x = layer(x)
            if index in (13, 16):
                assert_close(features(network)[int(index == 16)], x.permute(0, 2, 3, 1).numpy())


def test_resnet50_of_keras(tmp_path):
    keras.utils.set_random_seed(0)
    peer = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 96, 3))
    rng = np.random.default_rng(0)
    for variable in peer.weights:
        if variable.name in ("moving_mean", "bias", "beta"):
            variable.assign(rng.uniform(-0.1, 0.1, variable.shape))
        elif variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    peer.save_weights(tmp_path / "resnet50.weights.h5")
    network = build_network("resnet50_c4", 3)
    report = load_weights(network, "resnet50_c4", str(tmp_path / "resnet50.weights.h5"))
    assert not report.missing  # the head's stage included
    assert not report.left_over
    x = keras.applications.resnet50.preprocess_input(IMAGE.astype(np.float32))
    stages = [peer.get_layer(name).output for name in ("conv4_block6_out", "conv5_block3_out")]
    c4, c5 = keras.Model(peer.input, stages)(x)
    (ours,) = features(network)
    assert_close(ours, ops.convert_to_numpy(c4))
    assert_close(ops.convert_to_numpy(network.roi_head.stage(ours)), ops.convert_to_numpy(c5))


def test_weights_for_another_preset_are_one_sentence(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="vgg16 has no features that torchvision trains"):
        load_weights(build_network("vgg16", 1), "vgg16", str(tmp_path / "x.pth"))
    network = build_network("mobilenet_v3_large_fpn", 1)
    with pytest.raises(UserError, match="mobilenet_v3_large_fpn has no features that Keras"):
        load_weights(network, "mobilenet_v3_large_fpn", str(tmp_path / "x.h5"))
    with pytest.raises(UserError, match="No weights of .*x.pth fit any layer"):
        load_weights(network, "mobilenet_v3_large_fpn", str(tmp_path / "x.pth"))
