"""ONNX: one file for ONNX Runtime and many others, with ONNX's own NMS and RoIAlign inside."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import UserError
from frcnn.inference.artefact import INPUTS, KEY, OUTPUTS, Artefact
from frcnn.inference.runtime import RuntimeDetector
from frcnn.inference.runtime import open_artefact as open_runtime
from frcnn.models.detector import DetectionModel
from frcnn.ops.torch_operators import operators

OPSET = 20
Batches = Iterable[tuple[np.ndarray, np.ndarray]]


def write(
    model: DetectionModel,
    artefact: Artefact,
    path: Path,
    calibration: Batches | None = None,
    winograd: bool = True,
) -> Path:
    """Write a detector as an ONNX file.

    Args:
        model: the detector, on Keras's PyTorch backend.
        artefact: what is written; kept among the file's ``metadata_props`` under ``frcnn``, in
            words as ``doc_string`` of the file, its inputs and outputs.
        path: of the file.
        calibration: batches (images, sizes) of the artefact's shapes, by which convolutions and
            matrix products are quantised to 8 bits.
        winograd: large 3x3 convolutions of float32 go by tiles, as of ``export/onnx_winograd.py``.

    Returns:
        ``path``.

    Raises:
        UserError: a package is missing.
    """
    onnx = _onnx()
    with tempfile.TemporaryDirectory() as folder:
        plain, simple = Path(folder, "plain.onnx"), Path(folder, "simple.onnx")
        _translate(model, artefact).save(plain)
        _simplify(plain, simple)
        _rewrite(simple, winograd and calibration is None)
        if calibration is not None:
            from frcnn.export.onnx_int8 import quantise

            simple = quantise(simple, Path(folder, "int8.onnx"), calibration)
        content = onnx.load(simple)
    content.producer_name, content.producer_version = KEY, artefact.origin.get(KEY, "")
    onnx.helper.set_model_props(content, {KEY: artefact.to_json()})
    _put_in_words(content, artefact)
    _name_batch(content.graph)
    _drop_unused_domains(content)
    onnx.save(content, path)
    return path


def open_artefact(path: Path) -> RuntimeDetector:
    """The file in use, by ONNX Runtime."""
    return open_runtime(path)


def _translate(model: DetectionModel, artefact: Artefact) -> Any:
    """The detector as an ``torch.onnx.ONNXProgram``, constants folded."""
    import torch
    from onnxscript import optimizer

    from frcnn.export import onnx_operators
    from frcnn.export.torch_program import quiet, trace

    ours = operators()
    with quiet():
        program = torch.onnx.export(
            trace(model, artefact, apart=("soft_nms",)),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            optimize=False,
            custom_translation_table={
                ours.nms.default: onnx_operators.nms,
                ours.roi_align.default: onnx_operators.roi_align,
            },
        )
        assert program is not None  # as it was not told to write a file
        # Kernels are scaled by their normalisation as the graph runs, unless that is folded.
        optimizer.optimize(program.model, input_size_limit=2**31, output_size_limit=2**31)
    return program


def _simplify(source: Path, target: Path) -> None:
    """Let ONNX Runtime fold, fuse and cancel transpositions, in standard operators alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _rewrite(path: Path, winograd: bool) -> None:
    """Join activations, tile large convolutions if wanted, keep once what several layers share."""
    import onnx_ir as ir
    from onnx_ir.passes.common import DeduplicateInitializersPass

    from frcnn.export.onnx_activations import join_activations

    model = join_activations(ir.load(path))
    if winograd:
        from frcnn.export.onnx_winograd import by_tiles

        model = by_tiles(model)
    model = DeduplicateInitializersPass(size_limit=2**31)(model).model
    ir.save(model, path)


def _put_in_words(content: Any, artefact: Artefact) -> None:
    """Say what the file takes and gives, where viewers of ONNX files show it."""
    words = artefact.description
    content.doc_string = "\n".join(f"{name}: {text}" for name, text in words.items())
    for value in (*content.graph.input, *content.graph.output):
        value.doc_string = words[value.name]


def _name_batch(graph: Any) -> None:
    """Call the open number of images ``batch``, where PyTorch has a symbol such as ``s34``."""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    if not symbol:
        return
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = re.sub(rf"\b{symbol}\b", "batch", side.dim_param)


def _drop_unused_domains(content: Any) -> None:
    """Name only the sets of operators that are used; ONNX Runtime names all that it has."""
    used = {node.domain for node in _nodes(content.graph)}
    used = {"" if domain == "ai.onnx" else domain for domain in used}  # two names of one
    for entry in [*content.opset_import]:
        if entry.domain not in used:
            content.opset_import.remove(entry)


def _nodes(graph: Any) -> Iterator[Any]:
    """Those of a graph, and of the graphs inside them, as of loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _onnx() -> Any:
    """The package ``onnx``, once all that is needed to write is there."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime", "onnxscript"):
            raise
        raise UserError(
            f"ONNX files are written by {error.name}, which is not installed. Install it with "
            "`pip install 'frcnn[export]'`."
        ) from error
    return onnx
