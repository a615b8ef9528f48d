"""A network and data small enough to train in a test."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import keras
import numpy as np

from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.fpn import FeaturePyramid
from frcnn.models.layers import Conv2D, Normalize
from frcnn.models.roi_head import RoIHead
from frcnn.models.rpn import AnchorGrid, ProposalRule, RegionProposalNetwork
from frcnn.models.targets import RoITargetRule, RPNTargetRule

CLASSES = ("disc", "square")
CANVAS = (64, 96)


def tiny_network(
    num_classes: int = 2,
    seed: int = 0,
    dropout: float = 0.0,
    neck=None,
    head=None,
    extractor=None,
    **options,
) -> FasterRCNN:
    """Two levels of stride 8 and 16, 8 channels, with every part of a real network.

    ``neck`` and ``head`` are further arguments of the pyramid and the RoI head, ``options`` of the
    whole; ``extractor`` makes another one of these strides.
    """
    keras.utils.set_random_seed(seed)
    return FasterRCNN(
        preprocessing=Normalize((127.0,) * 3, (128.0,) * 3),
        extractor=(extractor or tiny_extractor)(),
        neck=FeaturePyramid(8, extra="maxpool", **(neck or {})),
        rpn=RegionProposalNetwork(
            AnchorGrid((8, 16, 32), ((12.0,), (24.0,), (48.0,))),
            channels=8,
            training=ProposalRule(60, 40),
            inference=ProposalRule(60, 30),
        ),
        roi_head=tiny_head(num_classes, dropout=dropout, **(head or {})),
        rpn_targets=RPNTargetRule(count=32),
        roi_targets=RoITargetRule(count=16),
        seed=seed,
        **options,
    )


def tiny_extractor() -> keras.Model:
    """Two maps of stride 8 and 16, by three convolutions."""
    inputs = x = keras.Input((None, None, 3))
    maps = []
    for index, (channels, stride) in enumerate([(8, 4), (8, 2), (16, 2)]):
        x = Conv2D(channels, 3, stride, "same", activation="relu", name=f"conv{index}")(x)
        maps.append(x)
    return keras.Model(inputs, maps[1:])


def tiny_head(num_classes: int = 2, **options) -> RoIHead:
    """A RoI head for ``tiny_network``."""
    return RoIHead(num_classes, (8, 16), **{"units": (16, 16), "pool_size": 3, **options})


def tiny_detector(network: FasterRCNN | None = None, score: float = 0.0) -> DetectionModel:
    """A detector; without a network, one whose answers differ clearly from box to box."""
    if network is None:
        network = tiny_network()
        for layer in (network.roi_head.classify, network.roi_head.regress, network.rpn.deltas):
            layer.kernel.assign(30 * keras.ops.convert_to_numpy(layer.kernel))
    return DetectionModel(network, CLASSES, 64, 96, (CANVAS,), DetectionRule(score=score, count=20))


def tiny_batch(
    batch: int = 2, boxes: int = 3, slots: int = 8, seed: int = 0, canvas: tuple[int, int] = CANVAS
):
    """Random pictures with squares where the boxes are: (x, y)."""
    rng = np.random.default_rng(seed)
    height, width = canvas
    images = rng.integers(0, 60, (batch, height, width, 3)).astype(np.uint8)
    truth = np.full((batch, slots, 4), -1, np.float32)
    labels = np.full((batch, slots), -1, np.int32)
    for picture in range(batch):
        for slot in range(boxes):
            side = int(rng.integers(12, 30))
            x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            label = int(rng.integers(0, 2))
            images[picture, y : y + side, x : x + side] = (200, 80 + 120 * label, 60)
            truth[picture, slot] = (x, y, x + side, y + side)
            labels[picture, slot] = label
    sizes = np.tile(np.array([[height, width - 6]], np.int32), (batch, 1))
    return {"images": images, "sizes": sizes}, {"boxes": truth, "labels": labels}


def history_of(run) -> list[dict[str, str]]:
    """A run's history without what a clock says."""
    clocks = ("images_per_second", "waited_for_data", "seconds")
    with run.history.open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows]


def damage(picture: Path) -> None:
    """Damage a PNG file's data under its sound header, so that only decoding finds it out."""
    data = bytearray(picture.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    picture.write_bytes(data)


def write_voc(root: Path, images: int = 6, splits: dict[str, range] | None = None) -> Path:
    """A VOC folder of small pictures, each with two squares."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(images):
        picture = rng.integers(0, 60, (64, 96, 3)).astype(np.uint8)
        objects = []
        for label, x in enumerate((4, 50)):
            y, side = int(rng.integers(2, 30)), int(rng.integers(16, 30))
            picture[y : y + side, x : x + side] = (200, 80 + 120 * label, 60)
            objects.append(
                f"<object><name>{CLASSES[label]}</name><difficult>0</difficult><bndbox>"
                f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + side}</xmax>"
                f"<ymax>{y + side}</ymax></bndbox></object>"
            )
        cv2.imwrite(str(root / f"JPEGImages/{index:03d}.png"), picture[..., ::-1])
        (root / f"Annotations/{index:03d}.xml").write_text(
            f"<annotation><filename>{index:03d}.png</filename>{''.join(objects)}</annotation>"
        )
    for name, members in (splits or {}).items():
        (root / f"ImageSets/Main/{name}.txt").write_text("".join(f"{i:03d}\n" for i in members))
    return root
