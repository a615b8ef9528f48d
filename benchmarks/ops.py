"""Time NMS and RoIAlign on PyTorch against torchvision's, side by side on this machine.

    python benchmarks/ops.py [--threads 2] [--repeats 15]

Medians in milliseconds; the two sides take turns, so that whatever else runs slows both. Features
are channels last in memory, as this package's convolutions leave them, on both sides. Ratio is
torchvision's time over ours: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "torch"

import torch
import torchvision

from frcnn.ops.nms import nms
from frcnn.ops.roi import pyramid_roi_align, roi_align


def random_boxes(batch, count, height, width, generator):
    """Boxes of all sizes inside a picture, float32 [batch, count, 4]."""
    size = torch.tensor([width, height], dtype=torch.float32)
    centres = torch.rand(batch, count, 2, generator=generator) * size
    sides = 16 * 2 ** (5 * torch.rand(batch, count, 2, generator=generator))  # 16..512
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=-1)
    return torch.minimum(boxes.clamp(min=0), size.repeat(2))


def clustered_boxes(batch, count, height, width, generator):
    """Boxes crowded round a tenth as many objects, as proposals are."""
    objects = random_boxes(batch, max(count // 10, 1), height, width, generator)
    boxes = objects.repeat(1, 10, 1)[:, :count]
    return boxes + torch.randn(boxes.shape, generator=generator) * 8


def milliseconds(function):
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def compare(name, case, ours, theirs, repeats):
    """One row of the table, after a warm-up of both sides."""
    ours(), theirs()
    times = [(milliseconds(ours), milliseconds(theirs)) for _ in range(repeats)]
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name:24} {case:36} {mine:9.2f} {other:12.2f} {other / mine:7.2f}", flush=True)


def compare_nms(count, max_outputs, groups, generator, repeats):
    boxes = clustered_boxes(2, count, 800, 800, generator)
    scores = torch.rand(2, count, generator=generator)
    labels = torch.randint(groups, (2, count), generator=generator)

    def theirs():
        for image in zip(boxes, scores, labels, strict=True):
            torchvision.ops.batched_nms(*image, 0.7)[:max_outputs]

    def ours():
        nms(boxes, scores, 0.7, max_outputs, labels if groups > 1 else None)

    case = f"2 x {count} boxes, {groups} groups, to {max_outputs}"
    compare("nms", case, ours, theirs, repeats)


def compare_roi_align(shape, strides, rois, generator, repeats):
    """Forward and backward; one stride compares ``roi_align``, several the pyramid."""
    batch, height, width, channels = shape
    maps = [
        torch.randn(batch, height // step, width // step, channels, generator=generator)
        for step in (stride // strides[0] for stride in strides)
    ]
    features = [level.requires_grad_() for level in maps]
    channels_first = [level.detach().permute(0, 3, 1, 2).requires_grad_() for level in maps]
    size = (height * strides[0], width * strides[0])
    boxes = random_boxes(batch, rois, *size, generator)
    pool = torchvision.ops.MultiScaleRoIAlign([str(level) for level in range(len(maps))], 7, 2)
    named = {str(level): values for level, values in enumerate(channels_first)}

    def ours():
        if len(strides) == 1:
            return roi_align(features[0], boxes, 7, 1 / strides[0])
        return pyramid_roi_align(features, boxes, strides, 7)

    def theirs():
        if len(strides) == 1:
            scale = 1 / strides[0]
            return torchvision.ops.roi_align(channels_first[0], list(boxes), 7, scale, 2, True)
        return pool(named, list(boxes), [size] * batch)

    name = "roi_align" if len(strides) == 1 else "pyramid_roi_align"
    case = f"{batch} x {rois} RoIs, {height} x {width} x {channels}, {len(strides)} levels"
    compare(f"{name} forward", case, ours, theirs, repeats)
    mine, other = ours(), theirs()
    upstream, other_upstream = torch.ones_like(mine), torch.ones_like(other)

    def ours_back():
        torch.autograd.grad(mine, features, upstream, retain_graph=True)

    def theirs_back():
        torch.autograd.grad(other, channels_first, other_upstream, retain_graph=True)

    compare(f"{name} back", case, ours_back, theirs_back, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    header = f"{'operation':24} {'case':36} {'frcnn ms':>9} {'torchvision':>12} {'ratio':>7}"
    print(header, "-" * len(header), sep="\n")
    for count, max_outputs, groups in [
        (1000, 100, 1),
        (1000, 100, 20),
        (4000, 1000, 3),
        (6000, 300, 1),
        (12000, 2000, 1),
    ]:
        compare_nms(count, max_outputs, groups, generator, arguments.repeats)
    for shape, strides, rois in [
        ((1, 38, 50, 512), [16], 300),
        ((4, 40, 54, 128), [16], 128),
        ((4, 40, 54, 128), [16, 32, 64], 128),
        ((2, 128, 128, 256), [8, 16, 32, 64], 512),
    ]:
        compare_roi_align(shape, strides, rois, generator, arguments.repeats)


if __name__ == "__main__":
    main()
