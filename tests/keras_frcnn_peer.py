"""keras-frcnn's inference, written anew in NumPy and PyTorch's functions, with random weights."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.nn import functional

SIZES = (128, 256, 512)
SHAPES = ((1, 1), (1 / math.sqrt(2), 2 / math.sqrt(2)), (2 / math.sqrt(2), 1 / math.sqrt(2)))
MEANS = np.float32([103.939, 116.779, 123.68])
STRIDE = 16
VGG = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
RESNET = ((2, 3, 64), (3, 4, 128), (4, 6, 256))  # stage, blocks, channels
EPSILON = 1e-3


class Original:
    """The original's network; its layers are drawn as the first picture passes them.

    Args:
        network: "vgg" or "resnet50".
        picture: uint8 (H, W, 3), RGB; its statistics become those of the batch normalisations, and
            the outputs' spread is set on it.
        classes: without background.
        units: of VGG's fully connected layers; 4096 in the original.
        rois: how many proposals there are at most; 300 in the original.
        seed: of the weights.
    """

    def __init__(self, network: str, picture: np.ndarray, classes=3, units=16, rois=300, seed=0):
        self.network, self.classes, self.units, self.rois = network, classes, units, rois
        self.rng = np.random.default_rng(seed)
        self.layers: dict[str, dict[str, np.ndarray]] = {}
        self.detect(picture)

    def detect(self, picture: np.ndarray, threshold: float = 0.6):
        """(label, score, box in pixels) of each detection, best first.

        In two things it is ours: boxes are not rounded to cells, and they are cut at the picture's
        border before they suppress one another.
        """
        features = self.features(picture)
        proposals = self.proposals(*self.rpn(features))
        logits, deltas = self.classify(features, proposals)
        scores = softmax(logits)
        found, border = [], picture.shape[1::-1] * 2
        for label in range(self.classes):
            rows = np.flatnonzero((scores.argmax(1) == label) & (scores[:, label] >= threshold))
            boxes = moved(proposals[rows], deltas[rows, 4 * label : 4 * label + 4])
            boxes = (boxes * STRIDE).clip(0, border)
            for row in suppress(boxes, scores[rows, label], 0.5, 300):
                found.append((label, scores[rows[row], label], boxes[row]))
        return sorted(found, key=lambda row: -row[1])

    def features(self, picture: np.ndarray) -> np.ndarray:
        """The shared map (rows, columns, channels); the means meet RGB in BGR's order."""
        pixels = picture.astype(np.float32) - MEANS
        maps = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        maps = self._vgg(maps) if self.network == "vgg" else self._resnet(maps)
        return maps[0].permute(1, 2, 0).numpy()

    def _vgg(self, x):
        for block, (convolutions, channels) in enumerate(VGG, start=1):
            for index in range(1, convolutions + 1):
                x = self._conv(x, f"block{block}_conv{index}", channels, 3, padding=1).relu()
            x = functional.max_pool2d(x, 2) if block < len(VGG) else x
        return x

    def _resnet(self, x):
        x = self._conv(functional.pad(x, (3,) * 4), "conv1", 64, 7, stride=2)
        x = functional.max_pool2d(self._norm(x, "bn_conv1").relu(), 3, 2)
        for stage, blocks, channels in RESNET:
            x = self._stage(x, stage, blocks, channels, 1 if stage == 2 else 2)
        return x

    def _stage(self, x, stage, blocks, channels, stride):
        for block in "abcdef"[:blocks]:
            step, name = (stride if block == "a" else 1), f"{stage}{block}_branch"
            y = self._convnorm(x, f"{name}2a", channels, 1, step).relu()
            y = self._convnorm(y, f"{name}2b", channels, 3).relu()
            y = self._convnorm(y, f"{name}2c", 4 * channels, 1)
            x = self._convnorm(x, f"{name}1", 4 * channels, 1, step) if block == "a" else x
            x = (x + y).relu()
        return x

    def _convnorm(self, x, name, channels, size, stride=1):
        x = self._conv(x, f"res{name}", channels, size, stride, padding=size // 2)
        return self._norm(x, f"bn{name}")

    def _conv(self, x, name, channels, size, stride=1, padding=0, spread=None):
        def apply(kernel, bias):
            return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride, padding)

        return self._layer(apply, name, (size, size, x.shape[1], channels), spread)

    def _dense(self, x, name, units, spread=None):
        return self._layer(lambda k, b: x @ k + b, name, (x.shape[1], units), spread)

    def _layer(self, apply, name, shape, spread):
        if name not in self.layers:
            kernel = self.rng.normal(0, math.sqrt(2 / np.prod(shape[:-1])), shape)
            kernel, bias = kernel.astype(np.float32), np.zeros(shape[-1], np.float32)
            if spread:
                outputs = apply(*map(torch.from_numpy, (kernel, bias)))
                kernel *= spread / outputs.std().item()
            bias += self.rng.normal(0, (spread or 1.0) / 10, bias.shape).astype(np.float32)
            self.layers[name] = {"kernel": kernel, "bias": bias}
        return apply(*map(torch.from_numpy, self.layers[name].values()))

    def _norm(self, x, name):
        if name not in self.layers:
            # Residual branches weigh less than what they are added to, as in trained networks.
            weight = 0.3 if name.endswith("2c") else 1.0
            count = x.shape[1]
            self.layers[name] = {
                "gamma": self.rng.uniform(0.5, 1, count).astype(np.float32) * np.float32(weight),
                "beta": self.rng.uniform(-0.2, 0.2, count).astype(np.float32),
                "running_mean": x.mean((0, 2, 3)).numpy(),
                "running_std": x.var((0, 2, 3)).numpy(),  # a variance, whatever its name
            }
        gamma, beta, mean, variance = (
            torch.from_numpy(value)[:, None, None] for value in self.layers[name].values()
        )
        return (x - mean) * gamma / (variance + EPSILON).sqrt() + beta

    def rpn(self, features):
        """Probabilities (rows, columns, 9) and four times the deltas (rows, columns, 36)."""
        x = torch.from_numpy(features).permute(2, 0, 1)[None]
        x = self._conv(x, "rpn_conv1", 512, 3, padding=1).relu()
        new = "rpn_out_regress" not in self.layers
        scores = self._conv(x, "rpn_out_class", 9, 1, spread=2.0).sigmoid()
        deltas = self._conv(x, "rpn_out_regress", 36, 1, spread=1.0)
        if new:  # the anchors are as large as the test's pictures
            self.layers["rpn_out_regress"]["bias"] += np.tile(np.float32([0, 0, -4, -4]), 9)
            deltas = self._conv(x, "rpn_out_regress", 36, 1)
        return (y[0].permute(1, 2, 0).numpy() for y in (scores, deltas))

    def proposals(self, scores, deltas) -> np.ndarray:
        """Whole cells int (n, 4), (x1, y1, x2, y2), best first."""
        rows, columns = scores.shape[:2]
        deltas = deltas.reshape(rows, columns, 9, 4) / 4.0
        boxes, chances = [], []
        for anchor, (size, (wide, high)) in enumerate((s, r) for s in SIZES for r in SHAPES):
            width, height = size * wide / STRIDE, size * high / STRIDE
            for y in range(rows):
                for x in range(columns):
                    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                    boxes.append(box)
                    chances.append((scores[y, x, anchor], *deltas[y, x, anchor]))
        chances = np.array(chances, np.float64)
        boxes = shifted(np.array(boxes), chances[:, 1:])
        first = np.round(boxes[:, :2])
        sides = np.maximum(np.round(boxes[:, 2:] - boxes[:, :2]), 1)
        end = np.minimum(first + sides, (columns - 1, rows - 1))
        boxes = np.concatenate([np.maximum(first, 0), end], 1)
        good = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, chances = boxes[good], chances[good, 0]
        return boxes[suppress(boxes, chances, 0.7, self.rois)].astype(int)

    def classify(self, features, rois):
        """Logits (n, classes + 1), background last, and deltas (n, 4 * classes) of cell boxes."""
        side = 7 if self.network == "vgg" else 14
        pooled = [enlarged(features[y1:y2, x1:x2], side) for x1, y1, x2, y2 in rois]
        x = torch.from_numpy(np.stack(pooled).astype(np.float32))
        if self.network == "vgg":
            x = x.flatten(1)
            for name in ("fc1", "fc2"):
                x = self._dense(x, name, self.units).relu()
        else:
            x = self._stage(x.permute(0, 3, 1, 2), 5, 3, 512, 2)
            x = functional.avg_pool2d(x, 7).flatten(1)
        logits = self._dense(x, "class", self.classes + 1, spread=3.0)
        deltas = self._dense(x, "regress", 4 * self.classes, spread=1.0)
        return logits.numpy(), deltas.numpy()

    def save(self, path: Path, scheme: str = "keras 2") -> Path:
        """Write the weights as Keras did.

        Args:
            path: the file.
            scheme: "keras 2", or "keras 1", where weights had other names, or "tf.keras", of whose
                whole models the weights are a part.
        """
        with h5py.File(path, "w") as file:
            root = file.create_group("model_weights") if scheme == "tf.keras" else file
            names = [self._file_name(layer) for layer in self.layers]
            for layer in ("input_1", *names, "roi_pooling_conv_1"):
                root.create_group(layer)
            for number, (layer, weights) in enumerate(self.layers.items()):
                for name, value in weights.items():
                    root[weight_path(self._file_name(layer), name, number, scheme)] = value
            root.attrs["layer_names"] = [name.encode() for name in root]
        return path

    def _file_name(self, layer: str) -> str:
        outputs = self.classes + 1
        wrappers = {"fc1": "time_distributed_8", "fc2": "time_distributed_10"}
        dense = {"class": f"dense_class_{outputs}", "regress": f"dense_regress_{outputs}"}
        return {**wrappers, **dense}.get(layer, layer)


