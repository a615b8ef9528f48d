"""Arithmetic on boxes ``(x1, y1, x2, y2)`` in absolute, continuous pixels.

Every function takes any number of leading dimensions, float32, and works compiled and eager.
"""

from __future__ import annotations

import math

from keras import ops

# A side shorter than this is no box: dividing by it would leave float32's range.
SMALLEST_SIDE = 1e-6
# A box of 16 pixels, the smallest that a network of stride 16 sees, grows to 1000 at most.
LARGEST_LOG_SCALE = math.log(1000 / 16)


def area(boxes):
    """Area of each box in square pixels, ``[..., 4] -> [...]``; padding boxes of -1 have none."""
    boxes = ops.convert_to_tensor(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(first, second):
    """Intersection over union of every box of ``first`` with every box of ``second``.

    Args:
        first: float32 ``[..., N, 4]``.
        second: float32 ``[..., M, 4]``; leading dimensions broadcast.

    Returns:
        float32 ``[..., N, M]``, 0 where the union is empty.
    """
    first = ops.convert_to_tensor(first)[..., :, None, :]  # [..., N, 1, 4]
    second = ops.convert_to_tensor(second)[..., None, :, :]  # [..., 1, M, 4]
    left = ops.maximum(first[..., 0], second[..., 0])  # [..., N, M]
    top = ops.maximum(first[..., 1], second[..., 1])
    right = ops.minimum(first[..., 2], second[..., 2])
    bottom = ops.minimum(first[..., 3], second[..., 3])
    intersection = ops.maximum(right - left, 0.0) * ops.maximum(bottom - top, 0.0)
    union = area(first) + area(second) - intersection
    # An empty union has an empty intersection too, so any positive divisor gives the 0 wanted.
    return intersection / ops.where(union > 0, union, 1.0)


def clip(boxes, sizes):
    """Move the corners that lie outside the image onto its border.

    Args:
        boxes: float32 ``[..., N, 4]``.
        sizes: ``[..., 2]``, (height, width) of the image in pixels, for all of its N boxes.

    Returns:
        float32 ``[..., N, 4]``; a box wholly outside becomes one of no area.
    """
    boxes = ops.convert_to_tensor(boxes)
    sizes = ops.cast(sizes, boxes.dtype)[..., None, :]  # [..., 1, 2]
    height, width = sizes[..., 0], sizes[..., 1]
    limits = ops.stack([width, height, width, height], axis=-1)  # [..., 1, 4]
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def encode(reference, boxes, weights=(1.0, 1.0, 1.0, 1.0)):
    """Deltas that move and scale ``reference`` boxes onto ``boxes`` (R-CNN paper, appendix C).

    Args:
        reference: float32 ``[..., 4]``, anchors or proposals.
        boxes: float32 ``[..., 4]``, what they should become.
        weights: factors of (dx, dy, dw, dh): 1 / standard deviation of each.

    Returns:
        float32 ``[..., 4]``, (dx, dy, dw, dh). Finite for boxes without area, such as padding:
        a side that is missing in either box gets no scale, and offsets count in pixels where the
        reference has no side to measure them by.
    """
    reference_centres, reference_sides = _centres_and_sides(reference)
    centres, sides = _centres_and_sides(boxes)
    has_side = reference_sides > SMALLEST_SIDE
    units = ops.where(has_side, reference_sides, 1.0)
    scales = ops.where(has_side & (sides > SMALLEST_SIDE), sides / units, 1.0)
    deltas = ops.concatenate([(centres - reference_centres) / units, ops.log(scales)], axis=-1)
    return deltas * ops.convert_to_tensor(weights, deltas.dtype)


def decode(reference, deltas, weights=(1.0, 1.0, 1.0, 1.0), max_log_scale=LARGEST_LOG_SCALE):
    """The boxes that ``deltas`` make of ``reference`` boxes; the inverse of ``encode``.

    Args:
        reference: float32 ``[..., 4]``, anchors or proposals.
        deltas: float32 ``[..., 4]``, (dx, dy, dw, dh); leading dimensions broadcast.
        weights: those given to ``encode``.
        max_log_scale: bound on dw and dh, so that an untrained network cannot overflow ``exp``.

    Returns:
        float32 ``[..., 4]``.
    """
    centres, sides = _centres_and_sides(reference)
    deltas = ops.convert_to_tensor(deltas)
    deltas = deltas / ops.convert_to_tensor(weights, deltas.dtype)
    centres = centres + deltas[..., :2] * sides
    half_sides = 0.5 * sides * ops.exp(ops.minimum(deltas[..., 2:], max_log_scale))
    return ops.concatenate([centres - half_sides, centres + half_sides], axis=-1)


def _centres_and_sides(boxes):
    boxes = ops.convert_to_tensor(boxes)
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides  # (x, y) and (width, height), [..., 2] each
