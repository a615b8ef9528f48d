"""The first run: a data set is made, a detector trained on it, scored and used."""

from __future__ import annotations

import time
from pathlib import Path

from frcnn.apps.predictions import check_all_done, write_predictions
from frcnn.apps.scoring import score_detector
from frcnn.apps.training import train
from frcnn.data.dataset import open_dataset
from frcnn.data.demo import generate_demo
from frcnn.data.images import read_image
from frcnn.draw import contact_sheet, draw_detections, save_image
from frcnn.errors import UserError
from frcnn.inference.load import load
from frcnn.training.config import Config

IMAGES, EPOCHS, SIZE = 200, 5, 256
SHOWN = 8  # pictures on the overview
SCORE = 0.5


def run_demo(out: Path) -> None:
    """Make data, train, evaluate and predict, all below ``out``.

    Raises:
        UserError: the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder. Name another with --out, or remove it.")
    began = time.perf_counter()
    data = generate_demo(out / "data", images=IMAGES)
    print(f"Made a data set of {IMAGES} pictures in {data}.")
    run = train(Config(str(data), epochs=EPOCHS, size=SIZE, out=str(out / "run")))

    detector = load(run.folder)
    validation = open_dataset(data, "val")
    result = score_detector(detector, validation)
    run.write_metrics(result.to_dict())
    print(result)

    paths = [sample.image for sample in validation]
    check_all_done(write_predictions(detector, paths, SCORE, out / "predictions"))
    found = detector.detect(paths[:SHOWN], SCORE)
    pictures = [draw_detections(read_image(p), f) for p, f in zip(paths, found, strict=False)]
    overview = save_image(out / "overview.jpg", contact_sheet(pictures, columns=4))
    print(
        f"\nValidation mAP (VOC12, IoU 0.5): {result.voc12['mAP']:.3f}, "
        f"after {time.perf_counter() - began:.0f} s.\n"
        f"Pictures with detections: {out / 'predictions'}, the first {len(pictures)} of them on "
        f"one sheet: {overview}.\n"
        f"Next: frcnn train YOUR_DATA, then frcnn predict RUN PICTURES."
    )
