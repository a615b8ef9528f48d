"""NMS, RoIAlign and our own kernels as single operators of a PyTorch graph.

How much suppression there is to do depends on the data at every turn, which no tracer or compiler
can follow: to them NMS is one node, always. A deployment format has its own operators for both, far
faster than what an exporter would make of our code: while ``torch.export`` traces RoIAlign is one
node too. The writer of a format translates them or takes them apart. On a GPU two more are kernels
of ours, which a tracer would not see: RoIAlign's sum, and what follows a convolution. On a CPU
convolutions by tiles are two, which a tracer would follow strip by strip. PyTorch is imported where
it is needed.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from typing import Any

import keras

LOGGER = logging.getLogger(__name__)

NMS = (
    "(Tensor boxes, Tensor scores, Tensor usable, Tensor? groups, float iou_threshold, "
    "int max_outputs) -> (Tensor, Tensor)"
)
SOFT_NMS = (
    "(Tensor boxes, Tensor remaining, Tensor? groups, int max_outputs, float score_threshold, "
    "float sigma, float? iou_threshold) -> (Tensor, Tensor, Tensor)"
)
ROI_ALIGN = (
    "(Tensor[] features, Tensor boxes, Tensor levels, float[] scales, int output_size, "
    "int sampling_ratio, bool aligned) -> Tensor"
)

WINOGRAD_KERNEL = "(Tensor kernel) -> Tensor"
WINOGRAD = "(Tensor maps, Tensor values, Tensor? bias, float low, float high) -> Tensor"
WEIGHTED_SUM = "(Tensor table, Tensor y, Tensor x, Tensor y_weights, Tensor x_weights) -> Tensor"
FINISH = "(Tensor(a!) x, Tensor? bias, Tensor? other, float low, float high) -> ()"


def exporting() -> bool:
    """Whether ``torch.export`` is tracing."""
    if keras.config.backend() != "torch":
        return False
    import torch

    # A PyTorch too old for this has no exporter that we use.
    return getattr(torch.compiler, "is_exporting", bool)()


def runs_triton(tensor) -> bool:
    """Whether our kernels serve for a tensor: it lies on a GPU for which they can be compiled."""
    return tensor.is_cuda and installed("triton") and _compiles(tensor.get_device())


@functools.cache
def _compiles(device: int) -> bool:
    """Whether a kernel of ours can be compiled and run on a GPU; what hinders it is said once."""
    import torch

    from frcnn.ops.triton_finish import triton_finish

    try:
        triton_finish(torch.zeros((1, 1, 1, 1), device=f"cuda:{device}"), None, None, 0.0, 1.0)
    except Exception as error:  # of compilers and drivers
        LOGGER.warning(
            "This GPU works slower than it could: Triton, which comes with PyTorch, cannot compile "
            "for it (%.300s). It needs a C compiler, such as gcc, and a GPU of compute capability "
            "7.0 or later.",
            error,
        )
        return False
    return True


@functools.cache
def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def operators() -> Any:
    """``torch.ops.frcnn``, in which the operators below have their names."""
    import torch

    return torch.ops.frcnn


def _nms(*arguments):
    from frcnn.ops.nms import torch_nms

    return torch_nms(*arguments)


def _roi_align(*arguments):
    from frcnn.ops.roi import portable_align

    return portable_align(*arguments)


def _nms_like(boxes, scores, usable, groups, iou_threshold, max_outputs):
    import torch

    shape = scores.shape[0], max_outputs
    return scores.new_empty(shape, dtype=torch.int32), scores.new_empty(shape, dtype=torch.bool)


def _soft_nms_like(boxes, remaining, groups, max_outputs, *rule):
    import torch

    shape = remaining.shape[0], max_outputs
    index, used = (remaining.new_empty(shape, dtype=kind) for kind in (torch.int32, torch.bool))
    return index, remaining.new_empty(shape), used


def _traced_only(*arguments):
    raise NotImplementedError("The operator frcnn::soft_nms is taken apart before it is run.")


def _roi_align_like(features, boxes, levels, scales, output_size, sampling_ratio, aligned):
    channels = features[0].shape[-1]
    return features[0].new_empty((*levels.shape, output_size, output_size, channels))


def _weighted_sum(*arguments):
    from frcnn.ops.triton_sum import triton_weighted_sum

    return triton_weighted_sum(*arguments)


def _weighted_sum_like(table, y, x, y_weights, x_weights):
    return table.new_empty((*y.shape[:-1], x.shape[-2], table.shape[1]))


def _winograd_kernel(kernel):
    """(C_out, C_in, 3, 3) -> (36, C_in, C_out)."""
    from frcnn.ops.torch_winograd import transform_kernel

    return transform_kernel(kernel.permute(2, 3, 1, 0))


def _winograd_kernel_like(kernel):
    return kernel.new_empty((36, kernel.shape[1], kernel.shape[0]))


def _winograd(*arguments):
    from frcnn.ops.torch_winograd import convolve

    return convolve(*arguments)


def _winograd_like(maps, values, bias, low, high):
    import torch

    (images, _, height, width), last = maps.shape, torch.channels_last
    shape = images, values.shape[2], height, width
    return torch.empty(shape, dtype=maps.dtype, device=maps.device, memory_format=last)


def _finish(x, bias, other, low, high):
    """Add to a map, in its place, a bias (C,) and another map, and clip it to low..high.

    Args:
        x: (B, C, H, W), best with channels-last strides.
        bias: (C,) or None.
        other: as ``x``, or smaller and enlarged first, cell i of n being cell floor(i * m / n) of
            its m; or None.
        low: least value.
        high: largest value.
    """
    import torch

    last = torch.channels_last
    if runs_triton(x) and x.is_contiguous(memory_format=last):
        from frcnn.ops.triton_finish import triton_finish

        other = None if other is None else other.contiguous(memory_format=last)
        triton_finish(x, bias, other, low, high)
        return
    if other is not None and other.shape != x.shape:
        other = torch.nn.functional.interpolate(other, x.shape[2:])
    for term in (None if bias is None else bias[:, None, None], other):
        if term is not None:
            x.add_(term)
    if (low, high) != (-math.inf, math.inf):
        x.clamp_(low, high)


def _finish_like(x, bias, other, low, high):
    return None


def _define() -> None:
    """Tell PyTorch of the operators: once, before anything traces a use of them."""
    import torch

    for name, function, schema, like, changed in (
        ("nms", _nms, NMS, _nms_like, ()),
        ("soft_nms", _traced_only, SOFT_NMS, _soft_nms_like, ()),
        ("roi_align", _roi_align, ROI_ALIGN, _roi_align_like, ()),
        ("winograd_kernel", _winograd_kernel, WINOGRAD_KERNEL, _winograd_kernel_like, ()),
        ("winograd", _winograd, WINOGRAD, _winograd_like, ()),
        ("weighted_sum", _weighted_sum, WEIGHTED_SUM, _weighted_sum_like, ()),
        ("finish", _finish, FINISH, _finish_like, ("x",)),
    ):
        operator = torch.library.custom_op(
            f"frcnn::{name}", function, mutates_args=changed, schema=schema
        )
        operator.register_fake(like)


if keras.config.backend() == "torch":
    _define()
