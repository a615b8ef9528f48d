"""The formats that a detector is exported to, and what each can do; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["onnx", "openvino", "torch_export", "saved_model", "litert"]


@dataclass(frozen=True)
class Format:
    """What a format can do.

    Args:
        title: its name for people.
        suffix: of its file, or what the name of its folder ends in.
        backend: that Keras runs on where it is written.
        any_batch: whether the number of images may be left open.
        int8: whether it may be quantised by calibration.
        loads: whether ``frcnn.load`` opens it.
        winograd: whether large convolutions can go by tiles.
    """

    title: str
    suffix: str
    backend: str
    any_batch: bool
    int8: bool
    loads: bool
    winograd: bool = False


FORMATS: dict[str, Format] = {
    "onnx": Format("ONNX", ".onnx", "torch", any_batch=True, int8=True, loads=True, winograd=True),
    "openvino": Format(
        "OpenVINO", ".xml", "torch", any_batch=True, int8=True, loads=True, winograd=True
    ),
    "torch_export": Format("PyTorch", ".pt2", "torch", any_batch=True, int8=False, loads=False),
    "saved_model": Format(
        "SavedModel", "_saved_model", "tensorflow", any_batch=True, int8=False, loads=False
    ),
    "litert": Format("LiteRT", ".tflite", "tensorflow", any_batch=False, int8=True, loads=False),
}
