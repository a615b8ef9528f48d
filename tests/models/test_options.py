"""The options that are not every preset's: each trains, is saved, and does what it says."""

import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.faster_rcnn import LOSSES, NOT_FINITE
from frcnn.models.layers import Conv2D, DepthwiseConv2D, MaxPool2D
from frcnn.models.normalization import BatchNorm, ConvNorm
from frcnn.models.resnet import resnet50, resnet50_stage5
from frcnn.models.targets import RoITargetRule
from tiny import CANVAS, CLASSES, tiny_batch, tiny_detector, tiny_head, tiny_network

pytestmark = pytest.mark.backend


def cascade(**options):
    """Three class-agnostic heads."""
    rules = [
        RoITargetRule(
            foreground=0.5 + 0.1 * k, weights=(10.0 * (k + 1),) * 2 + (5.0 * (k + 1),) * 2
        )
        for k in (1, 2)
    ]
    heads = [tiny_head(class_agnostic=True, name=f"box_head{k}") for k in (2, 3)]
    return tiny_network(
        head={"class_agnostic": True}, cascade=heads, cascade_targets=rules, **options
    )


def stage():
    """Two strided convolutions that RoIs pass through, without fully connected layers after."""
    inputs = keras.Input((None, None, 8))
    x = Conv2D(12, 3, 2, padding="symmetric", activation="relu")(inputs)
    return keras.Model(inputs, x)


NETWORKS = {
    "class-agnostic": lambda: tiny_network(head={"class_agnostic": True}),
    "convolutions": lambda: tiny_network(head={"convolutions": (8, 4), "units": (16, 12, 8)}),
    "plain convolutions": lambda: tiny_network(head={"convolutions": (8,), "norm": None}),
    "batch norm": lambda: tiny_network(
        neck={"norm": "batch"}, head={"convolutions": (8,), "norm": "batch", "units": (16,)}
    ),
    "stage": lambda: tiny_network(head={"stage": stage(), "units": (), "pool_size": 6}),
    "giou": lambda: tiny_network(box_loss="giou"),
    "cascade": cascade,
    "cascade of giou": lambda: cascade(box_loss="giou"),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def test_it_learns_and_is_saved(network, tmp_path):
    x, y = tiny_batch()
    network.compile(keras.optimizers.SGD(0.02, momentum=0.9))
    losses = [network.train_on_batch(x, y, return_dict=True) for _ in range(25)]
    assert set(losses[0]) == {"loss", *LOSSES, *NOT_FINITE}
    values = [float(each["loss"]) for each in losses]
    assert np.isfinite(values).all()
    assert values[-1] < 0.95 * values[0]
    model = DetectionModel(network, CLASSES, 64, 96, (CANVAS,), DetectionRule(score=0.0))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in model(x).items():
        other = ops.convert_to_numpy(copy(x)[name])
        np.testing.assert_allclose(ops.convert_to_numpy(value), other, atol=1e-4)


def test_class_agnostic_boxes_are_the_same_for_all_classes():
    network = tiny_network(head={"class_agnostic": True})
    x, _ = tiny_batch()
    found = network(x)
    scores, boxes = network.classify(found["features"], found["proposals"], x["sizes"])
    assert boxes.shape[2] == 1
    assert scores.shape[2] == 2
    model = DetectionModel(network, CLASSES, 64, 96, (CANVAS,), DetectionRule(score=0.0, count=50))
    one = {name: ops.convert_to_numpy(value)[0] for name, value in model(x).items()}
    boxes = {label: one["boxes"][one["labels"] == label] for label in (0, 1)}
    distance = np.abs(boxes[0][:, None] - boxes[1][None]).max(axis=2)
    assert distance.min(axis=1)[:5].max() < 1e-3  # the best survive NMS in both classes


def test_each_head_of_a_cascade_refines_the_boxes_of_the_one_before():
    network = cascade()
    x, _ = tiny_batch()
    found = network(x)
    heads = network.roi_heads
    for number, head in enumerate(heads):
        # Each head moves boxes by a tenth of their width, whatever it sees.
        head.regress.kernel.assign(0 * ops.convert_to_numpy(head.regress.kernel))
        shift = 0.1 * network.roi_rules[number].weights[0]
        head.regress.bias.assign(np.array([shift, 0, 0, 0], np.float32))
    sizes = np.full((2, 2), 10_000)  # nothing is clipped
    proposals = ops.convert_to_numpy(found["proposals"])
    _, boxes = network.classify(found["features"], proposals, sizes)
    width = proposals[..., 2] - proposals[..., 0]
    moved = ops.convert_to_numpy(boxes)[:, :, 0] - proposals
    np.testing.assert_allclose(moved[..., 0], 0.3 * width, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(moved[..., 1], 0, atol=1e-4)


def test_a_cascade_needs_targets_and_shared_boxes():
    with pytest.raises(ValueError, match="as many `cascade_targets`"):
        tiny_network(head={"class_agnostic": True}, cascade=[tiny_head(class_agnostic=True)])
    with pytest.raises(ValueError, match="class_agnostic=True"):
        tiny_network(cascade=[tiny_head()], cascade_targets=[RoITargetRule()])
    with pytest.raises(ValueError, match="box_loss"):
        tiny_network(box_loss="l7")


def test_soft_nms_keeps_what_hard_nms_drops():
    x, _ = tiny_batch()
    hard = tiny_detector()
    soft = DetectionModel(
        hard.network, CLASSES, 64, 96, (CANVAS,), DetectionRule(0.0, 0.5, 20, soft_sigma=0.5)
    )
    first, second = hard(x), soft(x)
    best = [float(ops.convert_to_numpy(found["scores"])[0, 0]) for found in (first, second)]
    assert best[0] == pytest.approx(best[1], rel=1e-5)  # the most confident box is untouched
    scores = ops.convert_to_numpy(second["scores"])
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    assert int(ops.convert_to_numpy(second["count"])[0]) >= int(
        ops.convert_to_numpy(first["count"])[0]
    )
    assert np.abs(scores - ops.convert_to_numpy(first["scores"])).max() > 1e-4


def test_batch_norm_takes_the_batch_in_training_and_its_average_in_use():
    keras.utils.set_random_seed(0)
    layer = ConvNorm(Conv2D(4, 3, padding="same", use_bias=False), 1e-3, norm="batch")
    layer.build((None, None, None, 3))
    x = np.random.default_rng(0).normal(2.0, 3.0, (2, 9, 8, 3)).astype(np.float32)
    trained = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(trained.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(trained.std(axis=(0, 1, 2)), 1, atol=1e-2)
    assert isinstance(layer.norm, BatchNorm)
    assert np.abs(ops.convert_to_numpy(layer.norm.moving_mean)).max() > 0
    plain = layer.norm(layer.convolution(x), training=False)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), ops.convert_to_numpy(plain), rtol=1e-3, atol=1e-3
    )
    layer.trainable = False
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x, training=True)), ops.convert_to_numpy(layer(x)), atol=1e-5
    )


