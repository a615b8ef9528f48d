"""The commands that use a detector: ``evaluate``, ``compare`` and ``predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from frcnn.commands.output import write_json
from frcnn.errors import UserError


@dataclass(frozen=True)
class Evaluate:
    """Score a trained detector on labelled images.

    Args:
        run: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        split: the images: test, val or another split of the data. Left out: all.
        diagnose: say what limits the detector, the worst first, and what addresses it; the tables
            behind it go to --json too.
        json: write the figures to this file.
        strict: stop at the first broken sample.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    data: Annotated[Positional[str], arg(metavar="DATA")]
    split: Annotated[str | None, arg(metavar="NAME")] = None
    diagnose: bool = False
    json: Annotated[str | None, arg(metavar="FILE")] = None
    strict: bool = False


@dataclass(frozen=True)
class Compare:
    """Say whether one detector is better than another on the same images, beyond chance.

    Args:
        first: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        second: another.
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        split: the images: test, val or another split of the data. Left out: all.
        json: write the figures to this file.
        strict: stop at the first broken sample.
    """

    first: Annotated[Positional[str], arg(metavar="RUN_A")]
    second: Annotated[Positional[str], arg(metavar="RUN_B")]
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


def evaluate(arguments: Evaluate) -> None:
    """Detect on a data set, print the table and the diagnosis, write the JSON."""
    from frcnn.apps.scoring import detect_dataset
    from frcnn.data.dataset import open_dataset
    from frcnn.evaluation.evaluate import evaluate_detections
    from frcnn.inference.load import load

    detector = load(arguments.run)
    dataset = open_dataset(arguments.data, arguments.split, strict=arguments.strict)
    print(dataset.summary())
    found, seconds = detect_dataset(detector, dataset)
    result = evaluate_detections(found, dataset.samples, dataset.classes, seconds)
    print(result)
    figures = result.to_dict()
    if arguments.diagnose:
        from frcnn.apps.diagnosing import diagnose

        diagnosis = diagnose(detector, dataset, arguments.run, found)
        print(f"\n{diagnosis}")
        figures["diagnosis"] = diagnosis.to_dict()
    if arguments.json:
        write_json(arguments.json, figures)


def compare(arguments: Compare) -> None:
    """Detect with both, print the differences with their intervals, write the JSON."""
    from frcnn.apps.scoring import detect_dataset
    from frcnn.data.dataset import open_dataset
    from frcnn.evaluation.comparison import compare
    from frcnn.evaluation.plain import plain
    from frcnn.inference.load import load

    dataset = open_dataset(arguments.data, arguments.split, strict=arguments.strict)
    print(dataset.summary())
    first, second = (
        detect_dataset(load(run), dataset)[0] for run in (arguments.first, arguments.second)
    )
    result = compare(first, second, dataset.samples, dataset.classes)
    print(result)
    if arguments.json:
        write_json(arguments.json, plain(result.to_dict()))


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
        write_json(arguments.json, rows)


def _predict_with_ray(arguments: Predict) -> None:
    from frcnn.apps.ray_prediction import predict_with_ray

    if arguments.out:
        raise UserError("--ray draws no pictures: leave out --out. The detections go to --json.")
    file = Path(arguments.json or "predictions.json")
    predict_with_ray(arguments.run, arguments.images, arguments.score, file)
