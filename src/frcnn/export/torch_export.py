"""PyTorch's own exported program: a ``.pt2`` file that PyTorch by itself loads and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from frcnn.export.torch_program import quiet, trace
from frcnn.inference.artefact import KEY, OUTPUTS, Artefact
from frcnn.models.detector import DetectionModel

METADATA = f"{KEY}.json"  # among the file's extra files


def write(model: DetectionModel, artefact: Artefact, path: Path) -> Path:
    """Write a detector as a program of PyTorch's own operators.

    Args:
        model: the detector, on Keras's PyTorch backend.
        artefact: what is written; kept among the file's extra files as ``frcnn.json``.
        path: of the file.

    Returns:
        ``path``.
    """
    program = trace(model, artefact, apart=("nms", "soft_nms", "roi_align"))
    with quiet():
        torch.export.save(program, path, extra_files={METADATA: artefact.to_json()})
    return path


def open_artefact(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Load a ``.pt2`` file; neither Keras nor torchvision has a part in running it.

    Returns:
        ``(images, sizes)`` -> a dict of arrays, as of ``Artefact``.
    """
    with quiet():
        run = torch.export.load(path).module()

    def detect(images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = run(torch.from_numpy(images), torch.from_numpy(sizes))
        return {name: each.numpy() for name, each in zip(OUTPUTS, found, strict=True)}

    return detect


def read_artefact(path: Path) -> Artefact:
    """What a ``.pt2`` file says of itself."""
    extra = {METADATA: ""}
    with quiet():
        torch.export.load(path, extra_files=extra)
    return Artefact.from_json(extra[METADATA], str(path))
