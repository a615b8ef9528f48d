"""3x3 convolutions on a processor with a quarter of the products.

Tiles of 4x4 results are products of polynomials, known by their values at six points
(``ops/winograd.py``). Summed over channels, for many tiles at once, that is a matrix product for
each of 36 pairs of points, in place of nine for each of the 16 results.

Work goes by strips of tiles that the caches hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch

from frcnn.ops.winograd import P, Q, of_kernels

_TILES = 256  # in a strip, about

# Below these the work on tiles outweighs the products saved: channels of either side, and tiles
# where the kernel's values are at hand, and where they must be made and gradients are.
_CHANNELS, _TILES_READY, _TILES_TRAINING = 128, 16, 128

_LAST, _FROM_OUTPUTS = (0, 2, 3, 1), (2, 3, 1, 0)  # channels; a kernel (C_out, C_in, 3, 3)

Values = torch.Tensor | Sequence[torch.Tensor]  # of many polynomials, the first of each first


def suits(maps: Sequence[int], kernel: Sequence[int], ready: bool = False) -> bool:
    """Whether a convolution of float32 without strides, on a processor, is faster so.

    Args:
        maps: (B, C_in, H, W), a shape.
        kernel: (C_out, C_in, k, k), a shape; with fewer inputs if it is one of several groups.
        ready: the kernel's values at the points are at hand.
    """
    (images, channels, height, width), (outputs, inputs, *sides) = maps, kernel
    tiles = images * -(-height // 4) * -(-width // 4)
    return (
        sides == [3, 3]
        and channels == inputs
        and min(inputs, outputs) >= _CHANNELS
        and tiles >= (_TILES_READY if ready else _TILES_TRAINING)
    )


def transform_kernel(kernel: torch.Tensor, turned: bool = False) -> torch.Tensor:
    """The values of a kernel at the points.

    Args:
        kernel: (3, 3, C_in, C_out).
        turned: of the kernel by half a turn that leads from outputs to inputs, the gradient's.

    Returns:
        (36, C_in, C_out), or (36, C_out, C_in) if turned.
    """
    points = _kernel_points(turned).to(kernel)
    values = (points @ kernel.reshape(9, -1)).view(36, *kernel.shape[2:])
    return values.transpose(1, 2) if turned else values


def convolve(
    maps: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None = None,
    low: float = -math.inf,
    high: float = math.inf,
) -> torch.Tensor:
    """Convolve maps, beyond whose edges are zeros, and clip the results.

    Args:
        maps: (B, C_in, H, W), best with channels-last strides.
        values: (36, C_in, C_out), of ``transform_kernel``.
        bias: (C_out,).
        low: least value.
        high: largest value.

    Returns:
        (B, C_out, H, W), with channels-last strides.
    """
    strips, outputs = _Strips(maps), values.shape[2]
    shape = len(maps), outputs, *maps.shape[2:]
    results = torch.empty(shape, dtype=maps.dtype, memory_format=torch.channels_last)
    products, rows = strips.empty(outputs, 6, 6), strips.empty(outputs, 4, 6)
    tiles = strips.frame(outputs)
    columns = tiles.unflatten(1, (-1, 4)).permute(3, 2, 0, 1, 4, 5)
    for where, at_points in strips.at_points():
        torch.bmm(at_points, values, out=_matrices(products))
        _results(products, rows)
        _results(rows.unbind(1), columns)
        part = results.permute(_LAST)[where]
        _take(part, tiles, bias)
        if (low, high) != (-math.inf, math.inf):
            part.clamp_(low, high)
    return results


def kernel_gradient(maps: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """The gradient of a convolution's kernel.

    Args:
        maps: (B, C_in, H, W), what was convolved.
        given: (B, C_out, H, W), the gradient of the results.

    Returns:
        (3, 3, C_in, C_out).
    """
    strips, outputs = _Strips(maps), given.shape[1]
    sums = maps.new_zeros((36, maps.shape[1], outputs))
    tiles, values = strips.frame(outputs), strips.empty(outputs, 6, 6)
    rows = tiles.new_empty((6, *tiles.unfold(1, 4, 4).shape[:-1]))
    for where, at_points in strips.at_points():
        _lay(tiles, given.permute(_LAST)[where], 0, 0)
        _results_at_points(tiles.unfold(1, 4, 4).unbind(-1), rows)
        _results_at_points(rows.unbind(3), values.unbind(1))
        sums.baddbmm_(at_points.transpose(1, 2), _matrices(values))
    points = _kernel_points(False).to(maps)
    return (points.T @ sums.flatten(1)).view(3, 3, *sums.shape[1:])


class Convolution(torch.autograd.Function):
    """``convolve`` with gradients: (maps, kernel (C_out, C_in, 3, 3), bias) -> maps."""

    @staticmethod
    def forward(ctx, maps, kernel, bias):
        """Convolve."""
        ctx.save_for_backward(maps, kernel)
        return convolve(maps, transform_kernel(kernel.permute(_FROM_OUTPUTS)), bias)

    @staticmethod
    def backward(ctx, *gradients):
        """The gradients of those inputs that need one."""
        (given,), (maps, kernel) = gradients, ctx.saved_tensors
        of_maps = of_kernel = of_bias = None
        if ctx.needs_input_grad[0]:
            of_maps = convolve(given, transform_kernel(kernel.permute(_FROM_OUTPUTS), turned=True))
        if ctx.needs_input_grad[1]:
            of_kernel = kernel_gradient(maps, given).permute(3, 2, 0, 1)
        if ctx.needs_input_grad[2]:
            of_bias = given.sum((0, 2, 3))
        return of_maps, of_kernel, of_bias


class _Strips:
    """Parts of a batch of maps, alike in size: whole small maps, or rows of tiles of one."""

    def __init__(self, maps: torch.Tensor):
        images, _, height, width = maps.shape
        down, across = -(-height // 4), -(-width // 4)
        self.maps, self.across = maps.permute(_LAST), across
        self.rows = _share(down, _TILES // across)
        self.images = _share(images, _TILES // (down * across))

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Which images, and which rows of the results."""
        images, height = self.maps.shape[:2]
        for first in range(0, images, self.images):
            for top in range(0, height, 4 * self.rows):
                yield slice(first, first + self.images), slice(top, top + 4 * self.rows)

    def empty(self, channels: int, *points: int) -> torch.Tensor:
        """Room for something of each tile: (..., images, rows, columns, C)."""
        return self.maps.new_empty((*points, self.images, self.rows, self.across, channels))

    def frame(self, channels: int, margin: int = 0) -> torch.Tensor:
        """Zeros in place of the tiles, and around them: (images, rows, 4, columns / 4, C).

        First comes every fourth column, then the next of each: what the columns of all tiles
        have in common lies side by side.
        """
        rows, columns = 4 * self.rows + 2 * margin, self.across + margin
        return self.maps.new_zeros((self.images, rows, 4, columns, channels))

    def at_points(self) -> Iterator[tuple[tuple[slice, slice], torch.Tensor]]:
        """For each strip where its results belong, and the maps' values (36, tiles, C_in)."""
        channels, across = self.maps.shape[3], self.across
        padded, values = self.frame(channels, 1), self.empty(channels, 6, 6)
        rows = padded.new_empty((6, self.images, self.rows, *padded.shape[2:]))
        pieces = [rows[:, :, :, k % 4, k // 4 : k // 4 + across] for k in range(6)]
        for images, results in self:
            _lay(padded, self.maps[images], results.start - 1, 1)
            _maps_at_points(padded.unfold(1, 6, 4).unbind(-1), rows)
            _maps_at_points(pieces, values.unbind(1))
            yield (images, results), _matrices(values)


def _share(whole: int, most: int) -> int:
    """The size of equal parts, as few as may be."""
    return -(-whole // -(-whole // max(min(whole, most), 1)))


def _matrices(values: torch.Tensor) -> torch.Tensor:
    """(6, 6, images, rows, columns, C) -> (36, tiles, C)."""
    return values.view(36, -1, values.shape[-1])


def _lay(frame: torch.Tensor, maps: torch.Tensor, top: int, margin: int) -> None:
    """Put maps' rows from ``top`` on, and ``margin`` columns of zeros before, into a frame."""
    part = maps[:, max(top, 0) : top + frame.shape[1]]
    if part.shape[:2] != frame.shape[:2]:
        frame.zero_()
    rows = frame[: len(part), max(-top, 0) :][:, : part.shape[1]]
    for k in range(4):
        first = k < margin  # of these columns one is a zero
        columns = part[:, :, (k - margin) % 4 :: 4]
        rows[:, :, k, first : first + columns.shape[2]] = columns


def _take(part: torch.Tensor, frame: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Fill a part of the results from a frame, and add a bias."""
    for k in range(4):
        columns = part[:, :, k::4]
        found = frame[: part.shape[0], : part.shape[1], k, : columns.shape[2]]
        columns.copy_(found) if bias is None else torch.add(found, bias, out=columns)


# None of these three takes memory of its own, which would cost more than what they do.


def _maps_at_points(piece: Values, values: Values) -> None:
    """Six values of a map in a row -> those of a polynomial at the points."""
    even, odd = values[0], values[5]
    for place, point, other in ((1, P, Q), (3, Q, P)):
        torch.sub(piece[4], piece[2], alpha=other**2, out=even)
        torch.sub(piece[3], piece[1], alpha=other**2, out=odd)
        torch.add(even, odd, alpha=point, out=values[place])
        torch.sub(even, odd, alpha=point, out=values[place + 1])
    even.sub_(piece[2], alpha=Q**2).add_(piece[0], alpha=(P * Q) ** 2)
    odd.mul_(-(Q**2)).sub_(piece[3], alpha=P**2).add_(piece[5])


def _results(values: Values, tile: Values) -> None:
    """Products at the points, which are used up -> four results in a row."""
    difference, other = tile[3], values[2]
    torch.sub(values[1], values[2], out=difference)
    values[1].add_(values[2])
    torch.sub(values[3], values[4], out=other)
    values[3].add_(values[4])
    torch.add(values[0], values[1], out=tile[0]).add_(values[3])
    torch.mul(values[1], P**2, out=tile[2]).add_(values[3], alpha=Q**2)
    torch.mul(difference, P, out=tile[1]).add_(other, alpha=Q)
    difference.mul_(P**3).add_(other, alpha=Q**3).add_(values[5])


def _results_at_points(tile: Values, values: Values) -> None:
    """Gradients of four results in a row -> those of the products at the points."""
    even, odd = values[0], values[5]
    for place, point in ((1, P), (3, Q)):
        torch.add(tile[0], tile[2], alpha=point**2, out=even)
        torch.add(tile[1], tile[3], alpha=point**2, out=odd)
        torch.add(even, odd, alpha=point, out=values[place])
        torch.sub(even, odd, alpha=point, out=values[place + 1])
    even.copy_(tile[0])
    odd.copy_(tile[3])


@functools.cache
def _kernel_points(turned: bool) -> torch.Tensor:
    """(36, 9): a kernel -> its values at the points, over the differences between these."""
    rows = torch.from_numpy(of_kernels())
    rows = rows.flip(1) if turned else rows
    return torch.kron(rows, rows)
