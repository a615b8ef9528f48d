"""Devices of JAX that train together, by Keras's own distribution of a batch.

One program runs on all devices, each computes its rows, and XLA adds what has to be added: losses
and gradients are those of the whole batch by construction. The processes of several hosts run that
program together; each hands in its own rows.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from frcnn.errors import UserError
from frcnn.training.config import Wanted
from frcnn.training.devices import Devices

# Keras's own names for what no cluster says: coordinator, number of processes, which one this is.
GIVEN = (
    "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "KERAS_DISTRIBUTION_PROCESS_ID",
)


def open_jax(wanted: Wanted) -> Devices:
    """One device, several, or those of all processes of a cluster."""
    if not jax.distributed.is_initialized():
        _meet(os.environ)
    local = jax.local_devices()
    here = _choose(wanted, len(local), local[0].platform)
    if here == 1 and jax.process_count() == 1:
        return Devices()
    return JaxDevices(here)


def _choose(wanted: Wanted, found: int, platform: str) -> int:
    """How many of this process's devices to use."""
    if wanted == "auto":
        return 1 if platform == "cpu" else found
    if wanted > found:
        raise UserError(f"--devices {wanted}: JAX finds {found} ({platform}) in this process.")
    return wanted


def _meet(environment: Mapping[str, str]) -> None:
    """Find the other processes, where the environment says that there are some."""
    if GIVEN[0] in environment:
        address, count, process = (environment.get(name) for name in GIVEN)
        if count is None or process is None:
            raise UserError(f"{GIVEN[0]} is set; {GIVEN[1]} and {GIVEN[2]} must be too.")
        jax.distributed.initialize(str(address).split(",")[0], int(count), int(process))
    elif in_a_cluster(environment):
        jax.distributed.initialize()


def in_a_cluster(environment: Mapping[str, str]) -> bool:
    """Whether JAX will find this process's place among others by itself.

    A step of SLURM or Open MPI with several processes, an indexed job of Kubernetes, a TPU machine.
    """
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"}
    if slurm <= environment.keys():
        return int(environment.get("SLURM_NTASKS", "1")) > 1
    if "OMPI_MCA_orte_hnp_uri" in environment:
        return int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return True
    tpu = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return tpu and importlib.util.find_spec("libtpu") is not None


class JaxDevices(Devices):
    """Devices of this process and of the others, if there are some.

    Args:
        here: devices of each process.
    """

    def __init__(self, here: int):
        self.process, self.processes = jax.process_index(), jax.process_count()
        self.count = here * self.processes
        # By process: the rows of one lie side by side.
        used = [
            device
            for process in range(self.processes)
            for device in sorted(jax.devices(), key=lambda each: each.id)
            if device.process_index == process
        ]
        per_process = len(used) // self.processes
        names = [f"{each.platform}:{each.id}" for each in used]
        chosen = [name for place, name in enumerate(names) if place % per_process < here]
        self._before = keras.distribution.distribution()
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
        )

    def share(self, text: str) -> str:
        """The first process's text."""
        if self.processes == 1:
            return text
        sent = np.frombuffer(text.encode(), np.uint8)
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(sent))))
        box = np.zeros(length, np.uint8)
        if self.first:
            box[:] = sent
        return bytes(multihost_utils.broadcast_one_to_all(box)).decode()

    def highest(self, number: int) -> int:
        """The highest of the processes' numbers."""
        if self.processes == 1:
            return number
        return int(multihost_utils.process_allgather(np.int32(number)).max())

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Without Keras's distribution."""
        together = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(together)

    @contextmanager
    def alone(self, network: Any) -> Iterator[None]:
        """Take this process's own copy of every variable, and no distribution.

        Arrays of several processes may only be used by all of them together.
        """
        variables = [*network.variables, *network.metrics_variables, *network.optimizer.variables]
        kept = [(each._value, each._layout) for each in variables]
        try:
            for variable in variables:
                # A copy: a compiled function may take over the memory of what it is given.
                variable._value = variable._value.addressable_data(0).copy()
                variable._layout = None
            with self.apart():
                yield
        finally:
            for variable, (value, layout) in zip(variables, kept, strict=True):
                variable._value, variable._layout = value, layout

    def close(self) -> None:
        """End Keras's distribution."""
        keras.distribution.set_distribution(self._before)
