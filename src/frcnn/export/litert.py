"""LiteRT (TensorFlow Lite): one ``.tflite`` file for phones, boards and plain CPUs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.errors import UserError
from frcnn.export import saved_model
from frcnn.inference.artefact import KEY, OUTPUTS, Artefact
from frcnn.models.detector import DetectionModel

METADATA = f"{KEY}.json"  # in a zip archive at the file's end, as TFLite's own metadata is kept

Batches = Iterable[tuple[np.ndarray, np.ndarray]]


def write(
    model: DetectionModel, artefact: Artefact, path: Path, calibration: Batches | None = None
) -> Path:
    """Write a detector as a LiteRT file of builtin operators alone.

    Its only signature has the named inputs and outputs of ``Artefact``, which is kept in the file:
    ``unzip -p FILE.tflite frcnn.json`` shows it.

    Args:
        model: the detector, on Keras's TensorFlow backend.
        artefact: what is written; its ``batch`` must be a number.
        path: of the file.
        calibration: batches (images, sizes) of the artefact's shapes, by which the convolutions
            and fully connected layers are quantised to 8 bits. What is computed on boxes and
            scores stays float32.

    Returns:
        ``path``.

    Raises:
        UserError: Keras runs on another backend, the batch is left open, something that is needed
            is not installed, or the network has an operation that LiteRT has not.
    """
    saved_model.need_tensorflow_backend("LiteRT files")
    if artefact.batch is None:
        raise UserError("A LiteRT file takes a fixed number of images at once: give a batch of 1.")
    content = _convert(model, artefact)
    if calibration is not None:
        content = _quantise(content, model, calibration)
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(METADATA), artefact.to_json())
    return path


def read_artefact(path: Path) -> Artefact:
    """What a ``.tflite`` file says of itself.

    Raises:
        UserError: it says nothing that can be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(METADATA).decode("utf-8")
    except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no file of `frcnn export`: {error}.") from error
    return Artefact.from_json(text, str(path))


def open_artefact(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Load a ``.tflite`` file; neither Keras nor TensorFlow has a part in running it.

    Returns:
        ``(images, sizes)`` -> a dict of arrays, as of ``Artefact``.

    Raises:
        UserError: LiteRT is not installed.
    """
    run = _interpreter(model_path=str(path), num_threads=os.cpu_count()).get_signature_runner()

    def detect(images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        found = run(images=images, sizes=sizes)
        return {name: found[name] for name in OUTPUTS}

    return detect


def _convert(model: DetectionModel, artefact: Artefact) -> bytes:
    """The detector as a float32 LiteRT model."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, _quiet():
        saved_model.write(model, artefact, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[saved_model.SIGNATURE]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


def _quantise(content: bytes, model: DetectionModel, calibration: Batches) -> bytes:
    """The float32 LiteRT model with 8-bit weights and activations where the network's layers are.

    What is downstream of them, boxes and their suppression, has no 8 bits to spare. The two
    outputs of each stage are small, and rounding them would show in scores and boxes.
    """
    try:
        from ai_edge_quantizer import quantizer, recipe_manager
        from ai_edge_quantizer.qtyping import TFLOperationName as Kind
    except ModuleNotFoundError as error:
        raise UserError(
            f"8-bit LiteRT files need {error.name}, which is not installed. Install it with "
            "`pip install 'frcnn[litert]'`."
        ) from error
    network = model.network
    rules = recipe_manager.RecipeManager()
    for kind in (Kind.CONV_2D, Kind.DEPTHWISE_CONV_2D, Kind.FULLY_CONNECTED):
        rules.add_static_config(".*", kind, activation_num_bits=8, weight_num_bits=8)
    maps = [part.name for part in (network.extractor, network.neck) if part is not None]
    rules.add_static_config(
        _scope(maps), Kind.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8
    )
    outputs = [network.rpn.objectness.name, network.rpn.deltas.name]
    outputs += [layer.name for head in network.roi_heads for layer in (head.classify, head.regress)]
    rules.add_quantization_config(_scope(outputs), Kind.ALL_SUPPORTED, algorithm_key="no_quantize")
    ranges = _ranges(content, calibration)
    with _silent():
        work: Any = quantizer.Quantizer(bytearray(content))
        work.load_quantization_recipe(rules.get_quantization_recipe())
        return bytes(work.quantize(ranges).quantized_model)


def _scope(layers: list[str]) -> str:
    """A pattern of the operators that these layers made; Keras may number a name once more."""
    return "|".join(rf"(^|[/;]){re.escape(name)}(_\d+)?/" for name in layers)


def _ranges(content: bytes, calibration: Batches) -> dict[str, dict[str, np.ndarray]]:
    """The smallest and the largest value of each float tensor over all batches.

    The calibrators of TensorFlow and of the quantiser stumble over the loop in NMS; nothing inside
    it is quantised, so the main graph's tensors are enough.
    """
    interpreter = _interpreter(model_content=content, experimental_preserve_all_tensors=True)
    run = interpreter.get_signature_runner()
    details = [it for it in interpreter.get_tensor_details() if it["dtype"] == np.float32]
    ranges: dict[str, dict[str, np.ndarray]] = {}
    for images, sizes in calibration:
        run(images=images, sizes=sizes)
        for detail in details:
            with contextlib.suppress(ValueError):  # the interpreter's own, never computed
                values = interpreter.get_tensor(detail["index"])
                if values.size:
                    _widen(ranges, detail["name"], values)
    if not ranges:
        raise UserError("No picture was given for calibration; 8 bits need some tens of them.")
    return ranges


def _widen(ranges: dict[str, dict[str, np.ndarray]], name: str, values: np.ndarray):
    """Make the range of a tensor include its ``values``."""
    known = ranges.get(name)
    low, high = values.min(keepdims=True), values.max(keepdims=True)
    if known is not None:
        low, high = np.minimum(low, known["min"]), np.maximum(high, known["max"])
    ranges[name] = {"min": low, "max": high}


def _interpreter(**options) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as error:
        raise UserError(
            "LiteRT files need its interpreter, which is not installed. Install it with "
            "`pip install 'frcnn[litert]'`."
        ) from error
    with _quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors")
        interpreter = Interpreter(**options)
        interpreter.allocate_tensors()
        return interpreter


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the quantiser's bars, its figures and the warnings about its own doings to itself."""
    with (
        _quiet(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the C++ of TensorFlow and LiteRT prints off the terminal.

    Once they are loaded nothing else does: they write to the descriptor.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
