"""The options by which older detectors' weights keep their results."""

import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.layers import Conv2D, Normalize
from frcnn.models.resnet import KERAS, ResNetVariant, resnet50
from frcnn.models.roi_head import RoIHead
from frcnn.models.rpn import AnchorGrid, ProposalRule, RegionProposalNetwork, to_whole_cells
from frcnn.models.targets import RoITargetRule, RPNTargetRule
from frcnn.ops.roi_crop import roi_crop
from frcnn.ops.roi_pool import roi_pool
from tiny import tiny_batch

pytestmark = pytest.mark.backend


def whole_cells_by_hand(box, rows, columns):
    x1, y1, x2, y2 = np.float64(box) / 16
    width, height = max(round(x2 - x1), 1), max(round(y2 - y1), 1)
    x1, y1 = round(x1), round(y1)
    right, lower = min(x1 + width, columns - 1), min(y1 + height, rows - 1)
    return [16 * max(x1, 0), 16 * max(y1, 0), 16 * right, 16 * lower]


def test_boxes_become_whole_cells():
    rng = np.random.default_rng(0)
    centres, sides = rng.uniform(-50, 250, (400, 2)), 2 ** rng.uniform(0, 9, (400, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1).astype(np.float32)
    # Of a map of 8 by 12 cells, one picture fills all and one 100 by 120 pixels of it: 7 by 8.
    sizes = np.int32([[128, 192], [100, 120]])
    found = ops.convert_to_numpy(
        to_whole_cells(ops.convert_to_tensor(np.stack([boxes] * 2)), 16, (8, 12), sizes)
    )
    for picture, shape in enumerate([(8, 12), (7, 8)]):
        expected = [whole_cells_by_hand(box, *shape) for box in boxes]
        np.testing.assert_array_equal(found[picture], expected)


def test_a_map_smaller_than_its_picture_decides_where_cells_end():
    """A picture of 40 pixels has two whole cells of 16, and so a map without padding."""
    box = ops.convert_to_tensor(np.float32([[[0, 0, 90, 90]]]))
    found = ops.convert_to_numpy(to_whole_cells(box, 16, (2, 3), np.int32([[40, 56]])))
    assert found.tolist() == [[[0, 0, 32, 16]]]


def lively_rpn(**options) -> RegionProposalNetwork:
    keras.utils.set_random_seed(0)
    grid = AnchorGrid((8, 16), ((20.0, 40.0), (40.0, 80.0)), offset=0.0)
    rule = ProposalRule(10**6, 40)
    rpn = RegionProposalNetwork(grid, channels=4, training=rule, inference=rule, **options)
    rpn.build([(1, 8, 12, 3), (1, 4, 6, 3)])
    for layer in (rpn.objectness, rpn.deltas):
        layer.kernel.assign(40 * ops.convert_to_numpy(layer.kernel))
    return rpn


@pytest.mark.parametrize(("whole", "depth"), [(False, 0), (True, 1)])
def test_proposals_of_each_level_lie_on_its_cells(whole, depth):
    rpn = lively_rpn(whole_cells=whole, depth=depth)
    again = RegionProposalNetwork.from_config(rpn.get_config())
    assert again.whole_cells is whole and len(again.hidden) == depth
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=shape).astype("f4") for shape in ((1, 8, 12, 3), (1, 4, 6, 3))]
    shapes, sizes = [(8, 12), (4, 6)], np.int32([[64, 96]])
    proposals, valid, origins = map(
        ops.convert_to_numpy, rpn.propose(*rpn(maps), shapes, sizes, False)
    )
    proposals, origins = proposals[valid], origins[valid]
    assert len(proposals) > 10 and len(set(origins >= 8 * 12 * 6)) == 2
    stride = np.where(origins >= 8 * 12 * 6, 16, 8)[:, None]
    on_cells = (proposals % stride == 0).all(axis=1)
    assert on_cells.all() if whole else not on_cells.all()
    assert (proposals[:, 2:] > proposals[:, :2]).all()
    if whole:
        assert (proposals[:, 2:] <= np.int32([96, 64]) - stride).all()


@pytest.mark.parametrize(("pooling", "function"), [("pool", roi_pool), ("crop", roi_crop)])
def test_a_head_pools_as_it_is_told(pooling, function):
    head = RoIHead(2, strides=(16,), units=(5,), pool_size=3, pooling=pooling)
    head.build([(1, 6, 8, 4)])
    rng = np.random.default_rng(2)
    maps = ops.convert_to_tensor(rng.normal(size=(1, 6, 8, 4)).astype("f4"))
    rois = ops.convert_to_tensor(np.float32([[[0, 0, 50, 60], [30, 20, 110, 90]]]))
    logits, _ = head([maps], rois)
    pooled = ops.convert_to_numpy(function(maps, rois, 3, 1 / 16)).reshape(2, -1)
    fc, out = ([ops.convert_to_numpy(w) for w in x.weights] for x in (*head.hidden, head.classify))
    expected = np.maximum(pooled @ fc[0] + fc[1], 0) @ out[0] + out[1]
    np.testing.assert_allclose(ops.convert_to_numpy(logits)[0], expected, atol=1e-5)
    assert RoIHead.from_config(head.get_config()).pooling == pooling


@pytest.mark.parametrize(("pooling", "strides"), [("max", (16,)), ("crop", (8, 16))])
def test_other_poolings_are_refused(pooling, strides):
    with pytest.raises(ValueError, match=f"'{pooling}' for {len(strides)} maps"):
        RoIHead(2, strides, pooling=pooling)


def test_resnets_stem_pools_without_padding():
    def stem(variant):
        network = resnet50(variant, taps=(4,))
        return keras.Model(network.inputs[0], network.get_layer("pool1").output)

    keras.utils.set_random_seed(0)
    padded, bare = stem(KERAS), stem(ResNetVariant(padded_pool=False))
    for ours, theirs in zip(bare.weights, padded.weights, strict=True):
        ours.assign(ops.convert_to_numpy(theirs))
    pixels = np.random.default_rng(3).normal(size=(1, 32, 44, 3)).astype("f4")
    convolved = keras.Model(bare.inputs[0], bare.get_layer("conv1").output)
    maps = ops.convert_to_numpy(convolved(pixels))[0]  # [16, 22, 64]
    expected = [
        [maps[2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max((0, 1)) for x in range(10)]
        for y in range(7)
    ]
    np.testing.assert_array_equal(ops.convert_to_numpy(bare(pixels))[0], expected)
    assert padded(pixels).shape == (1, 8, 11, 64)


def test_a_network_of_whole_cells_trains():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    rule = ProposalRule(60, 20)
    network = FasterRCNN(
        Normalize((127.0,) * 3, (128.0,) * 3),
        keras.Model(inputs, Conv2D(8, 5, 16, "same", activation="relu", name="stem")(inputs)),
        RegionProposalNetwork(
            AnchorGrid((16,), ((24.0,),), offset=0.0), 8, rule, rule, whole_cells=True
        ),
        RoIHead(2, (16,), units=(16,), pool_size=3, pooling="crop"),
        rpn_targets=RPNTargetRule(count=32),
        roi_targets=RoITargetRule(count=16),
    )
    network.compile(keras.optimizers.SGD(0.1))
    kernel = network.extractor.get_layer("stem").kernel
    start = ops.convert_to_numpy(kernel).copy()
    losses = [network.train_on_batch(*tiny_batch(), return_dict=True) for _ in range(2)]
    assert losses[1]["roi_class"] < losses[0]["roi_class"]
    assert (
        np.abs(ops.convert_to_numpy(network.extractor.get_layer("stem").kernel) - start).max() > 0
    )
