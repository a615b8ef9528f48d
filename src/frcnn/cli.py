"""The command ``frcnn``: each subcommand is a few lines over the library.

Nothing heavy is imported until a subcommand needs it, and the backend is chosen before Keras is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from frcnn.backend import choose_backend
from frcnn.errors import UserError, printable
from frcnn.export.formats import FORMATS, Kind
from frcnn.training.config import Config


@dataclass(frozen=True)
class Evaluate:
    """Score a trained detector on labelled images.

    Args:
        run: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        split: the images: test, val or another split of the data. Left out: all.
        json: write the figures to this file.
        strict: stop at the first broken sample.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    data: Annotated[Positional[str], arg(metavar="DATA")]
    split: Annotated[str | None, arg(metavar="NAME")] = None
    json: Annotated[str | None, arg(metavar="FILE")] = None
    strict: bool = False


@dataclass(frozen=True)
class Predict:
    """Detect objects in pictures and draw them.

    Args:
        run: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        images: picture files and folders of pictures.
        score: leave out detections scored lower.
        out: the folder for the drawn pictures. Left out: predictions, or none with --json.
        json: write the detections to this file.
        ray: spread the work over Ray's workers, and draw nothing; --json says where the detections
            go, predictions.json if left out. Parquet files, with a column path or image (a file's
            bytes) and name, are pictures too.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE|FOLDER")]
    score: float = 0.5
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    json: Annotated[str | None, arg(metavar="FILE")] = None
    ray: bool = False


@dataclass(frozen=True)
class Resume:
    """Go on with a training that ended early, to what it would have become.

    Args:
        resume: the run folder; its config.toml says what to do.
    """

    resume: Annotated[str, arg(metavar="RUN")]


@dataclass(frozen=True)
class Plan:
    """Say how much memory training steps take, without training.

    Args:
        preset: the architecture; `frcnn presets` lists them.
        size: pixels of the short side; the long side is taken as 4/3 of it. Left out: the preset's.
        batch: images a step, at most.
        classes: how many.
    """

    preset: Positional[str]
    size: Annotated[int | None, arg(metavar="PIXELS")] = None
    batch: int = 16
    classes: int = 20

    def __post_init__(self):
        for name, low in (("size", 32), ("batch", 1), ("classes", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"--{name} must be at least {low}. Received: {value}.")


@dataclass(frozen=True)
class Presets:
    """List the architectures."""


@dataclass(frozen=True)
class Demo:
    """Make a small data set, train on it, evaluate and predict: the first run.

    Args:
        out: the folder for all of it.
    """

    out: Annotated[str, arg(metavar="FOLDER")] = "demo"


@dataclass(frozen=True)
class Convert:
    """Turn weights that another project trained into a .keras model of ours.

    Args:
        file: a torchvision detector's state dict (.pth, .pt, .safetensors), or keras-frcnn's
            model_frcnn.hdf5.
        preset: its architecture; `frcnn presets` lists them.
        out: the model to write.
        classes: names of its classes in their order, separated by commas, or a text file with one
            a line. Left out: COCO's where their number fits, else 1, 2, 3.
    """

    file: Annotated[Positional[str], arg(metavar="FILE")]
    preset: str
    out: Annotated[str, arg(metavar="MODEL.keras")]
    classes: Annotated[str | None, arg(metavar="NAMES|FILE")] = None


@dataclass(frozen=True)
class ConvertData:
    """Write a data set in another format.

    Args:
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        out: the new folder.
        to: the format: voc, coco, yolo or csv.
        split: only this split. Left out: all.
        images: copy the pictures' files, or link to them (hard links).
        strict: stop at the first broken sample.
    """

    data: Annotated[Positional[str], arg(metavar="SRC")]
    out: Annotated[Positional[str], arg(metavar="DST")]
    to: Annotated[Literal["voc", "coco", "yolo", "csv"], arg(metavar="FORMAT")]
    split: Annotated[str | None, arg(metavar="NAME")] = None
    images: Literal["copy", "link"] = "copy"
    strict: bool = False


@dataclass(frozen=True)
class Export:
    """Write a detector for another runtime, and check that it finds there what it finds here.

    Args:
        run: a run folder, a .keras file, torchvision:NAME or hf://OWNER/NAME.
        format: onnx, openvino, torch_export (PyTorch alone), saved_model (TensorFlow) or litert.
        out: the file, or SavedModel's folder. Left out: beside the model, or here.
        size: the height and width of the images that it will take, such as 320x448. Left out: the
            largest canvas that the model has.
        batch: the images that it will take at once: a number, or dynamic for any.
        images: the type of those images. Left out: what pictures are prepared as.
        int8: quantise to 8 bits, by calibration on the pictures of this data set.
        data: labelled images on which it is compared with the model. Left out: those the run
            validated on if they are still there, else generated ones.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    format: Annotated[Kind, arg(metavar="FORMAT")]
    out: Annotated[str | None, arg(metavar="FILE")] = None
    size: Annotated[str | None, arg(metavar="HxW")] = None
    batch: Annotated[str, arg(metavar="N|dynamic")] = "1"
    images: Literal["uint8", "float32"] | None = None
    int8: Annotated[str | None, arg(metavar="DATA")] = None
    data: Annotated[str | None, arg(metavar="DATA")] = None