def weight_path(layer: str, name: str, number: int, scheme: str) -> str:
    """Where a file has a weight. Layers in a wrapper have names of their own, with a number."""
    wrapped = layer.startswith(("time", "dense", "res5", "bn5"))
    if name in ("kernel", "bias"):
        if scheme == "keras 1":
            old = {"kernel": "W", "bias": "b"}[name]
            return f"{layer}/{f'dense_{number}' if wrapped else layer}_{old}:0"
        return f"{layer}/{layer}/{name}:0"
    owner = f"fixed_batch_normalization_{number}" if wrapped else layer
    return f"{layer}/{layer}/{owner}_{name}:0"


def enlarged(crop: np.ndarray, side: int) -> np.ndarray:
    """Resize (n, m, C) to (side, side, C) as TensorFlow 1 did."""

    def weights(cells: int) -> np.ndarray:
        matrix = np.zeros((side, cells))
        for row in range(side):
            at = row * cells / side
            low = int(at)
            matrix[row, low] += 1 - (at - low)
            matrix[row, min(low + 1, cells - 1)] += at - low
        return matrix

    return np.einsum("iy,yxc,jx->ijc", weights(crop.shape[0]), crop, weights(crop.shape[1]))


def moved(cells: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) in cells moved by the second stage's deltas."""
    return shifted(cells, deltas / (8.0, 8.0, 4.0, 4.0))


def shifted(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) with centres moved by tx, ty sides, and sides times exp(tw), exp(th)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    sides = np.exp(deltas[:, 2:]) * sides
    return np.concatenate([centres - sides / 2, centres + sides / 2], 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows to probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, count: int) -> list[int]:
    """Rows that survive non-maximum suppression, best first."""
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        if len(kept) == count:
            break
        if all(overlap(boxes[row], boxes[other]) <= threshold for other in kept):
            kept.append(int(row))
    return kept


def overlap(first, second) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    both = np.prod(np.maximum(sides, 0))
    return both / (np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - both + 1e-6)
