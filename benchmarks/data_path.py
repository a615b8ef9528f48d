"""Pictures a second from file to training input, beside torchvision's, on one core each.

    python benchmarks/data_path.py [DATA] [--short 320] [--rounds 7] [--json FILE]

Both sides decode the same JPEG files, flip half of them with their boxes and resize to the same
size, with "colours" they also change brightness, contrast, saturation and hue by as much; ours
lays the picture on its canvas, as a batch needs it. torchvision's side is `torchvision.io` and
`transforms.v2` on uint8 tensors in its quickest order, colours after resizing. DATA is any data
set that `frcnn train` reads, by default BCCD in FRCNN_DATA; pictures of 2048 x 1536 are
generated. Rounds alternate, the first of each side is not counted, medians are printed; the ratio
is ours over torchvision's: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import cv2
import numpy as np
import torch
import torchvision
from torchvision import tv_tensors
from torchvision.transforms import v2

from frcnn.data.batching import DetectionBatches
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.resizing import scale_for, scaled_size
from frcnn.data.transforms import HorizontalFlip, Photometric
from frcnn.structures import Sample

PICTURES = 48  # of a data set, spread over it
LARGE = (1536, 2048)


def large_pictures(folder: str, count: int) -> Dataset:
    """Smooth pictures with detail and noise, as large as a telephone's, each with a few boxes."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(count):
        coarse = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, LARGE[::-1], interpolation=cv2.INTER_CUBIC)
        fine = rng.integers(0, 40, (LARGE[0] // 4, LARGE[1] // 4, 1)).astype(np.uint8)
        picture = cv2.add(picture, cv2.resize(fine, LARGE[::-1])[..., None].repeat(3, 2))
        path = Path(folder, f"{index}.jpg")
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        corners = rng.uniform(0, 1000, (8, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(50, 500, (8, 2))], axis=1)
        samples.append(Sample(path, boxes, np.zeros(8, np.int64), size=LARGE))
    return Dataset(tuple(samples), ("thing",), Path(folder))


def ours(dataset: Dataset, short: int, colours: bool):
    """One epoch of the batches that training takes, prepared when asked for."""
    batches = DetectionBatches(
        dataset,
        batch_size=8,
        short=short,
        long=short * 5 // 3,
        transforms=(HorizontalFlip(), Photometric()) if colours else (HorizontalFlip(),),
        workers=0,
    )
    return lambda: [batches[index] for index in range(len(batches))]


def torchvisions(dataset: Dataset, short: int, colours: bool):
    """The same pictures through torchvision."""
    change = Photometric()
    flip = v2.RandomHorizontalFlip()
    jitter = v2.ColorJitter(change.brightness, change.contrast, change.saturation, change.hue / 360)

    def load(sample: Sample):
        picture = torchvision.io.decode_image(str(sample.image), "RGB", apply_exif_orientation=True)
        size = tuple(picture.shape[1:])
        boxes = tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=size)
        target = scaled_size(size, scale_for(size, short, short * 5 // 3))
        picture, boxes = flip(tv_tensors.Image(picture), boxes)
        picture, boxes = v2.functional.resize(picture, target), v2.functional.resize(boxes, target)
        picture = jitter(picture) if colours else picture
        return picture, boxes, torch.from_numpy(sample.labels)

    return lambda: [load(sample) for sample in dataset]


def compare(work: str, dataset: Dataset, short: int, colours: bool, rounds: int) -> dict:
    """One row: medians of pictures a second."""
    sides = {
        "ours": ours(dataset, short, colours),
        "peer": torchvisions(dataset, short, colours),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: len(dataset) / statistics.median(times) for name, times in seconds.items()}
    return {"work": work, "backend": "cpu", **rates, "ratio": rates["ours"] / rates["peer"]}


def spread(dataset: Dataset, count: int) -> Dataset:
    """So many JPEG pictures of a data set, evenly spread over it, in whole batches of ours."""
    jpegs = [each for each in dataset if each.image.suffix.lower() in (".jpg", ".jpeg")]
    chosen = np.linspace(0, len(jpegs) - 1, min(count, len(jpegs))).astype(int)
    chosen = chosen[: max(len(chosen) // 8 * 8, 1)]
    return Dataset(tuple(jpegs[i] for i in chosen), dataset.classes, dataset.root)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("FRCNN_DATA", Path(__file__).parents[2] / "shared/data"), "bccd")
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--short", type=int, default=320, help="pixels of the short side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    print(f"{'pictures a second':32} {'ours':>9} {'torchvision':>12} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        works = {
            given.data.name: spread(open_dataset(given.data), PICTURES),
            "{1} x {0}".format(*LARGE): large_pictures(folder, 16),
        }
        for (name, dataset), colours in itertools.product(works.items(), (True, False)):
            work = f"{name} to {given.short}{', colours' if colours else ''}"
            row = compare(work, dataset, given.short, colours, given.rounds)
            rows.append(row)
            print(
                f"{row['work']:32} {row['ours']:9.1f} {row['peer']:12.1f} {row['ratio']:7.2f}",
                flush=True,
            )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
