"""What a ``.keras`` file says of itself, before Keras makes anything of it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# Keras writes its archives uncompressed, and weights that were compressed later hardly shrink.
_MAX_EXPANSION = 16


def archived_class(path: str | Path) -> str:
    """The name that the class of an archived model is registered under, else its plain name.

    A file from elsewhere may hold any model, and Keras builds it, whatever its layers do, before
    one can see which it is. So this is asked first. The archive has to be as Keras writes it for
    a model without assets; others are unpacked to the disk.

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
    return str(config.get("registered_name") or config.get("class_name"))
