"""Draw the pictures of the manual, each with the functions it is about.

    python docs/draw_pictures.py RUN PICTURE

RUN is a detector of `frcnn demo` (demo/run), PICTURE one of its validation pictures that has an
annotation beside it. Writes docs/images/learn/*.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import frcnn
from frcnn.data.images import read_image
from frcnn.data.resizing import prepare
from frcnn.models.targets import roi_candidates, roi_targets, rpn_targets
from frcnn.ops import boxes as box_ops
from frcnn.ops.losses import giou_loss, smooth_l1
from frcnn.ops.nms import nms
from frcnn.ops.random import uniform

OUT = Path(__file__).parent / "images" / "learn"
# Of Okabe and Ito's palette.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"


def array(value) -> np.ndarray:
    return keras.ops.convert_to_numpy(value)


def panels(count: int, width: float = 4.0, height: float = 3.2):
    _, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained")
    return np.atleast_1d(axes)


def show(axis, image, title: str):
    axis.imshow(image)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def outline(axis, boxes, colour: str, width: float = 1.2, **options):
    for x1, y1, x2, y2 in np.asarray(boxes):
        axis.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=width, **options)
        )


def save(name: str):
    OUT.mkdir(parents=True, exist_ok=True)
    plt.savefig(OUT / f"{name}.png", dpi=110)
    plt.close()


def canvases(image: np.ndarray):
    """A wide and a tall picture on their canvases."""
    axes = panels(2)
    for axis, pixels in zip(axes, (image, np.rot90(image).copy()), strict=True):
        canvas = (320, 448) if pixels.shape[1] > pixels.shape[0] else (448, 320)
        padded, size, scale = prepare(pixels, 300, 420, canvas)
        show(axis, padded, f"{pixels.shape[:2]} resized to {size}, on a canvas of {canvas}")
        outline(axis, [[0, 0, size[1], size[0]]], ORANGE, 2)
    save("canvases")


def overlaps():
    """Pairs of boxes and their IoU."""
    first = np.array([[10, 10, 60, 60]], np.float32)
    others = np.array(
        [[10, 10, 60, 60], [20, 14, 70, 64], [35, 10, 85, 60], [25, 25, 45, 45], [62, 62, 95, 95]],
        np.float32,
    )
    iou = array(box_ops.pairwise_iou(first, others))[0]
    for axis, other, value in zip(panels(5, 1.8, 2.1), others, iou, strict=True):
        axis.set(xlim=(0, 100), ylim=(100, 0), aspect="equal", title=f"IoU {value:.2f}")
        axis.set_axis_off()
        outline(axis, first, BLUE, 2)
        outline(axis, other[None], ORANGE, 2)
    save("iou")


def anchors(image, boxes, all_anchors, shapes, per_cell: int):
    """The anchors of one cell of each level."""
    axes = panels(min(3, len(shapes)))
    start = 0
    for axis, (height, width) in zip(axes, shapes, strict=False):
        show(axis, image, f"level of {height} x {width} cells: one cell's anchors")
        cell = start + (height // 2 * width + width // 2) * per_cell
        outline(axis, boxes, GREEN, 2)
        outline(axis, all_anchors[cell : cell + per_cell], ORANGE)
        start += height * width * per_cell
    save("anchors")


def matches(image, boxes, labels, all_anchors, rule):
    """Anchors that the RPN trains on."""
    keys = uniform(np.array([0, 0], "int32"), (1, len(all_anchors)))
    size = np.array([image.shape[:2]], np.int32)
    index, foreground, valid, _ = map(
        array, rpn_targets(all_anchors, boxes[None], labels[None], size, keys, rule)
    )
    chosen = all_anchors[index[0]]
    left, right = panels(2)
    show(left, image, f"{int(foreground.sum())} foreground anchors")
    outline(left, chosen[foreground[0]], ORANGE, 0.8)
    outline(left, boxes, GREEN, 2)
    background = valid[0] & ~foreground[0]
    show(right, image, f"{int(background.sum())} background anchors, as sampled")
    outline(right, chosen[background], GREY, 0.6)
    outline(right, boxes, GREEN, 2)
    save("matches")


def proposals(image, boxes, labels, found, rule):
    """What the RPN hands on, and what the second stage trains on."""
    rows = array(found["proposals"])[0][array(found["valid"])[0]]
    left, right = panels(2)
    show(left, image, "the 40 best proposals")
    outline(left, rows[:40], ORANGE, 0.8)
    candidates, valid = roi_candidates(
        found["proposals"], found["valid"], boxes[None], labels[None]
    )
    keys = uniform(np.array([0, 1], "int32"), tuple(valid.shape))
    rois, classes, sampled, _ = map(
        array, roi_targets(candidates, valid, boxes[None], labels[None], keys, rule)
    )
    good = classes[0] >= 0
    show(right, image, f"RoIs that train: {int(good.sum())} of objects, the rest background")
    outline(right, rois[0][sampled[0] & ~good], GREY, 0.5)
    outline(right, rois[0][good], ORANGE, 0.8)
    outline(right, boxes, GREEN, 2)
    save("proposals")


def roi_align():
    """Where RoIAlign samples, beside where rounding to cells would."""
    box, cells, per_bin = np.array([2.3, 1.6, 8.9, 6.8]), 3, 2
    left, right = panels(2)
    for axis, title in ((left, "RoIAlign: 2 x 2 points a bin"), (right, "RoIPool: whole cells")):
        axis.set(xlim=(0, 11), ylim=(8, 0), aspect="equal")
        axis.set_xticks(range(12), minor=False)
        axis.set_yticks(range(9))
        axis.grid(color=GREY, lw=0.5)
        axis.tick_params(labelsize=6)
        axis.set_title(title, fontsize=9)
        outline(axis, [box], ORANGE, 2)
    x = np.linspace(box[0], box[2], cells + 1)
    y = np.linspace(box[1], box[3], cells + 1)
    left.vlines(x, box[1], box[3], color=BLUE, lw=1)
    left.hlines(y, box[0], box[2], color=BLUE, lw=1)
    steps = (np.arange(cells * per_bin) + 0.5) / (cells * per_bin)
    points = np.meshgrid(box[0] + steps * (box[2] - box[0]), box[1] + steps * (box[3] - box[1]))
    left.plot(*(each.ravel() for each in points), ".", color=RED, ms=4)
    first, last = np.round(box[:2]), np.round(box[2:])
    outline(right, [np.concatenate([first, last + 1])], BLUE, 2)
    save("roi_align")


def losses():
    """The two box losses."""
    left, right = panels(2, 3.6, 2.6)
    x = np.linspace(-1, 1, 400, dtype=np.float32)
    for beta, colour in ((1.0, BLUE), (1 / 9, ORANGE)):
        values = smooth_l1(keras.ops.convert_to_tensor(x), 0.0, beta)
        left.plot(x, array(values), color=colour, label=f"{beta:.2g}")
    left.set(title="smooth L1, by its beta", xlabel="delta - target")
    left.legend()
    shift = np.linspace(0, 100, 200, dtype=np.float32)
    target = np.tile(np.array([[0, 0, 40, 40]], np.float32), (200, 1))
    moved = target + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)
    values = giou_loss(*map(keras.ops.convert_to_tensor, (moved, target)))
    right.plot(shift, array(values), color=GREEN)
    right.set(title="GIoU loss of a box of 40 pixels", xlabel="moved by so many pixels")
    save("losses")


def suppression(image, detector, found, sizes):
    """All boxes of the second stage, and those that NMS leaves."""
    scores, boxes = detector.model.network.classify(found["features"], found["proposals"], sizes)
    scores, boxes = array(scores)[0], array(boxes)[0]
    labels = scores.argmax(axis=1)
    score = scores.max(axis=1) * array(found["valid"])[0]
    boxes = boxes[np.arange(len(boxes)), labels % boxes.shape[1]]
    kept, valid = nms(
        boxes[None], score[None], 0.5, 20, groups=labels[None], valid=score[None] > 0.5
    )
    left, right = panels(2)
    show(left, image, f"{int((score > 0.5).sum())} boxes scored above 0.5")
    outline(left, boxes[score > 0.5], ORANGE, 0.8)
    rows = array(kept)[0][array(valid)[0]]
    show(right, image, f"{len(rows)} are left of them by NMS at IoU 0.5")
    outline(right, boxes[rows], GREEN, 2)
    save("nms")


def main(run: str, picture: str):
    detector = frcnn.load(run)
    network = detector.model.network
    path = Path(picture)
    dataset = frcnn.open_dataset(path.parents[1])
    (sample,) = (sample for sample in dataset.samples if sample.image.name == path.name)
    image, size, scale = detector.preparation.apply(read_image(path))
    boxes = sample.boxes * np.array([scale[1], scale[0]] * 2, np.float32)
    labels = sample.labels.astype(np.int32)
    sizes = np.array([size], np.int32)
    found = network({"images": image[None], "sizes": sizes}, training=False)
    shapes = [tuple(feature.shape[1:3]) for feature in found["features"]]
    grid = network.rpn.anchors
    canvases(read_image(path))
    overlaps()
    anchors(image, boxes, grid.boxes(shapes), shapes, grid.per_cell)
    matches(image, boxes, labels, grid.boxes(shapes), network.rpn_rule)
    proposals(image, boxes, labels, found, network.roi_rule)
    roi_align()
    losses()
    suppression(image, detector, found, sizes)


if __name__ == "__main__":
    main(*sys.argv[1:])
