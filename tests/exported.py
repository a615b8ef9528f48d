"""Exported detectors small enough to make in a test: graphs with the names of ``frcnn export``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from frcnn.inference.artefact import KEY, Artefact

CLASSES = ("disc", "square")
CANVAS = (64, 96)


def artefact(**changed) -> Artefact:
    values = {
        "classes": CLASSES,
        "canvas": CANVAS,
        "batch": None,
        "images": "uint8",
        "short": 64,
        "long": 96,
        "resizing": "smooth",
        "rule": {"score": 0.05},
    }
    return Artefact(**{**values, **changed})


def write_onnx(path: Path, metadata: str | None = None, outputs=None, **changed) -> Path:
    """A graph that finds a "disc" in the middle of a picture and a "square" all over it.

    The disc's score is the mean of the canvas, 0..1, the square's is half of that.
    """
    of = artefact(**changed)
    kind = TensorProto.UINT8 if of.images == "uint8" else TensorProto.FLOAT
    batch = of.batch or "B"
    constants = {
        "corners": [[0, 0.25, 0, 0.75, 0, 0, 0, 1], [0.25, 0, 0.75, 0, 0, 0, 1, 0]],  # of (h, w)
        "rows": np.array([-1, 2, 4]),
        "flat": np.array([-1]),
        "column": np.array([-1, 1]),
        "shares": [[1 / 255, 0.5 / 255]],
        "zero": 0,
        "names": [[0, 1]],
        "two": 2,
    }
    nodes = [
        ("Cast", ["sizes"], "real_sizes", {"to": TensorProto.FLOAT}),
        ("MatMul", ["real_sizes", "corners"], "flat_boxes", {}),
        ("Reshape", ["flat_boxes", "rows"], "boxes", {}),
        ("Cast", ["images"], "pixels", {"to": TensorProto.FLOAT}),
        ("ReduceMean", ["pixels"], "means", {"axes": [1, 2, 3]}),
        ("Reshape", ["means", "column"], "mean", {}),
        ("MatMul", ["mean", "shares"], "scores", {}),
        ("Mul", ["mean", "zero"], "nothing", {}),
        ("Add", ["nothing", "names"], "real_labels", {}),
        ("Cast", ["real_labels"], "labels", {"to": TensorProto.INT32}),
        ("Add", ["nothing", "two"], "twos", {}),
        ("Reshape", ["twos", "flat"], "real_count", {}),
        ("Cast", ["real_count"], "count", {"to": TensorProto.INT32}),
    ]
    shapes = {
        "boxes": (TensorProto.FLOAT, [batch, 2, 4]),
        "scores": (TensorProto.FLOAT, [batch, 2]),
        "labels": (TensorProto.INT32, [batch, 2]),
        "count": (TensorProto.INT32, [batch]),
    }
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **more) for kind, given, made, more in nodes],
        "detector",
        [
            helper.make_tensor_value_info("images", kind, [batch, *of.canvas, 3]),
            helper.make_tensor_value_info("sizes", TensorProto.INT32, [batch, 2]),
        ],
        [helper.make_tensor_value_info(name, *shapes[name]) for name in outputs or shapes],
        [
            numpy_helper.from_array(
                np.asarray(value, None if isinstance(value, np.ndarray) else np.float32), name
            )
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata != "":
        helper.set_model_props(model, {KEY: metadata or of.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_openvino(path: Path, metadata: str | None = None, outputs=None, **changed) -> Path:
    """The same as OpenVINO's ``.xml`` and ``.bin``."""
    import openvino

    source = write_onnx(path.with_suffix(".onnx"), metadata, outputs, **changed)
    model = openvino.Core().read_model(source)
    if metadata != "":
        model.set_rt_info(metadata or artefact(**changed).to_json(), [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    source.unlink()
    return path
