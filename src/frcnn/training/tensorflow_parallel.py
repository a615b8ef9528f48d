"""Devices of TensorFlow that train together."""

from __future__ import annotations

from frcnn.errors import UserError
from frcnn.training.config import Wanted
from frcnn.training.devices import Devices


def open_tensorflow(wanted: Wanted) -> Devices:
    """One device."""
    if wanted not in ("auto", 1):
        raise UserError(f"--devices {wanted}: on TensorFlow one device trains.")
    return Devices()
