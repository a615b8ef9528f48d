"""A training, from a configuration to a run folder."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import keras
from rich.console import Console

from frcnn.data.batching import DetectionBatches
from frcnn.data.resizing import Size, plan_canvases
from frcnn.data.transforms import (
    HorizontalFlip,
    Photometric,
    RandomCrop,
    Rotate90,
    ScaleJitter,
    Transform,
    VerticalFlip,
)
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.models.detector import DetectionModel
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.config import Config
from frcnn.training.fitting import Fitting
from frcnn.training.optimizer import build_optimizer
from frcnn.training.plan import measure_step, plan_steps
from frcnn.training.run import Run
from frcnn.training.splits import Splits, open_splits
from frcnn.training.validation import picture_batch
from frcnn.zoo.presets import build_network, preset
from frcnn.zoo.weights import load_weights

# A canvas holds whole cells of the coarsest map that the networks make by striding.
STRIDE = 32


def train(config: Config, console: Console | None = None) -> Run:
    """Train a detector and leave a run folder.

    Ctrl-C ends the training after the step it comes in, with everything saved, and so does
    SIGTERM; ``resume`` goes on.

    Args:
        config: what to do.
        console: where to report; standard output if left out.

    Returns:
        The run: ``run.best`` and ``run.last`` are model files for ``frcnn.load``.

    Raises:
        ValueError: data, weights or settings that cannot be used; the message says which.
        TrainingError: a loss that is not finite.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
        SystemExit: after SIGTERM, likewise; of status 0.
    """
    console = console or Console()
    splits = _open(config, console)
    batches = _batches(config, splits)
    parts = _planned_parts(config, splits, batches, console)
    network = _network(config, splits)
    network.parts = parts
    report = load_weights(network, config.preset, config.weights, splits.train.classes)
    if report is not None:
        # Of what was made for this network, only what does not fit is news.
        ours = config.weights == "imagenet" or config.weights.endswith(".keras")
        text = report.brief() if ours else str(report)
        console.print(f"Weights from {text}", highlight=False, markup=False, soft_wrap=True)
    run, config = Run.create(config)
    _fit(config, run, network, batches, splits, console, resumed=False)
    return run


def resume(folder: str | Path, console: Console | None = None) -> Run:
    """Go on with a training that ended early, to what it would have become.

    The weights become the same, bit for bit, on the same backend and machine, as far as that
    computes reproducibly. A training that ended before its first state was saved starts again.

    Args:
        folder: of the run; its ``config.toml`` says what to do.
        console: as of ``train``.

    Returns:
        The run, as ``train`` does.

    Raises:
        UserError: no run is in the folder, its state is damaged, or the data have changed.
    """
    console = console or Console()
    run = Run(folder)
    if not run.config_file.is_file():
        raise UserError(f"There is no run to resume in {folder}: it has no {run.config_file.name}.")
    config = replace(Config.from_toml(run.config_file), out=str(folder))
    if not run.state.exists():
        console.print(f"No state was saved in {folder} yet: the training starts again.")
        return train(replace(config, overwrite=True), console)
    splits = _open(config, console)
    batches = _batches(config, splits)
    _fit(config, run, _network(config, splits), batches, splits, console, resumed=True)
    return run


def _open(config: Config, console: Console) -> Splits:
    splits = open_splits(config)
    _report_data(splits, console)
    return splits


def _network(config: Config, splits: Splits) -> FasterRCNN:
    keras.utils.set_random_seed(config.seed)
    classes = len(splits.train.classes)
    return build_network(config.preset, classes, config.frozen, config.rois, config.seed)


def _planned_parts(
    config: Config, splits: Splits, batches: DetectionBatches, console: Console
) -> int:
    """In how many parts steps are taken: those asked for, or as few as fit into memory."""
    if config.parts is not None:
        return config.parts
    canvas = max(batches.canvases, key=math.prod)
    kind = (config.preset, len(splits.train.classes), config.frozen, config.rois)
    memory = measure_step(lambda: _network(config, splits), canvas, batches.max_boxes, kind)
    plan = plan_steps(memory, config.batch)
    console.print(str(plan), highlight=False, markup=False, soft_wrap=True)
    return plan.parts


def canvases_in_use(planned: tuple[Size, ...], short: int, long: int) -> tuple[Size, ...]:
    """The canvases of the training images, and two more which any other picture fits."""
    low, high = (-(-side // STRIDE) * STRIDE for side in (short, long))
    return tuple(dict.fromkeys((*planned, (low, high), (high, low))))


def long_side(short: int) -> int:
    """The cap on the long side: 1000 for a short side of 600, as in the paper."""
    return round(short * 1000 / 600)


def _fit(
    config: Config,
    run: Run,
    network: FasterRCNN,
    batches: DetectionBatches,
    splits: Splits,
    console: Console,
    resumed: bool,
) -> None:
    chosen = preset(config.preset)
    detector = _detector(network, splits, batches, chosen.rule)
    peak = chosen.lr * config.batch if config.lr is None else config.lr
    network.compile(build_optimizer(config, peak, config.epochs * len(batches)))
    network.optimizer.build(network.trainable_variables)
    fitting = Fitting(config, run, network, detector, batches, splits.validation, console)
    place = fitting.restore() if resumed else (0, 0)
    if place[0] == config.epochs:
        fitting.say(f"The training in {run.folder} is complete: {config.epochs} epochs.")
        return
    fitting.say(
        f"Training {config.preset} on {keras.config.backend()}: {config.epochs} epochs of "
        f"{len(batches)} steps, batch {config.batch}, canvases "
        f"{', '.join(f'{w}x{h}' for h, w in batches.canvases)}, learning rate {peak:g}. "
        f"Run folder: {run.folder}"
    )
    if not resumed:
        picture_batch(run, batches, splits.train.classes)
        fitting.save()
    fitting.fit(*place)


def _report_data(splits: Splits, console: Console) -> None:
    console.print(splits.train.summary(), highlight=False, markup=False, soft_wrap=True)
    if splits.validation is not None and splits.validation.faults:
        console.print(splits.validation.summary(), highlight=False, markup=False, soft_wrap=True)
    console.print(splits.note, highlight=False, soft_wrap=True)


def _transforms(config: Config) -> tuple[Transform, ...]:
    """The augmentation that the configuration asks for, geometry first."""
    chosen: list[Transform] = []
    if config.horizontal_flip:
        chosen.append(HorizontalFlip())
    if config.vertical_flip:
        chosen.append(VerticalFlip())
    if config.rotate:
        chosen.append(Rotate90(p=0.75))  # with "not at all", each of the four is as likely
    if config.crop < 1:
        chosen.append(RandomCrop(low=config.crop))
    if config.scale_jitter:
        chosen.append(ScaleJitter(1 / (1 + config.scale_jitter), 1 + config.scale_jitter))
    if config.photometric:
        strength = config.photometric
        chosen.append(Photometric(0.125 * strength, 0.3 * strength, 0.3 * strength, 10 * strength))
    return tuple(chosen)


def _batches(config: Config, splits: Splits) -> DetectionBatches:
    short = config.size or preset(config.preset).size
    long = long_side(short)
    return DetectionBatches(
        splits.train,
        config.batch,
        short,
        long,
        canvases=plan_canvases(splits.train.sizes(), short, long, STRIDE),
        transforms=_transforms(config),
        seed=config.seed,
        steps=config.epoch_images and max(config.epoch_images // config.batch, 1),
        workers=config.workers,
        strict=config.strict,
    )


def _detector(network: FasterRCNN, splits: Splits, batches: DetectionBatches, rule) -> Detector:
    return Detector(
        DetectionModel(
            network,
            splits.train.classes,
            batches.short,
            batches.long,
            canvases_in_use(batches.canvases, batches.short, batches.long),
            rule,
        )
    )
