"""Features of regions: RoIAlign (Mask R-CNN paper, section 3), on one map or on a pyramid.

RoIAlign is a sparse linear map from the cells of the feature maps to the bins of the RoIs. Here it
is made in two steps: which cells each bin reads and with which weights (``_taps``, a few numbers a
bin), and the weighted sum over channels (``weighted_sum``, where the time goes). All levels of a
pyramid lie one after the other in one table of cells, so a RoI reads its own level only.
"""

from __future__ import annotations

import functools
import itertools
import math

import keras
import numpy as np
from keras import ops

from frcnn.ops.boxes import area
from frcnn.ops.roi_pool import roi_pool
from frcnn.ops.rounding import divide
from frcnn.ops.torch_operators import exporting, operators, runs_triton

__all__ = ["pyramid_level", "pyramid_roi_align", "roi_align", "roi_pool"]


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
        ``[B, R, S, S, C]`` in the features' dtype, computed in float32. Samples more than one cell
        outside the map count as 0.
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
        ``[B, R, S, S, C]`` in the features' dtype, computed in float32.

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
    areas = area(boxes)
    side = ops.sqrt(ops.where(areas > 0, areas, 0.0))  # NaN and inverted boxes: the lowest level
    # The 1e-6 puts boxes of exactly a level's size on that level, whatever the rounding of log2.
    level = ops.floor(canonical_level + ops.log2(side / canonical_size) + 1e-6)
    return ops.cast(ops.clip(level, lowest, highest), "int32")


def _align(features, boxes, levels, scales, output_size, sampling_ratio, aligned):
    """RoIAlign of ``boxes``, each on the feature map that ``levels`` [B, R] names."""
    features = [ops.convert_to_tensor(level) for level in features]
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    arguments = features, boxes, levels, scales, output_size, sampling_ratio, aligned
    return operators().roi_align(*arguments) if exporting() else portable_align(*arguments)


def portable_align(
    features, boxes, levels, scales, output_size, sampling_ratio, aligned, summed=None
):
    """``_align`` of tensors, in operations that every backend has.

    ``summed`` is what does the work of ``weighted_sum`` in its place, if given.
    """
    batch = ops.shape(boxes)[0]
    shapes = [level.shape[1:] for level in features]

    cells = [height * width for height, width, _ in shapes]  # of one image
    before = np.cumsum([0, *cells[:-1]])
    layout = np.array([[w, h, *at] for (h, w, _), *at in zip(shapes, before, cells, strict=True)])
    layout = ops.take(ops.convert_to_tensor(layout, "int32"), levels, axis=0)  # [B, R, 4]
    image = ops.arange(batch, dtype="int32")[:, None]
    first = layout[..., 2] * batch + layout[..., 3] * image  # [B, R], row in the table

    boxes = boxes * ops.take(ops.convert_to_tensor(scales, "float32"), levels, axis=0)[..., None]
    sizes = layout[..., :2]  # [B, R, 2], (width, height)
    at, weights = _taps(boxes, sizes, output_size, sampling_ratio, aligned)
    y = first[..., None, None] + at[:, :, 1] * sizes[..., :1, None]
    summed = summed or weighted_sum
    return summed(features, y, at[:, :, 0], weights[:, :, 1], weights[:, :, 0])


def _taps(boxes, sizes, output_size, sampling_ratio, aligned):
    """The columns and rows of cells that each bin reads, two a sample, and their weights.

    Args:
        boxes: float32 ``[B, R, 4]``, xyxy in cells of the map that the RoI reads.
        sizes: int32 ``[B, R, 2]``, (width, height) of that map.
        output_size: as of ``roi_align``, and so are the others.

    Returns:
        int32 and float32 ``[B, R, 2, S, K]``, K = 2 * sampling_ratio, columns before rows.
    """
    boxes = boxes - 0.5 if aligned else boxes  # cell i is now centred on i
    start, sides = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]  # [B, R, 2]
    sides = sides if aligned else ops.maximum(sides, 1.0)
    bin_sides = divide(sides, output_size)[..., None, None]  # [B, R, 2, 1, 1]
    bins = ops.arange(output_size, dtype="float32")[:, None]
    steps = ops.arange(sampling_ratio, dtype="float32") + 0.5
    # In torchvision's order of operations, so that the last bits agree as well.
    at = start[..., None, None] + bins * bin_sides + divide(steps * bin_sides, sampling_ratio)
    last = sizes[..., None, None] - 1
    float_last = ops.cast(last, at.dtype)
    inside = (at >= -1.0) & (at <= float_last + 1.0)  # [B, R, 2, S, sampling_ratio]
    # Outside, but by less than a cell, the value on the border counts; further out it is 0.
    at = ops.where(inside, ops.clip(at, 0.0, float_last), 0.0)
    low = ops.floor(at)
    fraction = at - low
    low = ops.cast(low, "int32")
    cells = ops.concatenate([low, ops.minimum(low + 1, last)], axis=-1)
    weights = ops.concatenate([1.0 - fraction, fraction], axis=-1) / sampling_ratio
    return cells, ops.where(ops.concatenate([inside, inside], axis=-1), weights, 0.0)


