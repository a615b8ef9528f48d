"""OpenVINO: an ``.xml`` file with the graph and a ``.bin`` file with the weights beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from frcnn.errors import UserError
from frcnn.export import onnx
from frcnn.inference.artefact import KEY, Artefact
from frcnn.models.detector import DetectionModel


def write(
    model: DetectionModel,
    artefact: Artefact,
    path: Path,
    calibration: onnx.Batches | None = None,
    winograd: bool = True,
) -> Path:
    """Write a detector for OpenVINO, by way of ONNX.

    Args:
        model: the detector, on Keras's PyTorch backend.
        artefact: what is written; kept in the file's ``rt_info`` under ``frcnn``.
        path: of the ``.xml`` file.
        calibration: as of ``onnx.write``.
        winograd: as of ``onnx.write``.

    Returns:
        ``path``.

    Raises:
        UserError: a package is missing.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        raise UserError(
            "OpenVINO's files are written by the package openvino, which is not installed. "
            "Install it with `pip install 'frcnn[export,openvino]'`."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        source = onnx.write(model, artefact, Path(folder, "detector.onnx"), calibration, winograd)
        graph = openvino.convert_model(source)
        graph.set_rt_info(artefact.to_json(), [KEY])
        openvino.save_model(graph, path, compress_to_fp16=False)
    return path
