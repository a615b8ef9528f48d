"""The devices and processes that train together, and what has to be agreed between them.

Each process makes its own rows of a batch, all step together, and what is written, shown and
validated is the first process's alone. Which backend does it how is in ``torch_parallel``,
``jax_parallel`` and ``tensorflow_parallel``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras

from frcnn.errors import UserError
from frcnn.training.config import Wanted


class Devices:
    """What trains together; this class is one device of one process.

    A context: leaving it ends what was begun for it.

    Attributes:
        count: devices of all processes.
        process: which of the processes this is, from 0.
        processes: how many there are.
    """

    count = 1
    process = 0
    processes = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, shows and validates."""
        return self.process == 0

    def share_of(self, batch: int, parts: int = 1) -> int:
        """How many images of a batch are a device's.

        Args:
            batch: images in it.
            parts: in which a step takes it; of each of them a device takes a share.

        Raises:
            UserError: there are no equal shares.
        """
        if batch % (self.count * parts):
            taken = f", taken in {parts} parts," if parts > 1 else ""
            raise UserError(
                f"--batch {batch}{taken} has no equal shares for {self.count} devices. Give a "
                f"multiple of {self.count * parts}, or fewer --devices."
            )
        return batch // self.count

    def rows(self, batch: int, parts: int = 1) -> list[int]:
        """The rows of a batch that this process makes.

        Args:
            batch: images in it.
            parts: in which a step takes it, one after the other.
        """
        share = batch // self.processes
        return list(range(self.process * share, (self.process + 1) * share))

    def share(self, text: str) -> str:
        """The first process's text, in all of them; what they give themselves is of no account."""
        return text

    def highest(self, number: int) -> int:
        """The highest of the numbers that the processes give."""
        return number

    def join(self, network: Any) -> None:
        """Make a built, compiled network step with the other processes' ones.

        To be called again when other weights are going to train.
        """

    def scope(self) -> AbstractContextManager[Any]:
        """Where a network that is to train on these devices is made, and compiled."""
        return nullcontext()

    def apart(self) -> AbstractContextManager[Any]:
        """Where a network is made and used by one process on one device."""
        return nullcontext()

    @contextmanager
    def alone(self, network: Any) -> Iterator[None]:
        """Within it one process may use the network in training without the others."""
        yield

    def by_the_first(self, action: Callable[[], Any]) -> Any:
        """Let the first process do something while the others wait.

        Args:
            action: what; it gives a value that JSON can hold.

        Returns:
            That value, in every process.

        Raises:
            UserError: the action raised one; every process raises it.
        """
        if self.processes == 1:
            return action()
        answer: dict[str, Any] = {}
        if self.first:
            try:
                answer = {"value": action()}
            except UserError as error:
                answer = {"problem": str(error)}
        answer = json.loads(self.share(json.dumps(answer)))
        if "problem" in answer:
            raise UserError(answer["problem"])
        return answer["value"]

    def close(self) -> None:
        """End what was begun."""

    def __enter__(self) -> Devices:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def open_devices(wanted: Wanted) -> Devices:
    """Find the devices to train on, and the other processes if this one was started with some.

    Must come before the first computation of the program and before the network is made.

    Args:
        wanted: devices of this machine; "auto" takes all accelerators, or one CPU.

    Raises:
        UserError: there are not as many, or the backend cannot use them together.
    """
    backend = keras.config.backend()
    if backend == "torch":
        from frcnn.training.torch_parallel import open_torch as open_backend
    elif backend == "jax":
        from frcnn.training.jax_parallel import open_jax as open_backend
    else:
        from frcnn.training.tensorflow_parallel import open_tensorflow as open_backend
    return open_backend(wanted)


class ByTheFirst(keras.callbacks.Callback):
    """Callbacks that are the first process's alone; the others wait at the end of an epoch.

    Args:
        devices: what trains together.
        callbacks: in their order.
    """

    def __init__(self, devices: Devices, callbacks: Sequence[keras.callbacks.Callback]):
        super().__init__()
        self._devices = devices
        self._callbacks = list(callbacks) if devices.first else []

    def set_params(self, params):
        """Hand Keras's parameters on."""
        super().set_params(params)
        for callback in self._callbacks:
            callback.set_params(params)

    def set_model(self, model):
        """Hand the network on."""
        super().set_model(model)
        for callback in self._callbacks:
            callback.set_model(model)

    def on_epoch_begin(self, epoch, logs: Any = None):
        """Hand it on."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch, logs: Any = None):
        """Hand it on."""
        for callback in self._callbacks:
            callback.on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch, logs: Any = None):
        """Hand it on, with the network for the first process's own use, and wait for it."""
        self._devices.by_the_first(lambda: self._end_epoch(epoch, logs))

    def _end_epoch(self, epoch: int, logs: Any) -> None:
        with self._devices.alone(self.model):
            for callback in self._callbacks:
                callback.on_epoch_end(epoch, logs)
