"""Arrays on both sides of a GPU that runs PyTorch: pictures that it fetches, results it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch


def pinned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in memory that a GPU reads by itself, which PyTorch keeps and gives out again."""
    return torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True).numpy()


def on_host(found: dict[str, torch.Tensor], given: list[np.ndarray]) -> Mapping[str, np.ndarray]:
    """Results as arrays; those that a GPU may be computing still are waited for when looked at.

    Args:
        found: what a graph gave. Its next results may lie in the same place.
        given: arrays that it was given, which are kept until then.
    """
    if next(iter(found.values())).is_cuda:
        return _Awaited(found, given)
    return {name: value.numpy() for name, value in found.items()}


class _Awaited(Mapping):
    """Copies of a GPU's tensors in the host's memory."""

    def __init__(self, found: dict[str, torch.Tensor], given: list[np.ndarray]):
        self._copies = {name: value.to("cpu", non_blocking=True) for name, value in found.items()}
        self._given = given
        self._done = torch.cuda.Event()
        self._done.record()

    def __getitem__(self, name: str) -> np.ndarray:
        self._done.synchronize()
        self._given.clear()
        return self._copies[name].numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._copies)

    def __len__(self) -> int:
        return len(self._copies)
