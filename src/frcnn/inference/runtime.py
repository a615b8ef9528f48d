"""An exported detector in use: ONNX Runtime or OpenVINO on the processor, and no Keras."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import UserError
from frcnn.inference.artefact import INPUTS, KEY, OUTPUTS, Artefact
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Preparation
from frcnn.threads import available_cores

Graph = Callable[[dict[str, np.ndarray]], Mapping[str, Any]]  # INPUTS -> OUTPUTS, by name


class RuntimeDetector(PictureDetector):
    """An exported detector, in use as one of Keras is.

    Args:
        artefact: what it says of itself.
        graph: runs it: takes ``INPUTS`` by name, gives ``OUTPUTS`` by name.
    """

    def __init__(self, artefact: Artefact, graph: Graph):
        self.artefact = artefact
        self._graph = graph

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.artefact.classes

    @property
    def preparation(self) -> Preparation:
        """How pictures are prepared for ``infer``."""
        of = self.artefact
        return Preparation(of.short, of.long, (of.canvas,), of.resizing)

    @property
    def most_boxes(self) -> int | None:
        """Boxes that its graph returns for a picture, at most."""
        count = self.artefact.rule.get("count")
        return count if isinstance(count, int) else None

    @property
    def fixed_batch(self) -> int | None:
        """Pictures that it was exported for, at once."""
        return self.artefact.batch

    @property
    def fixed_canvas(self) -> bool:
        """It was exported for one."""
        return True

    @property
    def fills_batches(self) -> bool:
        """Whether it was exported for a number of pictures."""
        return self.artefact.batch is not None

    def infer(self, images: np.ndarray, sizes: np.ndarray) -> Mapping[str, Any]:
        """Run the graph on prepared pictures, as ``PictureDetector`` says.

        Raises:
            UserError: it fails, or what it gives is no detections: it is not of ``frcnn export``.
        """
        given = {"images": images.astype(self.artefact.images, copy=False), "sizes": sizes}
        try:
            found = self._graph(given)
        except Exception as error:  # the libraries' errors have no base of their own
            reason = " ".join(str(error).split())
            raise UserError(f"The exported detector cannot be run: {reason}") from error
        _check_found(found, len(images), len(self.classes))
        return found


def open_artefact(path: str | Path) -> RuntimeDetector:
    """Open what ``frcnn export`` wrote.

    Args:
        path: an ``.onnx`` file, or an ``.xml`` file of OpenVINO with the ``.bin`` beside it.

    Raises:
        UserError: the file is missing, damaged or not from ``frcnn export``, or the library that
            runs it is not installed.
    """
    path = Path(path)
    if not os.path.isfile(path):  # which takes names that no file can have, too
        raise UserError(f"There is no file {path}. Check the spelling.")
    open_it = _open_openvino if path.suffix.lower() == ".xml" else _open_onnx
    try:
        return RuntimeDetector(*open_it(path))
    except UnicodeDecodeError as error:  # of names and metadata
        raise UserError(f"{path} is damaged: it has {error.object!r:.100} as a text.") from error


def _open_onnx(path: Path) -> tuple[Artefact, Graph]:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise _not_installed(path, error, "ONNX Runtime", "onnxruntime", "runtime") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.inter_op_num_threads = 1  # the graph is one chain
    # Threads spin while they wait for each other, but between two runs they would take their cores
    # from those that decode pictures.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_mem_pattern = False  # it would take memory and save no time
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no base of their own
        raise _cannot_be_opened(path, error, "ONNX Runtime", onnxruntime.__version__) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _check_names(path, [each.name for each in inputs], [each.name for each in outputs])
    metadata = session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(given: dict[str, np.ndarray]) -> dict[str, Any]:
        return dict(zip(OUTPUTS, session.run(OUTPUTS, given), strict=True))

    return _read_artefact(path, metadata), run


def _open_openvino(path: Path) -> tuple[Artefact, Graph]:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise _not_installed(path, error, "OpenVINO", "openvino", "openvino") from error

    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UserError(f"{path} has its weights in {weights.name} beside it, which is missing.")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",  # all cores on one batch
        "INFERENCE_NUM_THREADS": available_cores(),
        "INFERENCE_PRECISION_HINT": "f32",  # some processors would take 16 bits unasked
    }
    try:
        core = openvino.Core()
        model = core.read_model(path, weights)
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _cannot_be_opened(path, error, "OpenVINO", openvino.__version__) from error
    _check_names(path, _port_names(model.inputs), _port_names(model.outputs))
    metadata = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None

    def run(given: dict[str, np.ndarray]) -> dict[str, Any]:
        # A request for each call: several threads may call.
        found = compiled.create_infer_request().infer(given)
        return {name: found[name] for name in OUTPUTS}

    return _read_artefact(path, metadata), run


def _check_found(found: Mapping[str, Any], batch: int, classes: int) -> None:
    """Refuse answers that are no detections of so many pictures and classes."""
    boxes, scores, labels, count = (np.asarray(found[name]) for name in OUTPUTS)
    most = boxes.shape[1] if boxes.ndim == 3 else 0
    expected = {"boxes": (batch, most, 4), "scores": (batch, most), "labels": (batch, most)}
    sound = all(np.shape(found[name]) == shape for name, shape in expected.items()) and (
        count.shape == (batch,) and ((count >= 0) & (count <= most)).all()
    )
    if sound:
        real = np.arange(most) < count[:, None]  # [B, D]
        sound = (
            np.isfinite(boxes[real]).all()
            and np.isfinite(scores[real]).all()
            and ((labels[real] >= 0) & (labels[real] < classes)).all()
        )
    if not sound:
        raise UserError("The exported detector gives something else than detections.")


def _port_names(ports) -> list[str]:
    return [name for port in ports for name in port.get_names()]


def _check_names(path: Path, inputs: list[str], outputs: list[str]) -> None:
    """Refuse a graph that is no detector of ours, before its metadata is believed."""
    if set(INPUTS) <= set(inputs) and set(OUTPUTS) <= set(outputs):
        return
    raise UserError(
        f"{path} is not a detector that `frcnn export` wrote: its graph takes "
        f"{', '.join(inputs)} and gives {', '.join(outputs)}, not {', '.join(INPUTS)} and "
        f"{', '.join(OUTPUTS)}."
    )


def _read_artefact(path: Path, metadata: str | None) -> Artefact:
    if metadata is None:
        raise UserError(
            f"{path} does not say what its classes are and how pictures are prepared for it, as "
            "`frcnn export` makes a file do. Export the trained detector with that command."
        )
    return Artefact.from_json(metadata, str(path))


def _not_installed(
    path: Path, error: ModuleNotFoundError, name: str, module: str, extra: str
) -> UserError | ModuleNotFoundError:
    if error.name != module:
        return error
    return UserError(
        f"{path} is run by {name}, which is not installed. Install it with "
        f"`pip install 'frcnn[{extra}]'`."
    )


def _cannot_be_opened(path: Path, error: Exception, name: str, version: str) -> UserError:
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    # OpenVINO begins with places in its own source.
    reason = " ".join(line for line in lines if line and not line.startswith("Exception from"))
    return UserError(
        f"{path} cannot be opened by {name} {version}: {reason}. Export the trained detector "
        f"again, or install a later {name}."
    )
