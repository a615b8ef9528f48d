"""Channels-last maps on PyTorch, convolved and enlarged: no copies, few passes over a map.

On a CPU a detector's early maps are larger than the caches, and reading or writing one costs more
than the arithmetic on it; what is saved here is passes. PyTorch is imported where it is needed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import keras

from frcnn.ops.torch_operators import operators

# Activations that clip, and between what.
_BOUNDS = {keras.activations.relu: (0.0, math.inf), keras.activations.relu6: (0.0, 6.0)}

# Whether gradients make kernels anew, or keep them as PyTorch does.
_REMAKING = ContextVar("remaking", default=True)


def convolve_view(layer, inputs, make_kernel, bias, activation):
    """Convolve a channels-last map through an NCHW view of it.

    Args:
        layer: the convolution layer, for its strides, padding and dilation.
        inputs: torch tensor (B, H, W, C_in).
        make_kernel: gives the kernel, a torch tensor (C_out, C_in // groups, k, k); called again
            for the backward pass.
        bias: torch tensor (C_out,) or None.
        activation: a Keras activation function or None.

    Returns:
        (B, H', W', C_out), with channels-last strides.
    """
    import torch
    import torch.nn.functional as F

    view, made = _channels_first(inputs), make_kernel()
    if _in_tiles(layer, view, made):
        outputs, activation = _convolve_tiles(view, made, make_kernel, bias, activation)
    else:
        outputs = _convolve(layer, view, made, make_kernel, bias)
    # In place, as a convolution's gradient does not need its output: one map less to keep. A
    # compiler arranges that for itself, and must not see our gradient of an in-place operation.
    if activation is keras.activations.relu:
        outputs, activation = relu_of(outputs), None
    elif activation is keras.activations.relu6:
        relu6 = F.relu6 if torch.compiler.is_compiling() else _relu6_in_place()
        outputs, activation = relu6(outputs), None
    outputs = outputs.permute(0, 2, 3, 1)
    return outputs if activation is None else activation(outputs)


def _convolve(layer, view, made, make_kernel, bias):
    """As ``convolve_view``, with PyTorch's own convolution."""
    import torch.nn.functional as F

    whole = _arranged(made)
    groups = view.shape[1] // whole.shape[1]
    view, kernel, padding = _pad(layer, view, whole, groups > 1)
    remade = _remade(kernel, lambda: _arranged(make_kernel()))
    with remade if kernel is whole else nullcontext():
        return F.conv2d(view, kernel, bias, layer.strides, padding, layer.dilation_rate, groups)


def _convolve_tiles(view, made, make_kernel, bias, activation):
    """As ``convolve_view``, by tiles: a map, and the activation if it is still to be applied."""
    import torch

    from frcnn.ops.torch_winograd import Convolution

    if torch.is_grad_enabled():
        with _remade(made, make_kernel):
            return Convolution.apply(view, made, bias), activation
    clips = activation in _BOUNDS
    low, high = _BOUNDS[activation] if clips else (-math.inf, math.inf)
    values = operators().winograd_kernel(made)
    outputs = operators().winograd(view, values, bias, low, high)
    return outputs, None if clips else activation


def _in_tiles(layer, view, kernel) -> bool:
    """Whether it pays to convolve as ``ops/torch_winograd.py`` does."""
    import torch

    if view.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if view.dtype != torch.float32 or "AVX" not in torch.backends.cpu.get_cpu_capability():
        return False
    from frcnn.ops.torch_winograd import suits

    margins = (1, 1) if layer.padding == "same" else layer.margins()
    plain = (*layer.strides, *layer.dilation_rate, *margins) == (1,) * 6
    return plain and suits(view.shape, kernel.shape)


def enlarge_view(x, size):
    """Nearest-neighbour (B, H, W, C) -> (B, *size, C), through an NCHW view."""
    import torch.nn.functional as F

    return F.interpolate(_channels_first(x), size=size).permute(0, 2, 3, 1)


@contextmanager
def kernels_kept() -> Iterator[None]:
    """Leave to others what gradients keep: of hooks on that, PyTorch asks the innermost alone."""
    token = _REMAKING.set(False)
    try:
        yield
    finally:
        _REMAKING.reset(token)


def _remade(kernel, make_kernel) -> AbstractContextManager:
    """While this is entered, gradients do not keep the kernel but make it anew when they need it.

    It is another arrangement of the weights, and so of all layers together a second copy of them.
    """
    import torch

    if not kernel.requires_grad or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return nullcontext()
    if not _REMAKING.get():
        return nullcontext()
    place, shape = kernel.data_ptr(), kernel.shape

    def pack(saved):
        return None if saved.data_ptr() == place and saved.shape == shape else saved

    def unpack(saved):
        if saved is not None:
            return saved
        with torch.no_grad():
            return make_kernel()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _arranged(kernel):
    """A kernel (C_out, C_in, k, k) in the order of values that convolutions would else make."""
    import torch

    last = torch.channels_last if kernel.is_cuda else torch.contiguous_format
    return kernel.contiguous(memory_format=last)


def relu_of(x):
    """ReLU of a map that nobody else uses, in its place; its maker's gradient must not need it."""
    import torch
    import torch.nn.functional as F

    return F.relu(x, inplace=not torch.compiler.is_compiling())


def max_pool_view(x, size: int, stride: int, margin: int):
    """Largest of each window of (B, H, W, C), through an NCHW view."""
    import torch.nn.functional as F

    return F.max_pool2d(_channels_first(x), size, stride, margin).permute(0, 2, 3, 1)


def _channels_first(x):
    """(B, H, W, C) -> (B, C, H, W), a view."""
    import torch

    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return _channels_first_function()(x)
    return x.permute(0, 3, 1, 2)


@functools.cache
def _channels_first_function() -> Callable[[Any], Any]:
    """A view whose gradient knows of no other tensor of its memory.

    PyTorch adds the gradient of a map's second reader in the first one's place only then. The
    gradient of its own view knows of what it is a view of, so that each sum would take a map.
    """
    import torch

    class ChannelsFirst(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.permute(0, 3, 1, 2)

        @staticmethod
        def backward(ctx, *gradients):
            view = gradients[0].permute(0, 2, 3, 1)
            return view if torch.is_grad_enabled() else view.detach()  # gradients of gradients

    return ChannelsFirst.apply


@functools.cache
def _relu6_in_place() -> Callable[[Any], Any]:
    """ReLU6 which keeps only its result; PyTorch's own in-place one first clones its input."""
    import torch

    class ReLU6(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            torch.nn.functional.hardtanh_(x, 0.0, 6.0)
            ctx.mark_dirty(x)
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, *gradients):
            (result,) = ctx.saved_tensors
            return torch.ops.aten.hardtanh_backward(gradients[0], result, 0.0, 6.0)

    return ReLU6.apply


def _pad(layer, view, kernel, grouped: bool):
    """Apply the layer's padding as cheaply as can be: (view, kernel, symmetric padding left).

    What is the same before and after is left to the convolution. One zero more after than before
    is put on the map, or, for a grouped convolution, whose cost is not its arithmetic but its
    maps, taken from the front of the kernel: a leading row of zero weights shifts all others.
    """
    import torch.nn.functional as F

    if layer.padding == "valid":
        return view, kernel, layer.margins()
    (top, bottom), (left, right) = (
        same_padding(*sizes)
        for sizes in zip(
            view.shape[2:], kernel.shape[2:], layer.strides, layer.dilation_rate, strict=True
        )
    )
    if top == bottom and left == right:
        return view, kernel, (top, left)
    if grouped and tuple(layer.dilation_rate) == (1, 1):
        return view, F.pad(kernel, (right - left, 0, bottom - top, 0)), (bottom, right)
    return F.pad(view, (left, right, top, bottom)), kernel, (0, 0)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's "same" rule along one axis: zeros (before, after), the odd one after."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2
