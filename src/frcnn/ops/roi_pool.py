"""RoIPool: the maximum over the cells of every bin of a region (Fast R-CNN paper, section 2.1)."""

from __future__ import annotations

from keras import ops

from frcnn.ops.rounding import divide, round_half_away


def roi_pool(features, boxes, output_size, spatial_scale):
    """Maximum over the cells of every bin of every box.

    RoIs are rounded to whole cells, equal to torchvision's. Of several equal maxima in a bin the
    gradient may reach more than one, in shares that add up to 1.

    The maximum over any rectangle is that of four overlapping ones whose sides are powers of two,
    so those are made once for every cell: ``[B, log2(H) * log2(W), H, W, C]`` is materialised.

    Args:
        features: float32 ``[B, H, W, C]``.
        boxes: float32 ``[B, R, 4]``, xyxy in image pixels; constants, no gradient.
        output_size: S, bins along each side.
        spatial_scale: cells per image pixel, 1 / stride.

    Returns:
        float32 ``[B, R, S, S, C]``; a bin without cells is 0.
    """
    features = ops.convert_to_tensor(features)
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    height, width, channels = features.shape[1:]
    maxima = _power_of_two_maxima(features, axis=1)  # [B, K_y, H, W, C]
    maxima = _power_of_two_maxima(maxima, axis=3)  # [B, K_y, H, K_x, W, C]
    powers_y, powers_x = maxima.shape[1], maxima.shape[3]
    table = ops.reshape(maxima, (-1, channels))

    corners = round_half_away(boxes * spatial_scale)
    power_y, *ys, rows = _pool_spans(corners[..., 1], corners[..., 3], output_size, height)
    power_x, *xs, columns = _pool_spans(corners[..., 0], corners[..., 2], output_size, width)
    image = ops.arange(ops.shape(features)[0], dtype="int32")[:, None, None]
    quarters = []
    for y in ys:
        for x in xs:
            y_cell = ((image * powers_y + power_y) * height + y)[..., :, None]
            x_cell = (power_x * width + x)[..., None, :]
            quarters.append(ops.take(table, y_cell * powers_x * width + x_cell, axis=0))
    highest = ops.maximum(
        ops.maximum(quarters[0], quarters[1]), ops.maximum(quarters[2], quarters[3])
    )  # [B, R, S, S, C]
    filled = (rows > 0)[..., :, None] & (columns > 0)[..., None, :]
    return ops.where(filled[..., None], highest, 0.0)


def _power_of_two_maxima(values, axis):
    """Maxima of 1, 2, 4, ... successive entries from each on, stacked in a new ``axis``."""
    levels = [values]
    while 2 ** len(levels) <= values.shape[axis]:
        # Entries too close to the end wrap around: they are never read.
        ahead = ops.roll(levels[-1], -(2 ** (len(levels) - 1)), axis=axis)
        levels.append(ops.maximum(levels[-1], ahead))
    return ops.stack(levels, axis=axis)


def _pool_spans(start, end, output_size, length):
    """The cells of each bin along one axis: int32 ``[B, R, S]`` power, first, second, count.

    The bin is the union of the 2**power cells from ``first`` and of those from ``second``.
    """
    side = divide(ops.maximum(end - start + 1.0, 1.0), output_size)[..., None]
    bins = ops.arange(output_size, dtype="float32")
    low = ops.floor(bins * side) + start[..., None]  # [B, R, S]
    high = ops.ceil((bins + 1.0) * side) + start[..., None]
    low = ops.cast(ops.clip(low, 0, length), "int32")
    count = ops.cast(ops.clip(high, 0, length), "int32") - low
    power = ops.zeros_like(count)
    for exponent in range(1, length.bit_length()):
        power = power + ops.cast(count >= 2**exponent, "int32")
    # A bin without cells reads any cell there is, for its maximum is dropped.
    first = ops.minimum(low, length - 1)
    second = ops.maximum(low + count - ops.left_shift(ops.ones_like(power), power), 0)
    return power, first, second, count
