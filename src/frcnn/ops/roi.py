"""Features of regions: RoIAlign (Mask R-CNN paper, section 3), RoIPool (Fast R-CNN), pyramids.

RoIAlign is a sparse linear map from the cells of the feature maps to the bins of the RoIs. Here it
is made in two steps: which cells each bin reads and with which weights (`_taps`, a few numbers a
bin), and the weighted sum over channels (`_weighted_sum`, where the time goes). All levels of a
pyramid lie one after the other in one table of cells, so a RoI reads its own level only.
"""

from __future__ import annotations

import math

from keras import ops


def roi_align(features, boxes, output_size, spatial_scale, sampling_ratio=2, aligned=True):
    """Average of bilinear samples in every bin of every box, equal to torchvision's.

    Args:
        features: float32 ``[B, H, W, C]``.
        boxes: float32 ``[B, R, 4]``, xyxy in image pixels; constants, no gradient.
        output_size: S, bins along each side.
        spatial_scale: cells per image pixel, 1 / stride.
        sampling_ratio: samples along each side of a bin, at least 1.
        aligned: cell i is centred on i + 0.5 (right for continuous coordinates). False is the
            older convention, centred on i, with RoIs at least one cell long.

    Returns:
        float32 ``[B, R, S, S, C]``. Samples more than one cell outside the map count as 0.
    """
    levels = ops.zeros_like(ops.convert_to_tensor(boxes)[..., 0], dtype="int32")
    return _align([features], boxes, levels, [spatial_scale], output_size, sampling_ratio, aligned)


def pyramid_roi_align(
    features,
    boxes,
    strides,
    output_size,
    sampling_ratio=2,
    aligned=True,
    canonical_size=224,
    canonical_level=4,
):
    """RoIAlign of every box on the one level of a feature pyramid that suits its size.

    Args:
        features: list of float32 ``[B, H_l, W_l, C]``, finest level first.
        boxes: float32 ``[B, R, 4]``, xyxy in image pixels; constants, no gradient.
        strides: image pixels per cell of each level, each the double of the one before.
        output_size: S, bins along each side.
        sampling_ratio: as of ``roi_align``.
        aligned: as of ``roi_align``.
        canonical_size: as of ``pyramid_level``.
        canonical_level: as of ``pyramid_level``.

    Returns:
        float32 ``[B, R, S, S, C]``.

    Raises:
        ValueError: strides that do not match the features or are not successive powers of two.
    """
    lowest = round(math.log2(strides[0]))
    if list(strides) != [2 ** (lowest + level) for level in range(len(features))]:
        raise ValueError(
            f"Expected {len(features)} strides, one a level, successive powers of two. "
            f"Received: {list(strides)}."
        )
    highest = lowest + len(features) - 1
    levels = pyramid_level(boxes, lowest, highest, canonical_size, canonical_level) - lowest
    scales = [1 / stride for stride in strides]
    return _align(features, boxes, levels, scales, output_size, sampling_ratio, aligned)


def pyramid_level(boxes, lowest, highest, canonical_size=224, canonical_level=4):
    """The pyramid level for each box, by its size (FPN paper, equation 1).

    Args:
        boxes: float32 ``[..., 4]``, xyxy in image pixels.
        lowest: first level there is; level k has stride 2**k.
        highest: last level there is.
        canonical_size: side in pixels of a square box that belongs to ``canonical_level``.
        canonical_level: see ``canonical_size``.

    Returns:
        int32 ``[...]``, in lowest..highest.
    """
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    side = ops.sqrt(ops.where(area > 0, area, 0.0))  # NaN and inverted boxes: the lowest level
    # The 1e-6 puts boxes of exactly a level's size on that level, whatever the rounding of log2.
    level = ops.floor(canonical_level + ops.log2(side / canonical_size) + 1e-6)
    return ops.cast(ops.clip(level, lowest, highest), "int32")