def train(config: Config) -> None:
    """Train, and say where the result is."""
    from frcnn.training.train import train

    if config.ray:
        from frcnn.apps.ray_training import train_with_ray as train
    _report_run(train(config))


def resume(arguments: Resume) -> None:
    """Train to the end, and say where the result is."""
    from frcnn.training.train import resume

    if _run_config(arguments).ray:
        from frcnn.apps.ray_training import resume_with_ray as resume
    _report_run(resume(arguments.resume))


def _report_run(run) -> None:
    if not _speaks():
        return
    model = run.best if run.best.exists() else run.last
    print(f"Done. Best model: {model}. Figures: {run.metrics}, every epoch: {run.history}.")


def evaluate(arguments: Evaluate) -> None:
    """Detect on a data set, print the table, write the JSON."""
    from frcnn.apps.scoring import score_detector
    from frcnn.data.dataset import open_dataset
    from frcnn.inference.load import load

    detector = load(arguments.run)
    dataset = open_dataset(arguments.data, arguments.split, strict=arguments.strict)
    print(dataset.summary())
    result = score_detector(detector, dataset)
    print(result)
    if arguments.json:
        _write_json(arguments.json, result.to_dict())


def predict(arguments: Predict) -> None:
    """Detect on pictures, draw them, write the JSON."""
    from frcnn.apps.predictions import write_predictions
    from frcnn.inference.load import load
    from frcnn.inference.sources import find_images

    if arguments.ray:
        return _predict_with_ray(arguments)
    images = find_images(arguments.images)
    out = arguments.out or (None if arguments.json else "predictions")
    rows = write_predictions(load(arguments.run), images, arguments.score, out)
    if arguments.json:
        _write_json(arguments.json, rows)


def _predict_with_ray(arguments: Predict) -> None:
    from frcnn.apps.ray_prediction import predict_with_ray

    if arguments.out:
        raise UserError("--ray draws no pictures: leave out --out. The detections go to --json.")
    file = Path(arguments.json or "predictions.json")
    predict_with_ray(arguments.run, arguments.images, arguments.score, file)


def convert(arguments: Convert) -> None:
    """Read the weights, write the model."""
    from frcnn.inference.predict import Detector
    from frcnn.zoo.converting import class_names, convert_file

    classes = class_names(arguments.classes) if arguments.classes else None
    if not arguments.out.endswith(".keras"):
        raise UserError(f"--out must end in .keras. Received: {arguments.out}.")
    model, remarks = convert_file(arguments.file, arguments.preset, classes)
    for remark in remarks:
        print(remark)
    print(f"Wrote {Detector(model).save(arguments.out)}: {len(model.classes)} classes.")


def export(arguments: Export) -> None:
    """Write the detector, compare it with the model, say how it compares."""
    from frcnn.apps.exporting import export_run
    from frcnn.export.wishes import Wishes

    wishes = Wishes(
        arguments.format, arguments.size, arguments.batch, arguments.images, arguments.int8
    )
    path, report = export_run(arguments.run, wishes, arguments.out, arguments.data)
    print(f"{report}\nWrote {path}.")


def plan(arguments: Plan) -> None:
    """Measure a step, print the table."""
    from frcnn.apps.planning import print_plan

    print_plan(arguments.preset, arguments.size, arguments.batch, arguments.classes)


