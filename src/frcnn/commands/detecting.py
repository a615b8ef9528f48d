"""The commands that use a detector: ``evaluate`` and ``predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from frcnn.commands.output import write_json
from frcnn.errors import UserError

if TYPE_CHECKING:
    from frcnn.inference.views import Views

OVERLAP = 0.2


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
        tiles: look at square tiles of this side in pixels, and at the whole picture; for pictures
            larger than the network sees.
        overlap: of neighbouring tiles, as a share of the side.
        tta: look at each picture mirrored and in several sizes too.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    data: Annotated[Positional[str], arg(metavar="DATA")]
    split: Annotated[str | None, arg(metavar="NAME")] = None
    json: Annotated[str | None, arg(metavar="FILE")] = None
    strict: bool = False
    tiles: Annotated[int | None, arg(metavar="PIXELS")] = None
    overlap: float = OVERLAP
    tta: bool = False


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
        tiles: look at square tiles of this side in pixels, and at the whole picture; for pictures
            larger than the network sees.
        overlap: of neighbouring tiles, as a share of the side.
        tta: look at each picture mirrored and in several sizes too.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE|FOLDER")]
    score: float = 0.5
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    json: Annotated[str | None, arg(metavar="FILE")] = None
    ray: bool = False
    tiles: Annotated[int | None, arg(metavar="PIXELS")] = None
    overlap: float = OVERLAP
    tta: bool = False


def evaluate(arguments: Evaluate) -> None:
    """Detect on a data set, print the table, write the JSON."""
    from frcnn.apps.scoring import score_detector
    from frcnn.data.dataset import open_dataset
    from frcnn.inference.load import load

    detector = _views(arguments).of(load(arguments.run))
    dataset = open_dataset(arguments.data, arguments.split, strict=arguments.strict)
    print(dataset.summary())
    result = score_detector(detector, dataset)
    print(result)
    if arguments.json:
        write_json(arguments.json, result.to_dict())


def predict(arguments: Predict) -> None:
    """Detect on pictures, draw them, write the JSON."""
    from frcnn.apps.predictions import write_predictions
    from frcnn.inference.load import load
    from frcnn.inference.sources import find_images

    if arguments.ray:
        return _predict_with_ray(arguments)
    images = find_images(arguments.images)
    out = arguments.out or (None if arguments.json else "predictions")
    detector = _views(arguments).of(load(arguments.run))
    rows = write_predictions(detector, images, arguments.score, out)
    if arguments.json:
        write_json(arguments.json, rows)


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
