"""A training in workers of Ray Train, which starts them, and starts them again when one dies."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from frcnn.apps.ray_prediction import open_ray, workers_environment
from frcnn.errors import UserError
from frcnn.training.config import Config
from frcnn.training.run import Run

FAILURES = 3  # after which a training is given up


def train_with_ray(config: Config) -> Run:
    """Train as ``frcnn.train`` does, in as many workers as ``--devices`` says.

    The run folder, and the data, must be on a disk that all machines have. Workers that are started
    again go on from the last state in it.

    Args:
        config: what to do; ``devices="auto"`` takes all GPUs of the cluster, or one worker.

    Returns:
        The run.

    Raises:
        UserError: as of ``frcnn.train``; Ray is not installed.
    """
    open_ray(shows=True)
    folder = config.out and os.path.abspath(config.out)
    run, _ = Run.create(replace(config, out=folder, data=os.path.abspath(config.data)))
    return resume_with_ray(run.folder)


def resume_with_ray(folder: str | Path) -> Run:
    """Go on with such a training, or begin it.

    Args:
        folder: of the run.

    Returns:
        The run.

    Raises:
        UserError: as of ``frcnn.resume``; Ray is not installed.
    """
    ray = open_ray(shows=True)
    run = Run(os.path.abspath(folder))
    config = run.read_config()
    train: Any = importlib.import_module("ray.train")
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = max(gpus, 1) if config.devices == "auto" else config.devices
    trainer = _trainer(gpus > 0)(
        _work,
        train_loop_config={"folder": str(run.folder)},
        scaling_config=train.ScalingConfig(num_workers=count, use_gpu=gpus > 0),
        run_config=train.RunConfig(
            name="workers",
            storage_path=str(run.folder.resolve() / "ray"),
            failure_config=train.FailureConfig(max_failures=FAILURES),
            worker_runtime_env={"env_vars": workers_environment()},
        ),
    )
    problem = (trainer.fit().metrics or {}).get("problem")
    if problem:
        raise UserError(problem)
    return run


def _trainer(gpus: bool) -> Any:
    """Ray's class that introduces the workers to each other as the backend wants it."""
    if keras.config.backend() == "torch":
        return importlib.import_module("ray.train.torch").TorchTrainer
    if keras.config.backend() == "jax" and gpus:
        return importlib.import_module("ray.train.v2.jax").JaxTrainer
    return importlib.import_module("ray.train.data_parallel_trainer").DataParallelTrainer


def _work(settings: dict[str, str]) -> None:
    """What each worker does."""
    from frcnn.apps.training import resume

    report = importlib.import_module("ray.train").report
    try:
        resume(settings["folder"])
    except UserError as error:  # would come again
        report({"problem": str(error)})
