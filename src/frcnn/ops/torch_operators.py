"""NMS and RoIAlign as single operators of an exported PyTorch graph.

A deployment format has its own operators for both, far faster than what an exporter would make of
our code. So while ``torch.export`` traces, and then alone, each is one node, which the writer of a
format translates or takes apart. PyTorch is imported where it is needed.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

NMS = (
    "(Tensor boxes, Tensor scores, Tensor usable, Tensor? groups, float iou_threshold, "
    "int max_outputs) -> (Tensor, Tensor)"
)
ROI_ALIGN = (
    "(Tensor[] features, Tensor boxes, Tensor levels, float[] scales, int output_size, "
    "int sampling_ratio, bool aligned) -> Tensor"
)


def exporting() -> bool:
    """Whether ``torch.export`` is tracing."""
    if keras.config.backend() != "torch":
        return False
    import torch

    # A PyTorch too old for this has no exporter that we use.
    return getattr(torch.compiler, "is_exporting", bool)()


@functools.cache
def operators() -> Any:
    """``torch.ops.frcnn`` with ``nms`` and ``roi_align``, defined at the first call."""
    import torch

    from frcnn.ops.nms import portable_nms
    from frcnn.ops.roi import portable_align

    def define(name, function, schema, like):
        operator = torch.library.custom_op(
            f"frcnn::{name}", function, mutates_args=(), schema=schema
        )
        operator.register_fake(like)

    define("nms", portable_nms, NMS, _nms_like)
    define("roi_align", portable_align, ROI_ALIGN, _roi_align_like)
    return torch.ops.frcnn


def _nms_like(boxes, scores, usable, groups, iou_threshold, max_outputs):
    import torch

    shape = scores.shape[0], max_outputs
    return scores.new_empty(shape, dtype=torch.int32), scores.new_empty(shape, dtype=torch.bool)


def _roi_align_like(features, boxes, levels, scales, output_size, sampling_ratio, aligned):
    channels = features[0].shape[-1]
    return features[0].new_empty((*levels.shape, output_size, output_size, channels))
