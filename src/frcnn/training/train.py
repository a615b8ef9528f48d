"""A training, from a configuration to a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
from rich.console import Console

from frcnn.console import counting, new_console, say
from frcnn.data.batching import DetectionBatches
from frcnn.data.resizing import Size, long_side, plan_canvases
from frcnn.inference.predict import Detector
from frcnn.inference.seen import Seen
from frcnn.models.detector import DetectionModel
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.training.auditing import few_steps, warnings_of, working_of
from frcnn.training.augmentation import transforms_of, variety_of
from frcnn.training.config import Config
from frcnn.training.crowding import make_room
from frcnn.training.devices import Devices, open_devices
from frcnn.training.evaluated import needs_another, precision, show
from frcnn.training.fitting import Fitting
from frcnn.training.optimizer import build_optimizer
from frcnn.training.plan import Room, measure_step, plan_steps
from frcnn.training.run import Run, with_absolute_paths
from frcnn.training.splits import Splits, open_splits
from frcnn.training.tracking import check_tracker
from frcnn.zoo.presets import build_network, preset
from frcnn.zoo.weights import find_weights, load_weights

# A canvas holds whole cells of the coarsest map that the networks make by striding.
STRIDE = 32


@dataclass(frozen=True, eq=False)
class Finished:
    """A training that came to its end.

    Args:
        run: what it left.
        splits: the data.
        seen: what the best model saw and found of the validation images; None without them, or
            where another process measured it.
    """

    run: Run
    splits: Splits
    seen: Seen | None


Begin = Callable[[Run], None]
Finish = Callable[[Finished, Console], None]


def train(
    config: Config,
    console: Console | None = None,
    finish: Finish | None = None,
    begin: Begin | None = None,
) -> Run:
    """Train a detector and leave a run folder.

    Ctrl-C ends the training after the step it comes in, with everything saved, and so does
    SIGTERM; ``resume`` goes on.

    Args:
        config: what to do.
        console: where to report; standard output if left out.
        finish: called after a training of one process that came to its end.
        begin: called, in one process, once data and weights are accepted and the run folder made.

    Returns:
        The run: ``run.best`` and ``run.last`` are model files for ``frcnn.load``.

    Raises:
        ValueError: data, weights or settings that cannot be used; the message says which.
        TrainingError: a loss that is not finite; memory that does not suffice for one image;
            a disk that is full, or not to be written to.
        KeyboardInterrupt: after Ctrl-C, once everything is saved.
        SystemExit: after SIGTERM, likewise; of status 0.
    """
    check_tracker(config.track)
    with open_devices(config.devices) as devices:
        console = _of_the_first(devices, console)
        finished = _train(config, devices, console, begin)
    return _finish(finished, devices, console, finish)


def _finish(finished: Finished, devices: Devices, console: Console, finish: Finish | None) -> Run:
    if finish and devices.processes == 1:
        finish(finished, console)
    return finished.run


def _train(
    config: Config, devices: Devices, console: Console, begin: Begin | None = None
) -> Finished:
    devices.share_of(config.batch)  # refuse what cannot be shared before anything is made
    devices.by_the_first(lambda: _refuse_early(config))
    splits = _open(config, console)
    batches = _batches(config, splits)
    parts = _planned_parts(config, splits, batches, devices, console)
    with devices.scope():
        network = _network(config, splits, config.precision)
    network.parts = parts
    working = working_of(config.preset, config.size, network.rpn.anchors)
    few = few_steps(config.epochs, len(batches))
    for sentence in filter(None, (*warnings_of(splits, working), few)):
        say(console, f"Note: {sentence}")
    report = load_weights(network, config.preset, config.weights, splits.train.classes)
    if report is not None:
        say(console, f"Weights from {report}")
    run = Run(devices.by_the_first(lambda: str(Run.create(config)[0].folder)))
    if begin and devices.first:
        begin(run)
    config = replace(with_absolute_paths(config), out=str(run.folder))
    seen = _fit(config, run, network, batches, splits, devices, console, resumed=False)
    return Finished(run, splits, seen)


def resume(folder: str | Path, console: Console | None = None, finish: Finish | None = None) -> Run:
    """Go on with a training that ended early, to what it would have become.

    The weights become the same, bit for bit, on the same backend and machine, as far as that
    computes reproducibly. A training that ended before its first state was saved starts again.

    Args:
        folder: of the run; its ``config.toml`` says what to do.
        console: as of ``train``.
        finish: likewise.

    Returns:
        The run, as ``train`` does.

    Raises:
        UserError: no run is in the folder, its state is lost or damaged, or the data have changed.
    """
    run = Run(folder)
    config = run.read_config()
    check_tracker(config.track)
    with open_devices(config.devices) as devices:
        console = _of_the_first(devices, console)
        if not devices.by_the_first(run.state.exists):
            devices.by_the_first(run.refuse_lost_state)
            say(
                console,
                f"No state was saved in {folder} yet: the training starts again.",
            )
            finished = _train(replace(config, overwrite=True), devices, console)
        else:
            splits = _open(config, console)
            batches = _batches(config, splits)
            with devices.scope():
                network = _network(config, splits, config.precision)
            seen = _fit(config, run, network, batches, splits, devices, console, resumed=True)
            finished = Finished(run, splits, seen)
    return _finish(finished, devices, console, finish)


def _of_the_first(devices: Devices, console: Console | None) -> Console:
    """Where to report: only the first process does."""
    return console or new_console() if devices.first else Console(quiet=True)


def _refuse_early(config: Config) -> None:
    """Raise a ``UserError`` for what would be one later, before anything takes long."""
    Run.refuse_earlier(config)
    find_weights(config.preset, config.weights)


def _open(config: Config, console: Console) -> Splits:
    with counting("checking pictures", None, console) as advance:
        splits = open_splits(config, advance)
    _report_data(splits, console)
    return splits


def _network(config: Config, splits: Splits, computing: str) -> FasterRCNN:
    keras.utils.set_random_seed(config.seed)
    classes = len(splits.train.classes)
    with precision(computing):
        network = build_network(config.preset, classes, config.frozen, config.rois, config.seed)
    network.remat = config.remat
    return network


def _planned_parts(
    config: Config, splits: Splits, batches: DetectionBatches, devices: Devices, console: Console
) -> int:
    """In how many parts steps are taken: those asked for, or as few as fit into memory."""
    share = devices.share_of(config.batch, config.parts or 1)
    if config.parts is not None:
        return config.parts
    canvas = max(batches.canvases, key=math.prod)
    kind = (config.preset, len(splits.train.classes), config.frozen, config.rois, config.precision)
    kind += (config.remat,)
    copies = (config.ema > 0) + needs_another(config)

    def build() -> FasterRCNN:
        return _network(config, splits, config.precision)

    def plan() -> int:
        room = Room.now()
        with devices.apart():
            memory = measure_step(build, canvas, batches.max_boxes, share, kind)
        found = plan_steps(memory.with_copies(copies), share, room)
        say(console, found)
        return found.parts

    return devices.by_the_first(plan)


def canvases_in_use(planned: tuple[Size, ...], short: int, long: int) -> tuple[Size, ...]:
    """The canvases of the training images, and two more which any other picture fits."""
    low, high = (-(-side // STRIDE) * STRIDE for side in (short, long))
    return tuple(dict.fromkeys((*planned, (low, high), (high, low))))


def _fit(
    config: Config,
    run: Run,
    network: FasterRCNN,
    batches: DetectionBatches,
    splits: Splits,
    devices: Devices,
    console: Console,
    resumed: bool,
) -> Seen | None:
    """Train to the end; what the best model saw of the validation images, if it is at hand."""
    chosen = preset(config.preset)
    shown = network
    if needs_another(config):
        with devices.apart():  # the first process uses it alone
            shown = _network(config, splits, "float32")
    rule, sentence = make_room(shown, chosen.rule, splits)
    if sentence is not None:
        say(console, f"Note: {sentence}")
    detector = _detector(shown, splits, batches, rule)
    peak = chosen.lr * config.batch if config.lr is None else config.lr
    network.label_smoothing = config.label_smoothing
    with devices.scope():
        network.compile(build_optimizer(config, peak, config.epochs * len(batches), network))
        network.optimizer.build(network.trainable_variables)
    fitting = Fitting(
        config,
        run,
        network,
        detector,
        batches,
        splits.validation,
        devices,
        console,
        refresh=lambda: None if shown is network else show(network, shown),
    )
    place = fitting.restore() if resumed else (0, 0)
    devices.share_of(config.batch, network.parts)
    batches.rows = devices.rows(config.batch, network.parts)
    devices.join(network)
    if place[0] == config.epochs or fitting.stopped_early:
        fitting.say(
            f"The training in {run.folder} is complete: {place[0]} epochs. To train it further: "
            f"frcnn train DATA --weights {run.folder} --epochs N"
        )
        return None
    shared = f" on {devices.count} devices" if devices.count > 1 else ""
    fitting.say(
        f"Training {config.preset} on {keras.config.backend()}: {config.epochs} epochs of "
        f"{len(batches)} steps, batch {config.batch}{shared}, canvases "
        f"{', '.join(f'{w}x{h}' for h, w in batches.canvases)}, learning rate {peak:g}. "
        f"Run folder: {run.folder}"
    )
    if not resumed:
        fitting.begin(splits.train.classes)
    fitting.fit(*place)
    return fitting.best_seen


def _report_data(splits: Splits, console: Console) -> None:
    say(console, splits.train.summary())
    if splits.validation is not None and splits.validation.faults:
        say(console, splits.validation.summary())
    say(console, splits.note)


def _batches(config: Config, splits: Splits) -> DetectionBatches:
    short = config.size or preset(config.preset).size
    long = long_side(short)
    return DetectionBatches(
        splits.train,
        config.batch,
        short,
        long,
        canvases=plan_canvases(splits.train.sizes(), short, long, STRIDE),
        transforms=transforms_of(config),
        variety=variety_of(config),
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
            canvases_in_use(batches.plain_canvases, batches.short, batches.long),
            rule,
        )
    )
