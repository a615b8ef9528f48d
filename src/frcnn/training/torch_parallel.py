"""Processes of PyTorch that train together, started by ``torchrun``: a process a device.

Each process computes the losses of its rows; DistributedDataParallel averages their gradients
while they are computed. It is made to run a module's forward pass, which Keras does by itself, in
several calls. So what it runs here is given the losses and passes them on: by them it is told that
a backward pass follows, and the hooks on the weights, which are what it works by, do the rest.
Keras's ``fit`` stays as it is. All losses are means over images and all processes have as many,
so that the means over processes are those of the whole batch.
"""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from frcnn.errors import UserError
from frcnn.models.normalization import BatchNorm
from frcnn.training.config import Wanted
from frcnn.training.devices import Devices

# While one process validates, the others wait: days, as its pictures may be many.
PATIENCE = datetime.timedelta(days=7)
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # what torchrun sets


def open_torch(wanted: Wanted) -> Devices:
    """One device, or those of the processes that torchrun has started."""
    if all(name in os.environ for name in LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1:
        return TorchProcesses(wanted)
    if wanted not in ("auto", 1):
        raise UserError(
            f"On PyTorch {wanted} devices are as many processes. Start them with: "
            f"torchrun --nproc-per-node {wanted} -m frcnn train ..."
        )
    return Devices()


class TorchProcesses(Devices):
    """This process and the others that torchrun has started.

    Args:
        wanted: processes of this machine, if not "auto".

    Raises:
        UserError: torchrun has started another number of them, or there are too few GPUs.
    """

    def __init__(self, wanted: Wanted):
        here, local = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
        if wanted not in ("auto", here, int(os.environ["WORLD_SIZE"])):
            raise UserError(
                f"--devices {wanted} was asked for, and torchrun started {here} processes on this "
                "machine. Make the two agree, or leave --devices out."
            )
        gpus = torch.cuda.device_count()
        if gpus:
            if here > gpus:
                raise UserError(f"There are {here} processes for {gpus} GPUs on this machine.")
            torch.cuda.set_device(local)
        self._began = not dist.is_initialized()
        if self._began:
            dist.init_process_group("nccl" if gpus else "gloo")
        self.process, self.processes = dist.get_rank(), dist.get_world_size()
        self.count = self.processes
        self._hosts: Any = dist.new_group(backend="gloo", timeout=PATIENCE)

    def rows(self, batch: int, parts: int = 1) -> list[int]:
        """The rows of a batch that this process makes: its share of each part, part by part."""
        part = batch // parts
        share = part // self.processes
        first = self.process * share
        return [
            start + row for start in range(0, batch, part) for row in range(first, first + share)
        ]

    def share(self, text: str) -> str:
        """The first process's text."""
        box = [text]
        dist.broadcast_object_list(box, src=0, group=self._hosts)
        return box[0]

    def highest(self, number: int) -> int:
        """The highest of the processes' numbers."""
        value = torch.tensor(number, device="cpu")
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self._hosts)
        return int(value)

    def join(self, network: Any) -> None:
        """Average the gradients and the losses from now on.

        Raises:
            UserError: the network normalises by the batch's statistics, of which each process
                would have others.
        """
        for layer in network._flatten_layers():
            if isinstance(layer, BatchNorm) and layer.trainable:
                raise UserError(
                    f"The layer {layer.path} normalises by the statistics of a batch, of which "
                    "each process sees a share. Use normalisation that is frozen, or one device."
                )
        network.average_losses = None  # what was joined before leaves the weights
        gc.collect()
        passing = _Passing([each.value for each in network.trainable_variables])
        # Static: the weights are used outside of the forward pass that it sees, and all of them,
        # or always the same, in every step.
        parallel = DistributedDataParallel(passing, static_graph=True)

        def average(losses):  # Keras would take a module for a layer of the network
            return parallel(losses)

        network.take_share(self.process, self.processes, average, apart=True)

    def close(self) -> None:
        """Leave the others."""
        if self._began:
            dist.destroy_process_group()


class _Mean(torch.autograd.Function):
    """The mean over processes, whose gradient each process has to its own values."""

    @staticmethod
    def forward(ctx, losses: torch.Tensor) -> torch.Tensor:
        """Losses of one process -> of all."""
        means = losses.clone()
        dist.all_reduce(means)
        return means / dist.get_world_size()

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> torch.Tensor:
        """DistributedDataParallel averages what becomes of it."""
        return gradients[0]


class _Passing(torch.nn.Module):
    """Owns weights and passes losses on, averaged over processes."""

    def __init__(self, weights: Sequence[torch.nn.Parameter]):
        super().__init__()
        self.weights = torch.nn.ParameterList(weights)

    def forward(self, losses: torch.Tensor) -> torch.Tensor:
        """Losses -> their means."""
        return _Mean.apply(losses)  # type: ignore[no-any-return]
