from functools import partial

import keras
import numpy as np
import pytest
import torch
import torchvision
from keras import ops
from torchvision.ops.poolers import LevelMapper

from frcnn.ops import roi

pytestmark = pytest.mark.backend

STRIDES = [4, 8, 16, 32]


def feature_maps(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def channels_first(features):
    return torch.from_numpy(features).permute(0, 3, 1, 2).contiguous()


def channels_last(pooled, batch):
    """Torchvision's [B * R, C, S, S] as [B, R, S, S, C]."""
    pooled = pooled.detach().permute(0, 2, 3, 1)
    return pooled.reshape(batch, -1, *pooled.shape[1:]).numpy()


def torch_boxes(boxes):
    return [torch.from_numpy(rows) for rows in boxes]


@pytest.fixture(
    params=["default", "portable"] if keras.config.backend() == "torch" else ["default"]
)
def implementation(request, monkeypatch):
    """The sum of gathered cells, and on PyTorch the embedding bag before it."""
    if request.param == "portable":
        monkeypatch.setattr(roi, "_torch_sum_serves", lambda table: False)
    return request.param


@pytest.fixture
def awkward_boxes(random_boxes):
    """Boxes of all sizes: far outside, without area, inverted, padding, the whole image."""
    special = np.float32(
        [[-1, -1, -1, -1], [50, 50, 50, 50], [90, 20, 30, 10], [-900, -900, -800, -800]]
        + [[0, 0, 208, 144], [-500, -500, 900, 900], [208, 144, 230, 150], [3, 4, 3.5, 4.5]]
    )
    boxes = random_boxes((2, 300), 1)
    boxes[:, : len(special)] = special
    return boxes


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
def test_roi_align_equals_torchvisions(run, awkward_boxes, sampling_ratio, aligned):
    (features,) = feature_maps((2, 9, 13, 5))
    options = (7, 1 / 16, sampling_ratio, aligned)
    pooled = run(lambda *args: roi.roi_align(*args, *options), features, awkward_boxes)
    expected = torchvision.ops.roi_align(
        channels_first(features), torch_boxes(awkward_boxes), *options
    )
    np.testing.assert_allclose(pooled, channels_last(expected, 2), atol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
def test_gradient_equals_torchvisions(gradient, implementation, awkward_boxes, aligned):
    (features,) = feature_maps((2, 9, 13, 5))
    upstream = np.random.default_rng(2).normal(size=(2, 300, 7, 7, 5)).astype(np.float32)
    inputs = channels_first(features).requires_grad_()
    pooled = torchvision.ops.roi_align(inputs, torch_boxes(awkward_boxes), 7, 1 / 16, 2, aligned)
    pooled.backward(torch.from_numpy(upstream.reshape(600, 7, 7, 5)).permute(0, 3, 1, 2))
    boxes = ops.convert_to_tensor(awkward_boxes)
    slope = gradient(
        lambda value: roi.roi_align(value, boxes, 7, 1 / 16, 2, aligned), features, upstream
    )
    # Thousands of bins add up in one cell, in any order.
    expected = inputs.grad.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("aligned", [True, False])
def test_pyramid_equals_pooling_every_box_on_its_level(run, random_boxes, aligned):
    features = feature_maps(*((2, 64 >> level, 96 >> level, 3) for level in range(4)))
    boxes = np.clip(random_boxes((2, 200), 3, size=384), 0, [384, 256, 384, 256]).astype("f4")
    # Canonical size 56 spreads boxes of 6..384 px over all four levels.
    pooled = run(
        lambda boxes, *features: roi.pyramid_roi_align(
            features, boxes, STRIDES, 5, aligned=aligned, canonical_size=56, canonical_level=3
        ),
        boxes,
        *features,
    )
    levels = LevelMapper(2, 5, 56, 3)(torch_boxes(boxes)).numpy().reshape(2, 200)
    assert set(levels.reshape(-1)) == {0, 1, 2, 3}
    for level, (values, stride) in enumerate(zip(features, STRIDES, strict=True)):
        every = torchvision.ops.roi_align(
            channels_first(values), torch_boxes(boxes), 5, 1 / stride, 2, aligned
        )
        mine = levels == level
        np.testing.assert_allclose(pooled[mine], channels_last(every, 2)[mine], atol=2e-5)


def test_pyramid_gradient_equals_torchvisions(gradient, implementation, random_boxes):
    features = feature_maps(*((2, 64 >> level, 96 >> level, 3) for level in range(4)))
    boxes = np.clip(random_boxes((2, 100), 4, size=384), 0, [384, 256, 384, 256]).astype(np.float32)
    upstream = np.random.default_rng(5).normal(size=(2, 100, 7, 7, 3)).astype(np.float32)
    inputs = {str(level): channels_first(x).requires_grad_() for level, x in enumerate(features)}
    pooler = torchvision.ops.MultiScaleRoIAlign(
        list(inputs), 7, 2, canonical_scale=28, canonical_level=3
    )
    pooled = pooler(inputs, torch_boxes(boxes), [(256, 384)] * 2)
    pooled.backward(torch.from_numpy(upstream.reshape(200, 7, 7, 3)).permute(0, 3, 1, 2))
    others = [ops.convert_to_tensor(values) for values in features]
    for level, values in enumerate(features):

        def pool(value, level=level):
            maps = [*others[:level], value, *others[level + 1 :]]
            return roi.pyramid_roi_align(
                maps, ops.convert_to_tensor(boxes), STRIDES, 7, 2, False, 28, 3
            )

        slope = gradient(pool, values, upstream)
        expected = inputs[str(level)].grad.permute(0, 2, 3, 1).numpy()
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(slope, expected, atol=2e-5 * np.abs(expected).max())


def test_levels_without_boxes_have_no_gradient(gradient, implementation):
    maps = [ops.convert_to_tensor(x) for x in feature_maps((1, 8, 8, 2), (1, 4, 4, 2))]
    upstream = np.ones((1, 3, 2, 2, 2), "f4")
    for size, level in ((8, 0), (32, 1)):
        boxes = np.tile(np.float32([0, 0, size, size]), (1, 3, 1))

        def pool(value, place, boxes=boxes):
            given = [*maps[:place], value, *maps[place + 1 :]]
            return roi.pyramid_roi_align(given, boxes, STRIDES[:2], 2, 2, True, 32, 3)

        for place in range(2):
            slope = gradient(partial(pool, place=place), maps[place], upstream)
            assert np.any(slope) == (place == level)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="of PyTorch's memory")
def test_what_else_reads_the_maps_adds_its_gradient_in_place(random_boxes):
    maps = [torch.from_numpy(x) for x in feature_maps((1, 32, 32, 16), (1, 16, 16, 16))]
    given = [x.clone().requires_grad_() for x in maps]
    shared = [x * 1.0 for x in given]
    others = sum(x.sum() for x in shared)
    boxes = np.clip(random_boxes((1, 50), 8, size=128), 0, 128).astype("f4")
    pooled = roi.pyramid_roi_align(shared, boxes, STRIDES[:2], 7, canonical_level=3)
    with torch.profiler.profile(profile_memory=True) as trace:
        (others + pooled.sum()).backward()
    taken = [each.cpu_memory_usage for each in trace.events() if each.name == "aten::add"]
    assert taken and not {x.nbytes for x in maps} & {*taken}
    total = sum(x.grad.sum() for x in given)
    torch.testing.assert_close(total, torch.tensor(16.0 * (32 * 32 + 16 * 16 + 50 * 49)))


def test_pyramid_level_equals_torchvisions(run, random_boxes):
    boxes = np.concatenate([random_boxes((3000,), 6, size=1500), np.zeros((4, 4), "f4")])
    boxes[-4:, 2:] = np.float32([[0, 0], [112, 112], [224, 224], [448, 448]])  # exactly a level
    levels = run(lambda boxes: roi.pyramid_level(boxes, 2, 5), boxes)
    expected = LevelMapper(2, 5)([torch.from_numpy(boxes)]).numpy() + 2
    np.testing.assert_array_equal(levels, expected)
    assert levels.dtype == np.int32 and levels[-4:].tolist() == [2, 3, 4, 5]


def test_pyramid_level_of_what_is_no_box_is_the_lowest(run):
    boxes = np.float32([[-1, -1, -1, -1], [9, 0, 0, 900], [np.nan, 0, 9, 9], [0, 0, np.inf, 9]])
    assert run(lambda boxes: roi.pyramid_level(boxes, 3, 6), boxes).tolist() == [3, 3, 3, 6]


def test_half_precision_is_pooled_in_float32(run_eager, random_boxes):
    (features,) = feature_maps((1, 8, 8, 4))
    features, boxes = features.astype(np.float16), random_boxes((1, 20), 7, size=128)
    pooled = run_eager(lambda *args: roi.roi_align(*args, 7, 1 / 16), features, boxes)
    expected = run_eager(
        lambda *args: roi.roi_align(*args, 7, 1 / 16), features.astype(np.float32), boxes
    )
    assert pooled.dtype == np.float16
    np.testing.assert_array_equal(pooled, expected.astype(np.float16))


@pytest.mark.parametrize("strides", [[4, 8], [4, 8, 16, 64], [6, 12, 24, 48]])
def test_strides_that_do_not_fit_are_refused(strides):
    features = feature_maps(*((1, 8 >> level, 8 >> level, 2) for level in range(4)))
    with pytest.raises(ValueError, match="4 strides"):
        roi.pyramid_roi_align(features, np.zeros((1, 1, 4), "f4"), strides, 7)
