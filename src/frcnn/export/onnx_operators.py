"""The two operators of ``ops/torch_operators.py`` in ONNX's own.

Fixed numbers of slots become fixed shapes again right after ONNX's operators, whose results are of
as many rows as they found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxscript import ir, opset20

from frcnn.ops.rounding import float32_below

op: Any = opset20  # whose annotations are of tensors; here values of a graph go in and come out
LOWEST = -3e38  # the score of a box that does not take part
# Cells of a map up to which matrix products with all of them are faster than ``RoiAlign``.
MOST_CELLS = 600


def nms(boxes, scores, usable, groups, iou_threshold: float, max_outputs: int):
    """``ops.nms.nms``: each group is a class of ``NonMaxSuppression``."""
    lowest = _number(LOWEST)
    scores = op.Where(usable, scores, lowest)  # [B, N]
    by_group = op.Unsqueeze(scores, _whole([1]))  # [B, 1, N]
    if groups is not None:
        groups = op.Cast(groups, to=ir.DataType.INT32)
        last = op.ReduceMax(groups, keepdims=0)
        each = op.Range(_scalar(0), op.Add(last, _scalar(1)), _scalar(1))  # [G]
        member = op.Equal(op.Unsqueeze(groups, _whole([1])), op.Unsqueeze(each, _whole([0, 2])))
        by_group = op.Where(member, by_group, lowest)  # [B, G, N]
    selected = op.NonMaxSuppression(
        boxes,
        by_group,
        _whole([max_outputs]),
        _number(float32_below(iou_threshold)),
        _number(LOWEST / 2),
    )  # [K, 3], (image, group, box)
    places = op.Gather(selected, _whole([0, 2]), axis=1)  # [K, 2]
    nothing = op.Expand(lowest, op.Shape(scores))
    kept = op.ScatterND(nothing, places, op.GatherND(scores, places))
    length = int(usable.shape[1])
    if length < max_outputs:
        kept = op.Pad(kept, _whole([0, 0, 0, max_outputs - length]), lowest)
    best, index = op.TopK(kept, _whole([max_outputs]), axis=1)  # equal ones by lower index
    used = op.Greater(best, _number(LOWEST / 2))
    index = op.Where(used, op.Cast(index, to=ir.DataType.INT32), _scalar(0))
    return index, used


def roi_align(features, boxes, levels, scales, output_size, sampling_ratio, aligned):
    """``ops.roi.pyramid_roi_align``: one ``RoiAlign`` a level, on the RoIs of that level.

    On a single map of few cells, matrix products.
    """
    height, width, channels = features[0].shape[1:]
    if len(features) == 1 and height * width <= MOST_CELLS:
        return _of_small_map(features[0], boxes, scales[0], output_size, sampling_ratio, aligned)
    mode = "half_pixel" if aligned else "output_half_pixel"
    slots = int(levels.shape[1])
    flat = op.Reshape(boxes, _whole([-1, 4]))  # [B * R, 4]
    row = op.Range(_long(0), op.Squeeze(op.Shape(flat, start=0, end=1)), _long(1))  # [B * R]
    image = op.Div(row, _long(slots))

    def align(feature, scale, rois, images):
        maps = op.Transpose(feature, perm=[0, 3, 1, 2])
        return op.RoiAlign(
            maps,
            rois,
            images,
            coordinate_transformation_mode=mode,
            output_height=output_size,
            output_width=output_size,
            sampling_ratio=sampling_ratio,
            spatial_scale=float(scale),
        )  # [K, C, S, S]

    if len(features) == 1:
        pooled = align(features[0], scales[0], flat, image)
    else:
        of_level = op.Reshape(levels, _whole([-1]))
        parts, rows = [], []
        for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
            mine = op.Compress(row, op.Equal(of_level, _scalar(level)), axis=0)
            rois = op.Gather(flat, mine, axis=0)
            parts.append(align(feature, scale, rois, op.Gather(image, mine, axis=0)))
            rows.append(mine)
        order = op.Concat(*rows, axis=0)
        back = op.ScatterElements(row, order, row, axis=0)
        pooled = op.Gather(op.Concat(*parts, axis=0), back, axis=0)
    pooled = op.Transpose(pooled, perm=[0, 2, 3, 1])
    return op.Reshape(pooled, _whole([-1, slots, output_size, output_size, int(channels)]))


def _of_small_map(feature, boxes, scale, output_size, sampling_ratio, aligned):
    """RoIAlign by the weights that each bin has for all rows and for all columns of a map.

    Most are 0, but ``RoiAlign`` looks up each sample in each channel by itself.
    """
    height, width, channels = (int(side) for side in feature.shape[1:])
    boxes = op.Mul(boxes, _number(scale))  # [B, R, 4], in cells
    if aligned:
        boxes = op.Sub(boxes, _number(0.5))
    start, end = op.Split(boxes, num_outputs=2, axis=-1)  # [B, R, 2], x and y
    lengths = op.Sub(end, start)
    if not aligned:
        lengths = op.Max(lengths, _number(1.0))
    samples = output_size * sampling_ratio
    shares = _constant((np.arange(samples) + 0.5) / samples, np.float32)
    places = op.Mul(op.Unsqueeze(lengths, _whole([-1])), shares)
    places = op.Add(op.Unsqueeze(start, _whole([-1])), places)  # [B, R, 2, samples]
    of_rows = _weights(places, 1, height, output_size)
    of_columns = _weights(places, 0, width, output_size)
    rows = op.Reshape(of_rows, _whole([0, -1, height]))  # [B, R * S, H]
    pooled = op.MatMul(rows, op.Reshape(feature, _whole([0, height, width * channels])))
    pooled = op.Reshape(pooled, _whole([0, -1, output_size, width, channels]))
    return op.MatMul(op.Unsqueeze(of_columns, _whole([2])), pooled)  # [B, R, S, S, C]


def _weights(places, axis: int, cells: int, output_size: int):
    """Weights [B, R, output_size, cells] of the cells along an axis, 0 for x.

    Each bin's are the mean of its samples', which are bilinear: at most two cells have one.
    """
    places = op.Gather(places, _long(axis), axis=2)  # [B, R, samples]
    inside = op.And(
        op.GreaterOrEqual(places, _number(-1.0)), op.LessOrEqual(places, _number(cells))
    )
    places = op.Clip(places, _number(0.0), _number(cells - 1))
    places, inside = (op.Unsqueeze(each, _whole([-1])) for each in (places, inside))
    distances = op.Abs(op.Sub(places, _constant(np.arange(cells), np.float32)))
    weights = op.Where(inside, op.Relu(op.Sub(_number(1.0), distances)), _number(0.0))
    weights = op.Reshape(weights, _whole([0, 0, output_size, -1, cells]))
    return op.ReduceMean(weights, _whole([3]), keepdims=0)


def _constant(value, dtype):
    return op.Constant(value=ir.tensor(np.asarray(value, dtype)))


def _number(value: float):
    return _constant(value, np.float32)


def _scalar(value: int):
    return _constant(value, np.int32)


def _long(value: int):
    return _constant(value, np.int64)


def _whole(values: list[int]):
    return _constant(values, np.int64)
