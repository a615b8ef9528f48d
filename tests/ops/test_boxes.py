import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from torchvision.models.detection._utils import BoxCoder

from frcnn.ops import boxes as box_ops
from frcnn.ops.anchors import grid_anchors

pytestmark = pytest.mark.backend

PADDING = np.full((1, 4), -1, np.float32)


def test_iou_equals_torchvisions(run, random_boxes):
    first, second = random_boxes((3, 400), 0), random_boxes((3, 50), 1)
    iou = run(box_ops.pairwise_iou, first, second)
    for image in range(3):
        expected = torchvision.ops.box_iou(*map(torch.from_numpy, (first[image], second[image])))
        np.testing.assert_allclose(iou[image], expected.numpy(), atol=1e-6)


def test_iou_of_padding_and_of_boxes_without_area_is_zero(run, random_boxes):
    point = np.float32([[5, 5, 5, 5]])
    boxes = np.concatenate([PADDING, point, random_boxes((20,), 2)])
    iou = run(box_ops.pairwise_iou, boxes, boxes)
    assert np.all(iou[:2] == 0) and np.all(iou[:, :2] == 0)
    np.testing.assert_allclose(np.diag(iou)[2:], 1, atol=1e-6)


def test_iou_leading_dimensions_broadcast(run_eager, random_boxes):
    first, second = random_boxes((1, 7), 3), random_boxes((4, 5), 4)
    assert run_eager(box_ops.pairwise_iou, first, second).shape == (4, 7, 5)


def test_area(run):
    boxes = np.float32([[[1, 2, 4, 8], [-1, -1, -1, -1]]])
    np.testing.assert_array_equal(run(box_ops.area, boxes), [[18, 0]])


def test_clip_equals_torchvisions(run, random_boxes):
    boxes, sizes = random_boxes((2, 300), 5, size=400), np.int32([[120, 250], [300, 80]])
    clipped = run(box_ops.clip, boxes, sizes)
    for image in range(2):
        expected = torchvision.ops.clip_boxes_to_image(
            torch.from_numpy(boxes[image]), tuple(sizes[image].tolist())
        )
        np.testing.assert_array_equal(clipped[image], expected.numpy())


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_encode_and_decode_equal_torchvisions(run, random_boxes, weights):
    reference, boxes = random_boxes((2000,), 6), random_boxes((2000,), 7)
    coder = BoxCoder(weights)
    expected = coder.encode_single(torch.from_numpy(boxes), torch.from_numpy(reference)).numpy()
    deltas = run(lambda *args: box_ops.encode(*args, weights), reference, boxes)
    np.testing.assert_allclose(deltas, expected, rtol=1e-5, atol=1e-5)

    # Four times the deltas: some scales exceed the bound.
    expected = coder.decode_single(torch.from_numpy(4 * deltas), torch.from_numpy(reference))
    decoded = run(lambda *args: box_ops.decode(*args, weights), reference, 4 * deltas)
    np.testing.assert_allclose(decoded, expected.numpy(), rtol=1e-5, atol=1e-3)


def test_encode_is_finite_for_boxes_without_area(run, random_boxes):
    thin = np.float32([[3, 4, 3, 9], [3, 4, 8, 4], [5, 5, 5, 5], [1, 1, 1 + 1e-7, 2], [0, 0, 0, 0]])
    boxes = np.concatenate([PADDING, thin, random_boxes((5,), 8)])
    deltas = run(box_ops.encode, boxes[:, None], boxes[None])
    assert deltas.shape == (11, 11, 4) and np.isfinite(deltas).all()
    decoded = run(box_ops.decode, boxes[:, None], deltas)
    assert np.isfinite(decoded).all()


def test_decode_bounds_the_scale_and_leaves_the_gradient_finite(gradient):
    reference = ops.convert_to_tensor(np.float32([[0, 0, 16, 16]]))
    wild = np.float32([[0, 0, 1000, 1000]])
    boxes = ops.convert_to_numpy(box_ops.decode(reference, ops.convert_to_tensor(wild)))
    np.testing.assert_allclose(boxes, [[-492, -492, 508, 508]], rtol=1e-5)
    slope = gradient(lambda deltas: box_ops.decode(reference, deltas), wild, np.ones((1, 4), "f4"))
    assert np.isfinite(slope).all()


coordinate = st.floats(0, 1000, width=32)
side = st.floats(1, 1000, width=32)
a_box = st.tuples(coordinate, coordinate, side, side).map(
    lambda box: np.float32([[box[0], box[1], box[0] + box[2], box[1] + box[3]]])
)


@settings(max_examples=50, deadline=None)
@given(reference=a_box, box=a_box)
def test_decode_undoes_encode(reference, box):
    weights = (10.0, 10.0, 5.0, 5.0)
    start, end = ops.convert_to_tensor(reference), ops.convert_to_tensor(box)
    deltas = box_ops.encode(start, end, weights)
    unbounded = box_ops.decode(start, deltas, weights, max_log_scale=10.0)
    # Coordinates are sums with the reference's: float32 is as fine as the larger allows.
    scale = max(np.abs(box).max(), np.abs(reference).max())
    np.testing.assert_allclose(ops.convert_to_numpy(unbounded), box, atol=2e-6 * scale)


def test_perfect_deltas_find_small_objects_exactly(run_eager):
    """Nothing is rounded to cells of 16 px on the way: 24 px objects anywhere reach IoU 1."""
    corners = np.random.default_rng(9).uniform(0, 200, (12, 2))
    objects = np.concatenate([corners, corners + 24], axis=1).astype(np.float32)
    anchors = grid_anchors([(16, 16)], [16], [(128, 256, 512)], [(1.0, 0.5, 2.0)])

    def found(anchors, objects):
        deltas = box_ops.encode(anchors[:, None], objects[None])
        decoded = box_ops.decode(anchors[:, None], deltas)  # [A, G, 4]
        return box_ops.pairwise_iou(decoded[:, :, None], objects[None, :, None])

    assert run_eager(found, anchors, objects).min() > 0.999
