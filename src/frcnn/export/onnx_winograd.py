"""Large 3x3 convolutions of an ONNX graph by tiles, ``ops/winograd.py``, in standard operators.

Three matrix products in place of one: pieces of 6x6 cells -> their values at 36 pairs of points;
those and the kernel's, summed over channels, with a quarter of the convolution's products; what
comes of it -> tiles of 4x4 results. Two ``Gather`` lay out the pieces and the results. Large maps
go by strips, for the pieces take more than twice a map's room, and so do the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass
from onnxscript.rewriter import pattern, rewrite

from frcnn.ops import winograd

# Below these the work on tiles, and reading four times the weights, outweigh the products saved.
CHANNELS, CELLS = 128, 1000
TILES = 512  # of an image in a strip, about


def by_tiles(model: ir.Model) -> ir.Model:
    """Replace those convolutions of float32 that are faster so on a processor."""
    model = ShapeInferencePass()(model).model
    return rewrite(model, [_ByTiles.rule()])


def suits(cells: Sequence, kernel: Sequence[int]) -> bool:
    """Whether a convolution without strides is faster so.

    Args:
        cells: (H, W) of the map; a side that is no number is not known.
        kernel: (C_out, C_in, k, k), a shape.
    """
    outputs, inputs, *sides = kernel
    return (
        sides == [3, 3]
        and min(inputs, outputs) >= CHANNELS
        and all(isinstance(side, int) for side in cells)
        and math.prod(cells) >= CELLS
    )


class _ByTiles(pattern.RewriteRuleClassBase):
    """The rule by which the graph is rewritten."""

    def pattern(self, op, maps, kernel):
        """A convolution, with a bias or without."""
        return op.Conv(
            maps, kernel, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["made"]
        )

    def check(self, context, maps, kernel, made, **_):
        """Whether it is one that suits, its kernel a number of the graph."""
        attributes = made.producer().attributes
        ones = ("pads", "strides", "dilations")
        numbers = [number for name in ones for number in attributes.get_ints(name, [0])]
        return (
            maps.shape is not None
            and kernel.const_value is not None
            and numbers == [1] * 8
            and attributes.get_int("group", 1) == 1
            and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
            and suits(maps.shape[2:], kernel.const_value.shape)
        )

    def rewrite(self, op, maps, kernel, made):
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        kernel = kernel.const_value.numpy()
        outputs, inputs = kernel.shape[:2]
        height, width = maps.shape[2:]
        down, across = -(-height // 4), -(-width // 4)

        def given(values, name: str, kind: type = np.float32):
            array = np.ascontiguousarray(values, kind)
            return op.initializer(ir.tensor(array), f"{made.name}_{name}")

        def shape(*sides: int):
            return op.Constant(value=ir.tensor(np.array(sides, np.int64)))

        of_maps = given(_pairs(winograd.of_maps()), "of_maps")
        of_results = given(_pairs(winograd.of_results()), "of_results")
        points = _pairs(winograd.of_kernels()) @ kernel.reshape(outputs * inputs, 9).T
        points = points.reshape(36, outputs, inputs).transpose(0, 2, 1)
        of_kernel = given(points, "of_kernel")
        after = 4 * down + 1 - height, 4 * across + 1 - width
        cells = op.Pad(op.Transpose(maps, perm=[0, 2, 3, 1]), shape(0, 1, 1, 0, 0, *after, 0))
        cells = op.Reshape(cells, shape(0, -1, inputs))
        strips = []
        most = -(-down // -(-down * across // TILES))
        for first in range(0, down, most):
            rows, left = min(most, down - first), height - 4 * first
            pieces = _pieces(rows, across) + 4 * first * (4 * across + 2)
            x = op.Gather(cells, given(pieces, f"pieces_{first}", np.int32), axis=1)
            x = op.MatMul(of_maps, op.Reshape(x, shape(0, 36, -1)))
            x = op.MatMul(op.Reshape(x, shape(0, 36, -1, inputs)), of_kernel)
            x = op.MatMul(of_results, op.Reshape(x, shape(0, 36, -1)))
            x = op.Reshape(x, shape(0, -1, outputs))  # [B, 16 * tiles, C_out]
            places = _places(min(4 * rows, left), width)
            strips.append(op.Gather(x, given(places, f"places_{first}", np.int32), axis=1))
        x = op.Concat(*strips, axis=1) if len(strips) > 1 else strips[0]  # [B, H, W, C_out]
        bias = made.producer().inputs[2:]
        if bias:
            x = op.Add(x, *bias)
        x = op.Transpose(x, perm=[0, 3, 1, 2])
        if any(user.op_type == "RoiAlign" for user, _ in made.uses()):
            # OpenVINO pools far faster what a convolution gives, which has its channels last.
            x = op.Conv(x, given(np.ones((outputs, 1, 1, 1)), "one"), group=outputs)
        return x


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """What a matrix does along rows and along columns, at once."""
    return np.kron(matrix, matrix)


def _pieces(down: int, across: int) -> np.ndarray:
    """(36, tiles): which cell of a map with margins is at each place of each piece."""
    place, row, column = np.arange(6), np.arange(down), np.arange(across)
    rows, columns = place[:, None] + 4 * row, place[:, None] + 4 * column
    cells = rows[:, None, :, None] * (4 * across + 2) + columns[:, None]
    return cells.reshape(36, down * across)


def _places(height: int, width: int) -> np.ndarray:
    """(height, width): which of all tiles' results, (4, 4, down, across), is that of each cell."""
    down, across = -(-height // 4), -(-width // 4)
    results = np.arange(16 * down * across).reshape(4, 4, down, across)
    return results.transpose(2, 0, 3, 1).reshape(4 * down, 4 * across)[:height, :width]