@pytest.mark.parametrize("size", [(8, 11), (7, 12)])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "pool", "even pool"])
def test_symmetric_padding_is_that_of_pytorch(kind, size):
    import torch

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    view = torch.from_numpy(x).permute(0, 3, 1, 2)
    if kind == "pool":
        layer = MaxPool2D(3, 2)
        theirs = torch.nn.functional.max_pool2d(view, 3, 2, 1)
    elif kind == "even pool":
        layer = MaxPool2D(2, 2)
        theirs = torch.nn.functional.max_pool2d(view, 2, 2)
    else:
        kinds = {"conv": Conv2D, "depthwise": DepthwiseConv2D}
        first = {"filters": 4} if kind == "conv" else {}
        layer = kinds[kind](kernel_size=5, strides=2, padding="symmetric", use_bias=False, **first)
        layer.build(x.shape)
        kernel = torch.from_numpy(ops.convert_to_numpy(layer.kernel).copy())
        kernel = kernel.permute(3, 2, 0, 1) if kind == "conv" else kernel.permute(2, 3, 0, 1)
        groups = 1 if kind == "conv" else 3
        theirs = torch.nn.functional.conv2d(view, kernel, None, 2, 2, 1, groups)
    ours = layer(x)
    assert tuple(ours.shape) == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-5
    )
    if "pool" not in kind:
        assert type(layer).from_config(layer.get_config()).symmetric


def test_frozen_stages_do_not_train():
    def trained(frozen):
        model = resnet50(frozen_stages=frozen, taps=(8,))
        return {variable.path.split("/")[-2] for variable in model.trainable_variables}

    assert "conv1_conv" in trained(0)
    assert not {"conv1_conv"} & trained(1)
    assert {name[:5] for name in trained(2)} == {"conv3"}
    with pytest.raises(ValueError, match="frozen_stages"):
        resnet50(frozen_stages=6)
    with pytest.raises(ValueError, match="taps"):
        resnet50(taps=(3,))
    assert resnet50_stage5().compute_output_shape((None, 14, 14, 1024)) == (None, 7, 7, 2048)
