"""A detector as a graph of PyTorch operators, from which other formats are written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

from frcnn.errors import UserError
from frcnn.export.torch_loops import decompositions
from frcnn.inference.artefact import INPUTS, OUTPUTS, Artefact
from frcnn.models.detector import DetectionModel


class Graph(torch.nn.Module):
    """A detector with tensors in and out, in the order of ``INPUTS`` and ``OUTPUTS``.

    Args:
        model: the detector, on Keras's PyTorch backend.
    """

    def __init__(self, model: DetectionModel):
        super().__init__()
        self.model = model

    def forward(self, images, sizes):
        """Images (B, H, W, 3) and sizes int32 (B, 2) -> boxes, scores, labels, count."""
        found = self.model.call(dict(zip(INPUTS, (images, sizes), strict=True)))
        return tuple(found[name] for name in OUTPUTS)


def trace(
    model: DetectionModel, artefact: Artefact, apart: tuple[str, ...]
) -> torch.export.ExportedProgram:
    """Record what the detector does with images of the artefact's canvas, batch and type.

    NMS and RoIAlign are the operators of ``ops/torch_operators.py``; ``apart`` names those of them
    that are made of PyTorch's own.

    Raises:
        UserError: the model is not in the processor's memory.
    """
    device = model.weights[0].value.device.type
    if device != "cpu":
        raise UserError(
            f"A model is exported from the processor's memory, and Keras has this one on {device}. "
            "Set the environment variable KERAS_TORCH_DEVICE to cpu before Python starts."
        )
    batch = artefact.batch or 2  # of one image PyTorch would make a constant
    images = torch.zeros((batch, *artefact.canvas, 3), dtype=getattr(torch, artefact.images))
    sizes = torch.tensor([artefact.canvas] * batch, dtype=torch.int32)
    axes = None if artefact.batch else ({0: torch.export.Dim("batch")},) * len(INPUTS)
    graph = Graph(model)
    with torch.no_grad(), _AnyBatch(), quiet():
        program = torch.export.export(graph, (images, sizes), dynamic_shapes=axes)
        return program.run_decompositions(decompositions(apart))


class _AnyBatch(TorchFunctionMode):
    """A plain gather for ``torch.take_along_dim``, which would fix the batch it is traced with."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace the one function along the one axis that matters, call all others."""
        kwargs = kwargs or {}
        if func is not torch.take_along_dim or kwargs.get("dim") != 1:
            return func(*args, **kwargs)
        values, index = args  # [B, N, ...] and [B, M, ...]
        return torch.gather(values, 1, index.expand(-1, -1, *values.shape[2:]))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what PyTorch and its exporters say of their own doings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
