"""A training's command as several processes: PyTorch wants one for each device."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from frcnn.inference.pictures import available_cores
from frcnn.training.config import Wanted


def become_processes(wanted: Wanted, arguments: Sequence[str]) -> None:
    """Turn into torchrun with this command in several processes; come back if one is enough.

    Args:
        wanted: ``--devices``.
        arguments: of the command ``frcnn``.
    """
    if os.environ.get("KERAS_BACKEND") != "torch" or "RANK" in os.environ:
        return
    if wanted == "auto":
        from frcnn.training.torch_parallel import count_accelerators

        wanted = count_accelerators()
    if wanted > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(available_cores() // wanted, 1)))
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={wanted}"]
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *torchrun, "-m", "frcnn.cli", *arguments])
