"""Other projects' weight files, whichever, to a model of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from frcnn.errors import UserError, printable
from frcnn.files import read_file
from frcnn.models.detector import DetectionModel
from frcnn.zoo.keras_frcnn import convert_keras_frcnn
from frcnn.zoo.references import TORCH_SUFFIXES, convert_torch

KERAS_SUFFIXES = (".hdf5", ".h5")
_MOST_BYTES = 1 << 24  # of a list of names


def convert_file(
    path: str | Path, preset: str, classes: Sequence[str] | None = None
) -> tuple[DetectionModel, tuple[str, ...]]:
    """A detector with the weights of a file, and what a user should know of the conversion.

    Args:
        path: of torchvision (``.pth``, ``.pt``, ``.safetensors``) or keras-frcnn (``.hdf5``).
        preset: the architecture.
        classes: names of its classes without background, in their order.

    Raises:
        UserError: the file is missing, damaged, of another architecture or of an unknown kind.
    """
    suffix = Path(path).suffix.lower()
    if suffix in TORCH_SUFFIXES:
        return convert_torch(path, preset, classes), ()
    if suffix in KERAS_SUFFIXES:
        return convert_keras_frcnn(path, preset, classes)
    raise UserError(
        f"{path} is of no kind that is known here: {', '.join((*TORCH_SUFFIXES, *KERAS_SUFFIXES))}."
    )


def class_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, or of a text file with one a line.

    Raises:
        UserError: the file is no text, or a name is empty or occurs twice.
    """
    try:
        file = os.path.isfile(text)
        content = read_file(text, _MOST_BYTES).decode("utf-8-sig") if file else ""
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{text} is not a text file of class names: {error}.") from error
    names = content.splitlines() if file else text.split(",")
    names = [printable(name.strip()) for name in names]
    names = names[:-1] if file and names and not names[-1] else names
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"Class names must not be empty or occur twice. Received: {names}.")
    return tuple(names)
