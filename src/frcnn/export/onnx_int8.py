"""8-bit weights and activations for an ONNX graph, by calibration on pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from frcnn.errors import UserError
from frcnn.export.torch_program import quiet
from frcnn.inference.artefact import INPUTS

LAYERS = ("Conv", "Gemm", "MatMul")
# What may stand between two layers; anything else is arithmetic on boxes and scores.
BETWEEN = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "HardSigmoid",
    "HardSwish",
    "MatMul",
    "MaxPool",
    "Mul",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "RoiAlign",
    "Sigmoid",
    "Slice",
    "Transpose",
)


def quantise(source: Path, target: Path, calibration) -> Path:
    """Quantise the layers of a graph.

    The first layer and those that give the two stages' logits and deltas stay float32: they are
    small, and rounding them would show in every score and box.

    Args:
        source: an ONNX file.
        target: the file to write.
        calibration: batches (images, sizes), by which the ranges of activations are chosen.

    Raises:
        UserError: there is no batch.
    """
    graph = onnx.load(source).graph
    with quiet():
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LAYERS),
            nodes_to_quantize=inner_layers(graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return target


def inner_layers(graph) -> list[str]:
    """Names of the layers that have another before and after them."""
    kernels = {each.name for each in graph.initializer}
    layers, readers = [], {}
    for node in graph.node:
        names = node.input
        if node.op_type == "RoiAlign":  # what RoIs are pooled from counts, not where they are
            names = node.input[:1]
        elif node.op_type in LAYERS and node.input[1] in kernels:
            layers.append(node)
        elif node.op_type == "MatMul":  # RoIs' weights for the cells of a map
            names = node.input[1:]
        for name in names:
            readers.setdefault(name, []).append(node)
    led_to = {after.name: False for after in layers}
    inner = []
    for layer in layers:
        following = list(_following(layer, readers, led_to))
        if following:
            inner.append(layer.name)
        led_to.update(dict.fromkeys(following, True))
    return [name for name in inner if led_to[name]]


def _following(layer, readers, layers) -> Iterator[str]:
    """Names of the layers that read what ``layer`` gives, by way of ``BETWEEN`` alone."""
    waiting, seen = [*layer.output], set()
    while waiting:
        for node in readers.get(waiting.pop(), []):
            if node.name in seen:
                continue
            seen.add(node.name)
            if node.name in layers:
                yield node.name
            elif node.op_type in BETWEEN:
                waiting += node.output


class _Reader(CalibrationDataReader):
    """Batches as ONNX Runtime's calibration asks for them."""

    def __init__(self, batches):
        self._batches = iter(batches)
        self._read = 0

    def get_next(self) -> Any:
        """The next batch by the names of the graph's inputs; None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            if not self._read:
                raise UserError("No picture was given for calibration; 8 bits need some tens.")
            return None
        self._read += 1
        return dict(zip(INPUTS, batch, strict=True))
