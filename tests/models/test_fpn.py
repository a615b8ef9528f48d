from collections import OrderedDict

import keras
import numpy as np
import pytest
import torch
from keras import ops
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from frcnn.models.fpn import FeaturePyramid

pytestmark = pytest.mark.backend

CHANNELS = (5, 7, 9)


def maps(sizes, channels=CHANNELS):
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(2, *size, depth)).astype("float32")
        for size, depth in zip(sizes, channels, strict=True)
    ]


@pytest.mark.parametrize(
    "sizes",
    [
        [(16, 24), (8, 12), (4, 6)],
        [(13, 19), (7, 10), (4, 5)],
        [(9, 4), (5, 2), (3, 1)],
    ],
)
@pytest.mark.parametrize("extra", ["maxpool", None])
def test_levels_are_those_of_torchvision(sizes, extra):
    peer = FeaturePyramidNetwork(list(CHANNELS), 6, LastLevelMaxPool() if extra else None)
    ours = FeaturePyramid(6, extra)
    inputs = maps(sizes)
    ours.build([x.shape for x in inputs])
    with torch.no_grad():
        for parameter in peer.parameters():
            torch.nn.init.normal_(parameter)
        blocks = [*peer.inner_blocks, *peer.layer_blocks]
        for layer, (block,) in zip([*ours.laterals, *ours.smoothings], blocks, strict=True):
            layer.set_weights([block.weight.permute(2, 3, 1, 0).numpy(), block.bias.numpy()])
        named = [(str(i), torch.tensor(x).permute(0, 3, 1, 2)) for i, x in enumerate(inputs)]
        expected = [y.permute(0, 2, 3, 1).numpy() for y in peer(OrderedDict(named)).values()]
    got = [ops.convert_to_numpy(y) for y in ours(inputs)]
    shapes = ours.compute_output_shape([x.shape for x in inputs])
    assert [y.shape for y in got] == shapes == [y.shape for y in expected]
    for y, z in zip(got, expected, strict=True):
        np.testing.assert_allclose(y, z, atol=1e-4)


def test_kernels_start_as_torchvisions():
    keras.utils.set_random_seed(0)
    ours = FeaturePyramid(64)
    ours.build([(None, 8, 8, 48)])
    for layer, fan_in in ((ours.laterals[0], 48), (ours.smoothings[0], 9 * 64)):
        kernel, bias = layer.get_weights()
        bound = np.sqrt(3 / fan_in)  # kaiming_uniform_(a=1)
        assert 0.98 * bound < np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)
        assert not bias.any()


def test_pyramid_survives_saving(tmp_path):
    inputs = [keras.Input((None, None, depth)) for depth in CHANNELS]
    model = keras.Model(inputs, FeaturePyramid(4)(inputs))
    model.save(tmp_path / "fpn.keras")
    again = keras.models.load_model(tmp_path / "fpn.keras")
    x = maps([(8, 8), (4, 4), (2, 2)])
    for got, expected in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(got), ops.convert_to_numpy(expected))


def test_one_map_alone_is_a_pyramid():
    levels = FeaturePyramid(4)([np.ones((1, 5, 5, 3), "float32")])
    assert [tuple(level.shape) for level in levels] == [(1, 5, 5, 4), (1, 3, 3, 4)]


def test_unknown_extra_level_is_an_error():
    with pytest.raises(ValueError, match="'p6p7'"):
        FeaturePyramid(4, "p6p7")
