"""Devices of TensorFlow that train together, by MirroredStrategy.

Each device has a copy of the weights and takes its rows of a batch; what the copies are changed by
is added up. Keras clips gradients before they are added, so they are averaged before that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from frcnn.errors import UserError
from frcnn.training.config import Wanted
from frcnn.training.devices import Devices


def open_tensorflow(wanted: Wanted) -> Devices:
    """One device, or several of this process."""
    gpus = tf.config.list_logical_devices("GPU")
    found = gpus or tf.config.list_logical_devices("CPU")
    if wanted == "auto":
        wanted = max(len(gpus), 1)
    if wanted > len(found):
        kind = found[0].device_type
        raise UserError(f"--devices {wanted}: TensorFlow finds {len(found)} ({kind}).")
    return Replicas([each.name for each in found[:wanted]]) if wanted > 1 else Devices()


class Replicas(Devices):
    """Devices of this process.

    Args:
        names: as TensorFlow calls them.
    """

    def __init__(self, names: list[str]):
        self.count = len(names)
        self._strategy = tf.distribute.MirroredStrategy(names)

    def scope(self) -> AbstractContextManager:
        """Where the network and its optimizer must be made."""
        return self._strategy.scope()

    def join(self, network: Any) -> None:
        """Average losses, and gradients before they are clipped, from now on.

        Raises:
            UserError: the batch is to be taken in parts, within which replicas cannot meet.
        """
        if network.parts > 1:
            raise UserError("On TensorFlow several devices take a batch whole: leave out --parts.")
        network.take_share(_place, self.count, self._average_losses, apart=False)
        if network.optimizer.average_gradients is None:
            network.optimizer.average_gradients = _mean
            # The gradients that are added up are shares of the mean; so is their bound.
            network.optimizer.global_clipnorm /= self.count

    def _average_losses(self, losses: tf.Tensor) -> tf.Tensor:
        """The mean over the replicas, with a share of the gradient, as Keras adds those up."""
        share = losses / self.count
        return tf.stop_gradient(_mean(losses) - share) + share


def _place() -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group


def _mean(values: Any) -> Any:
    """Of tensors of the replicas."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
