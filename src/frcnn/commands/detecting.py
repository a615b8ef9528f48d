"""The commands that use a detector: ``evaluate``, ``compare`` and ``predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from frcnn.commands.output import check_json, write_json
from frcnn.commands.stopping import ended_by_sigterm
from frcnn.errors import UserError, printable

if TYPE_CHECKING:
    from frcnn.data.dataset import Dataset
    from frcnn.inference.views import Views


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
        json: write the figures to this file, and which images could not be read.
        strict: stop at the first broken sample.
        tiles: look at square tiles of this side in pixels, and at the whole picture; for pictures
            larger than the network sees.
        overlap: of neighbouring tiles, as a share of the side. Left out: 0.2.
        tta: look at each picture mirrored and in several sizes too.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    data: Annotated[Positional[str], arg(metavar="DATA")]
    split: Annotated[str | None, arg(metavar="NAME")] = None
    diagnose: bool = False
    json: Annotated[str | None, arg(metavar="FILE")] = None
    strict: bool = False
    tiles: Annotated[int | None, arg(metavar="PIXELS")] = None
    overlap: Annotated[float | None, arg(metavar="SHARE")] = None
    tta: bool = False


@dataclass(frozen=True)
class Compare:
    """Say whether one detector is better than another on the same images, beyond chance.

    Args:
        first: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        second: another.
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        split: the images: test, val or another split of the data. Left out: all.
        json: write the figures to this file, and which images could not be read.
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
    """Detect objects in pictures, or in a video, and draw them.

    Args:
        run: a run folder, a .keras file, an exported .onnx or .xml file, torchvision:NAME or
            hf://OWNER/NAME.
        images: picture files and folders of pictures; or one video: a file, camera, camera:1 or
            rtsp://ADDRESS, the last three until Ctrl-C or SIGTERM.
        score: leave out detections scored lower.
        out: the folder for the drawn pictures, or a video's file, such as out.mp4. Left out:
            predictions, or none with --json.
        json: write the detections to this file as they come; of a picture that cannot be read, its
            "error", of a drawing that cannot be written, why it is "not_drawn".
        track: follow objects from frame to frame of a video: each gets a number. Detections scored
            a fifth of --score may go on with a track.
        ray: spread the work over Ray's workers, and draw nothing; --json says where the detections
            go, predictions.json if left out. Parquet files, with a column path or image (a file's
            bytes) and name, are pictures too.
        tiles: look at square tiles of this side in pixels, and at the whole picture; for pictures
            larger than the network sees.
        overlap: of neighbouring tiles, as a share of the side. Left out: 0.2.
        tta: look at each picture mirrored and in several sizes too.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    images: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="IMAGE|FOLDER...", help_behavior_hint="(one or more)"),
    ]
    score: float = 0.5
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    json: Annotated[str | None, arg(metavar="FILE")] = None
    track: bool = False
    ray: bool = False
    tiles: Annotated[int | None, arg(metavar="PIXELS")] = None
    overlap: Annotated[float | None, arg(metavar="SHARE")] = None
    tta: bool = False


def evaluate(arguments: Evaluate) -> None:
    """Detect on a data set, print the table and the diagnosis, write the JSON."""
    from frcnn.apps.scoring import detect_dataset, too_few_boxes
    from frcnn.evaluation.evaluate import evaluate_detections
    from frcnn.inference.load import load

    check_json(arguments.json, arguments.run, arguments.data)
    detector = _views(arguments).of(load(arguments.run))
    dataset = _labelled(arguments, detector.most_pixels)
    print(dataset.summary())
    (dataset, found, faults), seconds = detect_dataset(detector, dataset, arguments.strict)
    result = evaluate_detections(found, dataset.samples, dataset.classes, seconds)
    print(result)
    if sentence := too_few_boxes(detector, dataset):
        print(sentence)
    figures = {**result.to_dict(), "left_out": [str(fault) for fault in faults]}
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
    from frcnn.data.images import MAX_PIXELS
    from frcnn.evaluation.comparison import compare
    from frcnn.evaluation.plain import plain
    from frcnn.inference.load import load

    check_json(arguments.json, arguments.first, arguments.second, arguments.data)
    dataset = _labelled(arguments, MAX_PIXELS)
    print(dataset.summary())
    (dataset, first, faults), _ = detect_dataset(load(arguments.first), dataset, arguments.strict)
    # What the first has read the second must: both are compared on the same images.
    (_, second, _), _ = detect_dataset(load(arguments.second), dataset, strict=True)
    result = compare(first, second, dataset.samples, dataset.classes)
    print(result)
    if arguments.json:
        left_out = [str(fault) for fault in faults]
        write_json(arguments.json, {**plain(result.to_dict()), "left_out": left_out})


def _labelled(arguments: Evaluate | Compare, most: int) -> Dataset:
    """The labelled images of up to so many pixels, with a counter while they are checked."""
    from frcnn.console import counting
    from frcnn.data.dataset import open_dataset

    with counting("checking pictures", None) as advance:
        return open_dataset(
            arguments.data,
            arguments.split,
            strict=arguments.strict,
            progress=advance,
            most=most,
        )


def predict(arguments: Predict) -> None:
    """Detect on pictures, draw them, write the JSON."""
    from frcnn.apps.predictions import check_all_done, plan_drawings, write_predictions
    from frcnn.inference.load import load
    from frcnn.inference.sources import find_images
    from frcnn.inference.video import is_video

    if not 0 <= arguments.score <= 1:
        raise UserError(f"--score is a share, from 0 to 1. Received: {arguments.score}.")
    check_json(arguments.json, arguments.run, *arguments.images)
    if arguments.out and Path(arguments.out).is_file() and not is_video(arguments.out):
        raise UserError(f"{arguments.out} is a file; --out names a folder.")
    if any(map(is_video, arguments.images)):
        return _predict_video(arguments)
    if arguments.out and is_video(arguments.out) and not Path(arguments.out).is_dir():
        raise UserError(
            f"--out names the folder for drawn pictures, not a video. Received: {arguments.out}."
        )
    if arguments.track:
        raise UserError("--track follows objects through a video: name one.")
    if arguments.ray:
        return _predict_with_ray(arguments)
    images = find_images(arguments.images)
    out = arguments.out or (None if arguments.json else "predictions")
    if out:
        plan_drawings(images, out)  # a mistake in it is told before the detector is loaded
    detector = _views(arguments).of(load(arguments.run))
    with ended_by_sigterm():
        rows = write_predictions(detector, images, arguments.score, out, arguments.json)
    check_all_done(rows)


def _predict_video(arguments: Predict) -> None:
    from frcnn.apps.video_predictions import video_file, write_video_predictions
    from frcnn.inference.load import load
    from frcnn.inference.video import check_source

    source, *others = arguments.images
    if others or arguments.ray:
        raise UserError("A video is predicted on alone: without other files, and without --ray.")
    if arguments.tiles or arguments.tta or arguments.overlap is not None:
        raise UserError("--tiles, --overlap and --tta are for pictures: a video has none of them.")
    out = arguments.out or (None if arguments.json else "predictions")
    file = video_file(source, out) if out else None
    check_source(source)  # a mistake in it is told before the detector is loaded
    detector = load(arguments.run)
    with ended_by_sigterm():
        done = write_video_predictions(
            detector, source, arguments.score, file, arguments.json, arguments.track
        )
    where = f"; drawn in {file}" if file else ""
    print(printable(f"{done} scored {arguments.score} or more{where}."))


def _predict_with_ray(arguments: Predict) -> None:
    from frcnn.apps.ray_prediction import predict_with_ray

    if arguments.out:
        raise UserError("--ray draws no pictures: leave out --out. The detections go to --json.")
    file = Path(arguments.json or "predictions.json")
    views = _views(arguments)
    predict_with_ray(arguments.run, arguments.images, arguments.score, file, views)


def _views(arguments: Evaluate | Predict) -> Views:
    from frcnn.inference.views import Views

    return Views(arguments.tiles, arguments.overlap, arguments.tta)
