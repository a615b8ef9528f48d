import keras
import numpy as np
import pytest
from keras import ops

from frcnn.ops.roi_crop import roi_crop

pytestmark = pytest.mark.backend


def by_hand(crop: np.ndarray, side: int) -> np.ndarray:
    """The resize's definition, an output at a time."""
    height, width = crop.shape[:2]
    resized = np.zeros((side, side, crop.shape[2]))
    for i, j in np.ndindex(side, side):
        y, x = i * height / side, j * width / side
        top, left = int(y), int(x)
        below, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        upper = crop[top, left] * (1 - dx) + crop[top, right] * dx
        lower = crop[below, left] * (1 - dx) + crop[below, right] * dx
        resized[i, j] = upper * (1 - dy) + lower * dy
    return resized


def by_tensorflow(crop: np.ndarray, side: int) -> np.ndarray:
    """What TensorFlow 1 did, which today's can still do."""
    import tensorflow as tf

    resize = tf.compat.v1.image.resize_bilinear
    return resize(crop[None], (side, side), align_corners=False)[0].numpy()


REFERENCES = (by_hand, by_tensorflow) if keras.config.backend() == "tensorflow" else (by_hand,)


@pytest.fixture
def cells():
    """Every crop of a map of 5 by 7 cells: int [1, R, 4]."""
    corners = np.array(list(np.ndindex(5, 7, 6, 8)))  # y1, x1, y2, x2
    y1, x1, y2, x2 = corners[(corners[:, 2:] > corners[:, :2]).all(1)].T
    return np.stack([x1, y1, x2, y2], axis=1)[None]


def features(batch=1):
    return np.random.default_rng(0).normal(size=(batch, 5, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("side", [1, 3, 7, 14])
def test_every_crop_equals_the_resized_slice(run, cells, side, reference):
    maps = features()
    pooled = run(lambda *args: roi_crop(*args, side, 1 / 16), maps, np.float32(16 * cells))
    assert pooled.shape == (*cells.shape[:2], side, side, 3)
    every = [maps[0, y1:y2, x1:x2] for x1, y1, x2, y2 in cells[0]]
    chosen = range(0, len(every), 1 if side == 3 else 7)
    for row in chosen:
        np.testing.assert_allclose(pooled[0, row], reference(every[row], side), atol=1e-5)


def test_boxes_are_rounded_and_kept_on_the_map(run):
    maps = features()
    boxes = np.float32(
        [[7.9, 8.1, 56.1, 39.9], [-90, -90, -20, 500], [500, 20, 900, 40], [40, 30, 40, 30]]
        + [[0, 0, 0, 0], [90, 20, 30, 10]]
    )
    whole = np.float32([[0, 1, 4, 2], [0, 0, 1, 5], [6, 1, 7, 3], [3, 2, 4, 3], [0, 0, 1, 1]])
    whole = np.concatenate([whole, [[6, 1, 7, 2]]]).astype(np.float32)
    pooled, expected = (
        run(lambda *args: roi_crop(*args, 7, 1 / 16), maps, rows[None])
        for rows in (boxes, 16 * whole)
    )
    np.testing.assert_array_equal(pooled, expected)


def test_each_image_of_a_batch_is_cropped_by_itself(run, cells):
    maps = features(batch=3)
    boxes = np.float32(16 * np.concatenate([cells[:, :40], cells[:, 40:80], cells[:, -40:]]))
    pooled = run(lambda *args: roi_crop(*args, 4, 1 / 16), maps, boxes)
    for image in range(3):
        alone = run(lambda *args: roi_crop(*args, 4, 1 / 16), maps[image, None], boxes[image, None])
        np.testing.assert_array_equal(pooled[image], alone[0])


def test_gradient_spreads_each_output_over_the_cells_that_it_reads(gradient):
    maps, boxes = features(), np.float32([[[16, 0, 96, 48]]])
    upstream = np.random.default_rng(1).normal(size=(1, 1, 7, 7, 3)).astype(np.float32)
    tensor = ops.convert_to_tensor(boxes)
    slope = gradient(lambda value: roi_crop(value, tensor, 7, 1 / 16), maps, upstream)
    # It is linear in the map, so that the slope against a change is the change of the sum.
    change = np.random.default_rng(2).normal(size=maps.shape).astype(np.float32)
    expected = (by_hand(change[0, 0:3, 1:6], 7) * upstream[0, 0]).sum()
    assert abs((slope * change).sum() - expected) < 1e-3
    outside = slope.copy()
    outside[0, 0:3, 1:6] = 0
    assert not outside.any()


def test_half_precision_is_resized_in_float32(run_eager, cells):
    maps = features().astype(np.float16)
    boxes = np.float32(16 * cells)
    pooled = run_eager(lambda *args: roi_crop(*args, 7, 1 / 16), maps, boxes)
    expected = run_eager(lambda *args: roi_crop(*args, 7, 1 / 16), maps.astype("f4"), boxes)
    assert pooled.dtype == np.float16
    np.testing.assert_array_equal(pooled, expected.astype(np.float16))
