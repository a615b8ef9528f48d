"""RoI cropping: the cells of a region, resized to a fixed size (keras-frcnn's pooling)."""

from __future__ import annotations

from keras import ops

from frcnn.ops.roi import weighted_sum
from frcnn.ops.rounding import divide, round_half_away


def roi_crop(features, boxes, output_size, spatial_scale):
    """Crop every box out of the map in whole cells and resize the crop bilinearly.

    Boxes are rounded to whole cells, at least one, inside the map. The crop is resized as
    TensorFlow 1 does by default: of n cells, output i reads at ``i * n / S``, from the cell there
    and the one after it, and the last cell goes on beyond the crop's end. No bin is an average,
    so crops of more than 2 S cells are sampled with gaps.

    Args:
        features: float32 ``[B, H, W, C]``.
        boxes: float32 ``[B, R, 4]``, xyxy in image pixels; constants, no gradient.
        output_size: S, cells along each side of the result.
        spatial_scale: cells per image pixel, 1 / stride.

    Returns:
        ``[B, R, S, S, C]`` in the features' dtype, computed in float32.
    """
    features = ops.convert_to_tensor(features)
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    height, width = features.shape[1:3]
    corners = round_half_away(boxes * spatial_scale)
    rows, row_weights = _taps(corners[..., 1], corners[..., 3], output_size, height)
    columns, column_weights = _taps(corners[..., 0], corners[..., 2], output_size, width)
    image = ops.arange(ops.shape(features)[0], dtype="int32")[:, None, None, None]
    rows = (image * height + rows) * width
    return weighted_sum([features], rows, columns, row_weights, column_weights)


def _taps(start, end, output_size, length):
    """The two cells that each output reads along an axis of ``length`` cells, and their weights.

    Args:
        start: float32 ``[B, R]``, whole: the first cell of each crop.
        end: float32 ``[B, R]``, whole: the cell after the last.
        output_size: S.
        length: of the axis.

    Returns:
        int32 and float32 ``[B, R, S, 2]``.
    """
    start = ops.clip(start, 0.0, length - 1.0)
    last = ops.clip(end, start + 1.0, float(length)) - 1.0  # [B, R]
    start, last = start[..., None], last[..., None]  # [B, R, 1]
    at = ops.arange(output_size, dtype="float32") * divide(last - start + 1.0, output_size)
    low = ops.floor(at)  # [B, R, S]
    fraction = at - low
    cells = _pairs(start + low, ops.minimum(start + low + 1.0, last))
    return ops.cast(cells, "int32"), _pairs(1.0 - fraction, fraction)


def _pairs(first, second):
    """Two tensors in a new last axis.

    Not by ``stack``: TensorFlow simplifies ``stack(...)[..., None, 0]`` and loses the new axis.
    """
    return ops.concatenate([first[..., None], second[..., None]], axis=-1)
