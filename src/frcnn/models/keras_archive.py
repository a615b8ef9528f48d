"""What a ``.keras`` file says of itself, before Keras makes anything of it."""

from __future__ import annotations

import json
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras

_WEIGHTS = "model.weights.h5"
_MEMBERS = {"metadata.json", "config.json", _WEIGHTS}
# Keras writes its archives uncompressed, and weights that were compressed later hardly shrink.
_MAX_EXPANSION = 16


def read_config(path: str | Path) -> dict[str, Any]:
    """The configuration of an archived model.

    A file from elsewhere may hold any model, and Keras builds it, whatever its layers do, before
    one can see which it is. So this is looked at first. The archive has to be as Keras writes it
    for a model without assets; others are unpacked to the disk.

    Raises:
        ValueError: it has other members, or unpacks to far more than its size.
        zipfile.BadZipFile, OSError, RuntimeError, LookupError: damaged.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        others = sorted(set(names) - _MEMBERS) or [name for name in names if names.count(name) > 1]
        if others:
            raise ValueError(f"it has a member {others[0]!r:.100}, which no detector has")
        size, whole = Path(path).stat().st_size, sum(item.file_size for item in archive.infolist())
        if whole > _MAX_EXPANSION * size:
            raise ValueError(f"it unpacks to {whole:,} bytes, {whole // size} times its size")
        config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict):
        raise ValueError("its config.json describes no object")
    return config


def class_name(config: dict[str, Any]) -> str:
    """The name that the class of a model is registered under, else its plain name."""
    return str(config.get("registered_name") or config.get("class_name"))


def check_weights(path: str | Path, config: dict[str, Any]) -> None:
    """Refuse a model whose layers have more weights than its archive has bytes for them.

    Keras makes the weights of each layer, as wide as the configuration says, before it reads any.
    Here the model is built without them: its variables have a shape and no memory. What Keras
    remembers of such variables it remembers for the thread, and it is forgotten with that.

    Raises:
        ValueError: there are more.
        Exception: what the layers raise that cannot be built.
    """

    def count_weights() -> int:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        return sum(math.prod(each.shape) for each in model.variables)

    with ThreadPoolExecutor(1) as thread:
        count = thread.submit(count_weights).result()
    with zipfile.ZipFile(path) as archive:
        stored = archive.getinfo(_WEIGHTS).file_size
    if count > stored:
        raise ValueError(f"its layers have {count:,} weights, and it has {stored:,} bytes of them")