def weighted_sum(maps, y, x, y_weights, x_weights):
    """Sum of K x K cells for every bin of every RoI, the work of RoIAlign.

    Args:
        maps: list of ``[..., C]``, whose cells are numbered from the first map's first on.
        y: int32 ``[B, R, S, K]``, cell with which each row of cells starts.
        x: int32 ``[B, R, S, K]``, column of cells; a cell is found at y + x.
        y_weights: float32 ``[B, R, S, K]``.
        x_weights: float32 ``[B, R, S, K]``; a cell counts with the product of both.

    Returns:
        ``[B, R, S, S, C]`` in the maps' dtype, computed in float32. One cell of each bin is
        gathered at a time, so no more than a few tensors of this shape are materialised.
    """
    if _torch_sum_serves(maps[0]):
        return _torch_weighted_sum()(y, x, y_weights, x_weights, *maps)
    table = [ops.reshape(cells, (-1, cells.shape[-1])) for cells in maps]
    table = table[0] if len(table) == 1 else ops.concatenate(table, axis=0)  # [T, C]
    total, dtype = 0.0, table.dtype
    table = ops.cast(table, "float32")
    for i, j in itertools.product(range(y.shape[-1]), range(x.shape[-1])):
        cells = y[..., :, None, i] + x[..., None, :, j]  # [B, R, S, S]
        weights = y_weights[..., :, None, i] * x_weights[..., None, :, j]
        total = total + ops.take(table, cells, axis=0) * weights[..., None]
    return ops.cast(total, dtype)


def _torch_sum_serves(table) -> bool:
    """Eager PyTorch only: compilers fuse the portable sum."""
    if keras.config.backend() != "torch":
        return False
    import torch

    return not torch.compiler.is_compiling() and table.device.type in ("cpu", "cuda")


@functools.cache
def _torch_weighted_sum():
    """``weighted_sum`` in one pass over the table: an embedding bag, or our kernel on a GPU.

    The gradient is an embedding bag, transposed: each cell sums the bins that read it. So it is
    deterministic and adds to every cell once, where PyTorch's own adds tap by tap.
    """
    import torch
    from torch.nn.functional import embedding_bag

    class WeightedSum(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *taps_and_maps):
            taps, maps = taps_and_maps[:4], [cells.detach() for cells in taps_and_maps[4:]]
            ctx.save_for_backward(*taps)
            ctx.shapes, ctx.dtype = [cells.shape for cells in maps], maps[0].dtype
            if runs_triton(maps[0]):
                return operators().weighted_sum(_table(maps), *taps)
            return torch_bag_sum(maps, *taps)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            cells, weights = _torch_taps(*ctx.saved_tensors)
            length = sum(math.prod(shape[:-1]) for shape in ctx.shapes)
            sorted_cells, order = torch.sort(cells.reshape(-1))
            rows = torch.arange(length, dtype=cells.dtype, device=cells.device)
            first = torch.searchsorted(sorted_cells, rows)  # of the taps of each cell
            bins = torch.div(order, cells.shape[1], rounding_mode="floor")
            gradient = gradient.reshape(len(cells), -1).float()
            weights = weights.reshape(-1).index_select(0, order)
            table = embedding_bag(bins, gradient, first, mode="sum", per_sample_weights=weights)
            return None, None, None, None, *_apart(table.to(ctx.dtype), ctx.shapes)

    return WeightedSum.apply


def _apart(table, shapes):
    """``[T, C]`` as maps of these shapes, none of which knows of another tensor of its memory.

    So PyTorch adds in its place what else reads the map, which would take memory and time for
    another map. The first, the largest of a pyramid, stays where it is.
    """
    first, *others = table.split([math.prod(shape[:-1]) for shape in shapes])
    tables = first, *(other.clone() for other in others)
    return [part.view(shape).detach() for part, shape in zip(tables, shapes, strict=True)]


def torch_bag_sum(maps, y, x, y_weights, x_weights):
    """``weighted_sum`` as an embedding bag, without a gradient."""
    from torch.nn.functional import embedding_bag

    cells, weights = _torch_taps(y, x, y_weights, x_weights)
    table = _table(maps)
    total = embedding_bag(cells, table.float(), mode="sum", per_sample_weights=weights)
    return total.reshape(*y.shape[:-1], x.shape[-2], -1).to(table.dtype)


def _table(maps):
    """[..., C] -> [T, C], the cells of all."""
    import torch

    return maps[0].flatten(0, -2) if len(maps) == 1 else torch.cat([x.flatten(0, -2) for x in maps])


def _torch_taps(y, x, y_weights, x_weights):
    """Rows of the table and their weights, [B * R * S * S, K * K] both."""
    cells = y[..., :, None, :, None] + x[..., None, :, None, :]  # [B, R, S, S, K, K]
    weights = y_weights[..., :, None, :, None] * x_weights[..., None, :, None, :]
    taps = y.shape[-1] * x.shape[-1]
    return cells.reshape(-1, taps), weights.reshape(-1, taps)