def roi_pool(features, boxes, output_size, spatial_scale):
    """Maximum over the cells of every bin of every box (Fast R-CNN paper, section 2.1).

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

    corners = _round_half_away(boxes * spatial_scale)
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
    side = _divide(ops.maximum(end - start + 1.0, 1.0), output_size)[..., None]
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


def _round_half_away(values):
    """C's ``round``; the backends' own rounds halves to even."""
    return ops.sign(values) * ops.floor(ops.abs(values) + 0.5)


def _divide(values, divisor):
    """``values / divisor``, rounded once.

    XLA makes of a division by a constant a product with its reciprocal, and that other rounding
    moves samples, or whole cells, from bin to bin. No compiler takes this divisor for a constant.
    """
    return values / (0.0 * values + divisor)


def _align(features, boxes, levels, scales, output_size, sampling_ratio, aligned):
    """RoIAlign of ``boxes``, each on the feature map ``levels`` [B, R] names."""
    features = [ops.convert_to_tensor(level) for level in features]
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    batch, channels = ops.shape(features[0])[0], features[0].shape[-1]
    table = [ops.reshape(level, (-1, channels)) for level in features]  # [B * H_l * W_l, C]
    table = table[0] if len(table) == 1 else ops.concatenate(table, axis=0)

    heights, widths = zip(*(level.shape[1:3] for level in features), strict=True)
    cells = [height * width for height, width in zip(heights, widths, strict=True)]
    before = [sum(cells[:level]) for level in range(len(cells))]  # cells of an image, lower levels

    def of_level(values, dtype):
        return ops.take(ops.convert_to_tensor(values, dtype), levels, axis=0)  # [B, R]

    height, width = of_level(heights, "int32"), of_level(widths, "int32")
    image = ops.arange(batch, dtype="int32")[:, None]
    first = of_level(before, "int32") * batch + of_level(cells, "int32") * image
    boxes = boxes * of_level(scales, "float32")[..., None]
    if aligned:
        boxes = boxes - 0.5
    y, y_weights = _axis_taps(
        boxes[..., 1], boxes[..., 3], height, output_size, sampling_ratio, aligned
    )
    x, x_weights = _axis_taps(
        boxes[..., 0], boxes[..., 2], width, output_size, sampling_ratio, aligned
    )
    y = first[..., None, None] + y * width[..., None, None]
    return _weighted_sum(table, y, x, y_weights, x_weights)


def _axis_taps(start, end, length, output_size, sampling_ratio, aligned):
    """The cells that each bin reads along one axis, two a sample, and their weights.

    Args:
        start: float32 ``[B, R]``, first edge of each RoI, in cells, cell i centred on i.
        end: float32 ``[B, R]``, last edge.
        length: int32 ``[B, R]``, cells of the map that the RoI reads.

    Returns:
        int32 and float32 ``[B, R, S, 2 * sampling_ratio]``.
    """
    side = end - start if aligned else ops.maximum(end - start, 1.0)
    bin_side = _divide(side, output_size)[..., None, None]
    bins = ops.arange(output_size, dtype="float32")[:, None]
    steps = ops.arange(sampling_ratio, dtype="float32") + 0.5
    at = start[..., None, None] + bins * bin_side + _divide(steps * bin_side, sampling_ratio)
    length = length[..., None, None]
    inside = (at >= -1.0) & (at <= ops.cast(length, at.dtype))  # [B, R, S, sampling_ratio]
    # Within one cell of the map the border value is repeated.
    at = ops.where(inside, at, 0.0)
    at = ops.clip(at, 0.0, ops.cast(length - 1, at.dtype))
    low = ops.floor(at)
    fraction = at - low
    low = ops.cast(low, "int32")
    high = ops.minimum(low + 1, length - 1)
    weights = ops.concatenate([1.0 - fraction, fraction], axis=-1) / sampling_ratio
    weights = ops.where(ops.concatenate([inside, inside], axis=-1), weights, 0.0)
    return ops.concatenate([low, high], axis=-1), weights


def _weighted_sum(table, y, x, y_weights, x_weights):
    """Sum over the cells ``y + x`` [B, R, S, S, K, K] of their table rows times both weights."""
    total = 0.0
    for i in range(y.shape[-1]):
        for j in range(x.shape[-1]):
            cells = y[..., :, None, i] + x[..., None, :, j]  # [B, R, S, S]
            weights = y_weights[..., :, None, i] * x_weights[..., None, :, j]
            total = total + ops.take(table, cells, axis=0) * weights[..., None]
    return total