def presets(_: Presets) -> None:
    """Print the table of presets."""
    from frcnn.zoo.presets import PRESETS

    for name, preset in PRESETS.items():
        print(f"{name:<28}{preset.size:>4} px  {preset.summary}")
    print(f"{'keras_applications:NAME':<28} 512 px  a pyramid on any network of keras.applications")


def demo(arguments: Demo) -> None:
    """Run the first run."""
    from frcnn.apps.demo import run_demo

    run_demo(Path(arguments.out))


def convert_data(arguments: ConvertData) -> None:
    """Read all splits, say what was left out, write them."""
    from frcnn.data.converting import open_all_splits
    from frcnn.data.faults import describe_faults
    from frcnn.data.writing import write_dataset

    splits = open_all_splits(arguments.data, arguments.split, arguments.strict)
    faults = dict.fromkeys(fault for dataset in splits.values() for fault in dataset.faults)
    written = write_dataset(splits, arguments.out, arguments.to, arguments.images)
    counts = ", ".join(f"{split} {count:,}" for split, count in written.images.items())
    notes = [f"Note: as {arguments.to}: {sentence}" for sentence in written.lost]
    for line in filter(None, [describe_faults(tuple(faults)), *notes]):
        print(line)
    print(printable(f"Wrote {written.folder} (images: {counts})."))


COMMANDS: dict[type, tuple[str, Callable]] = {
    Config: ("train", train),
    Resume: ("train", resume),
    Evaluate: ("evaluate", evaluate),
    Predict: ("predict", predict),
    Convert: ("convert", convert),
    Export: ("export", export),
    Plan: ("plan", plan),
    Presets: ("presets", presets),
    Demo: ("demo", demo),
    ConvertData: ("convert-data", convert_data),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # `frcnn train --resume RUN` takes nothing else: what to do is in the run's own file.
    resumed = any(each.split("=")[0] == "--resume" for each in arguments)
    left_out = Config if resumed else Resume
    chosen = tyro.extras.subcommand_cli_from_dict(
        {name: kind for kind, (name, _) in COMMANDS.items() if kind is not left_out},
        prog="frcnn",
        description="Faster R-CNN for Keras 3: train, evaluate and use a two-stage detector.",
        args=arguments,
    )
    needed = FORMATS[chosen.format].backend if isinstance(chosen, Export) else None

    def act() -> None:
        if isinstance(chosen, (Config, Resume)):
            _start_processes(chosen, arguments)
        COMMANDS[type(chosen)][1](chosen)

    run_safely(act, _needs_keras(chosen), needed)


def _start_processes(chosen: Config | Resume, arguments: Sequence[str]) -> None:
    """Train in several processes if the training is to have them; they end this one."""
    from frcnn.apps.launching import train_in_processes

    config = _run_config(chosen) if isinstance(chosen, Resume) else chosen
    if not config.ray:  # it starts them itself
        status = train_in_processes(config.devices, arguments)
        if status is not None:
            sys.exit(status)


def _run_config(chosen: Resume) -> Config:
    """What the run that goes on was asked to do."""
    from frcnn.training.run import Run

    return Run(chosen.resume).read_config()


def _speaks() -> bool:
    """Whether this process reports, of those that torchrun may have started together."""
    return os.environ.get("RANK", "0") == "0"


def _needs_keras(arguments) -> bool:
    """Whether a backend must be chosen: exported detectors and data sets do without."""
    from frcnn.inference.artefact import is_artefact

    if isinstance(arguments, (Evaluate, Predict)):
        return not is_artefact(arguments.run)
    return not isinstance(arguments, ConvertData)


def run_safely(action: Callable[[], None], keras: bool = True, backend: str | None = None) -> None:
    """Choose the backend, where Keras is needed, and act; turn a user's mistake into a sentence.

    ``backend`` is the only one that will do, if there is such. Exit status: 2 for a user's
    mistake, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names may have letters that a console lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        notice = choose_backend(backend) if keras else None
        if notice and _speaks():
            print(notice, file=sys.stderr)
        action()
        sys.stdout.flush()
    except BrokenPipeError:  # of `frcnn ... | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UserError as error:
        if _speaks():  # all processes come to the same
            print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a disk that is full, a folder that is a file, a missing right
        if error.filename is None:
            raise
        print(printable(f"Error: {error.filename}: {error.strerror}."), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted; what was finished is saved.", file=sys.stderr)
        sys.exit(130)


def _write_json(path: str, value) -> None:
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
    main()
