"""The memory of the GPU that Keras computes on, as each backend tells it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras


class _Backend(NamedTuple):
    """How a backend answers; all in bytes."""

    on_gpu: Callable[[], bool]
    in_use: Callable[[], int]
    peak: Callable[[], int]
    free: Callable[[], int]
    forget_peak: Callable[[], None]


def on_gpu() -> bool:
    """Whether Keras computes on a GPU whose memory can be asked for."""
    return _backend().on_gpu()


def in_use() -> int:
    """Bytes that this process uses."""
    return _backend().in_use()


def free() -> int:
    """Bytes that nobody uses."""
    return _backend().free()


def peak() -> int:
    """The most bytes that this process used since ``forget_peak``."""
    return _backend().peak()


def forget_peak() -> None:
    """Begin to watch, where the backend can; JAX remembers the peak of the process."""
    _backend().forget_peak()


@functools.cache
def _backend() -> _Backend:
    return {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}[keras.config.backend()]()


def _torch() -> _Backend:
    import torch

    cuda: Any = torch.cuda
    return _Backend(
        lambda: cuda.is_available() and keras.ops.zeros(()).device.type == "cuda",
        cuda.memory_reserved,
        cuda.max_memory_reserved,
        lambda: cuda.mem_get_info()[0],
        lambda: (cuda.empty_cache(), cuda.reset_peak_memory_stats())[1],
    )


def _jax() -> _Backend:
    import jax

    def facts() -> dict:
        return jax.local_devices()[0].memory_stats() or {}

    return _Backend(
        lambda: jax.default_backend() != "cpu" and "bytes_limit" in facts(),
        lambda: facts()["bytes_in_use"],
        lambda: facts()["peak_bytes_in_use"],
        lambda: facts()["bytes_limit"] - facts()["bytes_in_use"],
        lambda: None,
    )


def _tensorflow() -> _Backend:
    import tensorflow as tf

    memory: Any = tf.config.experimental

    @functools.cache
    def total() -> int:
        from tensorflow.python.client import device_lib

        return device_lib.list_local_devices()[-1].memory_limit

    return _Backend(
        lambda: bool(tf.config.list_physical_devices("GPU")),
        lambda: memory.get_memory_info("GPU:0")["current"],
        lambda: memory.get_memory_info("GPU:0")["peak"],
        lambda: total() - memory.get_memory_info("GPU:0")["current"],
        lambda: memory.reset_memory_stats("GPU:0"),
    )
