"""Run by test_backends in a process of its own for each backend: three steps, then detections.

usage: backend_run.py FOLDER VOC_ROOT NAME   writes NAME.json and NAME.keras, reads torch.keras
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

import frcnn
from frcnn.data.batching import DetectionBatches
from frcnn.models.detector import DetectionModel, DetectionRule
from frcnn.models.faster_rcnn import LOSSES
from frcnn.training.config import Config
from frcnn.training.optimizer import build_optimizer
from frcnn.zoo.presets import build_network
from frcnn.zoo.weights import load_weights


def main(folder: Path, data: str, name: str):
    keras.utils.set_random_seed(0)
    dataset = frcnn.open_dataset(data)
    network = build_network("efficientnet_lite0_fpn", len(dataset.classes))
    load_weights(network, "efficientnet_lite0_fpn", "imagenet")
    batches = DetectionBatches(dataset, 2, 96, 160, seed=0, workers=0)
    network.compile(build_optimizer(Config(data, warmup=1), 0.01, 100))
    losses = []
    for step in range(3):
        network.reset_metrics()
        logs = network.train_on_batch(*batches.load(0, step), return_dict=True)
        losses.append([float(logs[key]) for key in LOSSES])
    spread_answers(network, batches.load(0, 0)[0])
    model = DetectionModel(
        network, dataset.classes, 96, 160, ((96, 160),), DetectionRule(score=0.0, count=30)
    )
    frcnn.Detector(model).save(folder / f"{name}.keras")
    # The same file on every backend: what one saved, another must read and run alike.
    detector = frcnn.load(folder / "torch.keras")
    found = detector.detect([sample.image for sample in dataset])
    rows = [[d.boxes.tolist(), d.scores.tolist(), d.labels.tolist()] for d in found]
    (folder / f"{name}.json").write_text(json.dumps({"losses": losses, "found": rows}))
    assert np.isfinite(losses).all()


def spread_answers(network, x):
    """Hardly trained, a network answers alike everywhere; scaled heads tell the boxes apart."""
    found = network(x)
    answers = network.roi_head(found["features"], found["proposals"])
    heads = (network.roi_head.classify, network.roi_head.regress)
    for layer, answer in zip(heads, answers, strict=True):
        spread = keras.ops.convert_to_numpy(answer).std(axis=1).mean()
        layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) / spread)
        layer.bias.assign(0 * keras.ops.convert_to_numpy(layer.bias))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
