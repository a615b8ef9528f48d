"""What a report was made on."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import PackageNotFoundError, version

import keras

from frcnn.threads import available_cores
from frcnn.training.device_memory import on_gpu

_PACKAGES = ("frcnn", "keras", "numpy", "opencv-python-headless")


def environment() -> dict[str, str]:
    """Versions, the backend and the machine."""
    backend = keras.config.backend()
    found = {name: _version(name) for name in _PACKAGES}
    found["backend"] = f"{backend} {importlib.import_module(backend).__version__}"
    found["device"] = "GPU" if on_gpu() else "CPU"
    found["cores"] = str(available_cores())
    found["python"] = platform.python_version()
    found["system"] = platform.platform()
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # used from its source
        return "not installed"
