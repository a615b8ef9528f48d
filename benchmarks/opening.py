"""How long it takes to open a large data set: `python benchmarks/opening.py PICTURES`.

A COCO file of many images is made, whose pictures are links to those in a folder, and opened; with
`--wait` each picture's file takes so many milliseconds longer to open, as on a disk of a network.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

BOXES, CLASSES, SIDE = 8, 80, 100  # of each image; in all; pixels at most


def make(folder: Path, pictures: list[Path], count: int) -> Path:
    """A COCO file and its pictures."""
    from frcnn.data.images import image_size

    draw = random.Random(0)
    near = [Path(shutil.copy(path, folder / f"source-{i}")) for i, path in enumerate(pictures)]
    sizes = [image_size(path) for path in pictures]
    images, annotations = [], []
    (folder / "images").mkdir()
    for number in range(count):
        which = number % len(near)
        name, (height, width) = f"{number:012d}{pictures[which].suffix}", sizes[which]
        os.link(near[which], folder / "images" / name)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for _ in range(BOXES):
            sides = draw.randint(1, min(SIDE, width)), draw.randint(1, min(SIDE, height))
            box = [draw.randint(0, width - sides[0]), draw.randint(0, height - sides[1]), *sides]
            label = draw.randrange(CLASSES)
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": label, "bbox": box}
            )
    categories = [{"id": label, "name": f"class {label}"} for label in range(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = folder / "instances.json"
    file.write_text(json.dumps(content))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path, help="a folder of JPEG files")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--wait", type=float, default=0.0, help="milliseconds")
    given = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "numpy")  # none is used

    from frcnn.data import images
    from frcnn.data.dataset import open_dataset

    opened = images.open_file

    def slow(path, most):
        time.sleep(given.wait / 1000)
        return opened(path, most)

    pictures = sorted(given.pictures.glob("*.jpg"))
    if not pictures:
        raise SystemExit(f"There is no .jpg in {given.pictures}.")
    with tempfile.TemporaryDirectory() as folder:
        file = make(Path(folder), pictures, given.images)
        if given.wait:
            images.open_file = slow
        began = time.perf_counter()
        dataset = open_dataset(file)
        seconds = time.perf_counter() - began
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(dataset):,} pictures: {seconds:.1f} s, at most {gigabytes:.2f} GiB")


if __name__ == "__main__":
    main()
