"""A training's command as several processes: PyTorch wants one for each device."""

from __future__ import annotations

import os
from collections.abc import Sequence

from frcnn.threads import available_cores
from frcnn.training.config import Wanted


def train_in_processes(wanted: Wanted, arguments: Sequence[str]) -> int | None:
    """Run this command in several processes, unless one is enough or this is one of them.

    Args:
        wanted: ``--devices``.
        arguments: of the command ``frcnn``.

    Returns:
        Their exit status; None if the command is to go on by itself.
    """
    if os.environ.get("KERAS_BACKEND") != "torch" or "RANK" in os.environ:
        return None
    if wanted == 1:
        return None
    from frcnn.training.torch_launch import count_accelerators, run_processes

    count = count_accelerators() if wanted == "auto" else wanted
    if count < 2:
        return None
    os.environ.setdefault("OMP_NUM_THREADS", str(max(available_cores() // count, 1)))
    return run_processes(count, "frcnn", arguments)
