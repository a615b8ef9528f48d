"""A small data set, drawn on the spot: something to train on before there are pictures at hand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from frcnn.data.scenes import Seen, draw_scene
from frcnn.data.writers import add_elements
from frcnn.errors import UserError


def generate_demo(
    root: str | Path, images: int = 200, seed: int = 0, size: tuple[int, int] = (320, 400)
) -> Path:
    """Draw pictures of discs, squares, stars and triangles into a PASCAL VOC folder.

    One picture in five is for validation; ``ImageSets/Main`` lists ``train``, ``val`` and
    ``trainval``. The same arguments give the same boxes everywhere, and the same pictures but for
    what versions of OpenCV differ in. A picture does not depend on how many others are drawn.

    Args:
        root: the folder to make; it may exist if it is empty.
        images: pictures in all, at least 2.
        seed: 0 or above; another seed gives other pictures.
        size: smallest and largest width in pixels, at least 64; the height is 3/4 of the width.

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: an argument out of range.
        UserError: ``root`` exists and is not an empty folder.
    """
    if images < 2 or seed < 0 or not 64 <= size[0] <= size[1]:
        raise ValueError(
            "Expected images of at least 2, a seed of at least 0 and 64 <= size[0] <= size[1]. "
            f"Received: images={images}, seed={seed}, size={size}."
        )
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not an empty folder. Name a new one for the demo data set.")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    validation = max(1, images // 5)
    train = [_write(root, "train", seed, 0, index, size) for index in range(images - validation)]
    val = [_write(root, "val", seed, 1, index, size) for index in range(validation)]
    for split, names in (("train", train), ("val", val), ("trainval", train + val)):
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def _write(
    root: Path, split: str, seed: int, stream: int, index: int, size: tuple[int, int]
) -> str:
    name = f"{split}_{index:04d}"
    image, objects = draw_scene(np.random.default_rng((seed, stream, index)), size)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (root / "JPEGImages" / f"{name}.jpg").write_bytes(data.tobytes())
    tree = _annotation(f"{name}.jpg", image.shape[0], image.shape[1], objects)
    tree.write(root / "Annotations" / f"{name}.xml")
    return name


def _annotation(
    filename: str, height: int, width: int, objects: list[Seen]
) -> ElementTree.ElementTree:
    top = ElementTree.Element("annotation")
    ElementTree.SubElement(top, "filename").text = filename
    add_elements(ElementTree.SubElement(top, "size"), width=width, height=height, depth=3)
    for seen in objects:
        item = ElementTree.SubElement(top, "object")
        add_elements(
            item,
            name=seen.name,
            truncated=int(seen.truncated),
            occluded=int(seen.occluded),
            difficult=0,
        )
        xmin, ymin, xmax, ymax = seen.box
        add_elements(
            ElementTree.SubElement(item, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax
        )
    ElementTree.indent(top)
    return ElementTree.ElementTree(top)
