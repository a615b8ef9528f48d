"""Starting the processes of a training on PyTorch, by torchrun's own code."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def count_accelerators() -> int:
    """GPUs of this machine."""
    return torch.cuda.device_count()


def run_processes(count: int, module: str, arguments: Sequence[str]) -> int:
    """Run a module in several processes that know of each other, and wait for them.

    Signals are passed on; what failed has said so itself, and torchrun's own report is left out.

    Returns:
        The exit status: of the process that failed first, or as of one process after a signal.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    command = ["--standalone", f"--nproc-per-node={count}", "-m", module, *arguments]
    try:
        torchrun.main(command)
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException as error:
        return 0 if error.sigval == signal.SIGTERM else 130
    return 0
