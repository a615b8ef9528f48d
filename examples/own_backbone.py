"""A detector over a backbone of your own: any functional Keras model, a pyramid, Faster R-CNN.

    python examples/own_backbone.py                        # ConvNeXt-Tiny of keras.applications
    python examples/own_backbone.py --backbone keras_hub   # after `pip install keras-hub`

The script draws a few pictures, trains two steps on them to show that all is in place, and
detects in one. For a real training give the backbone ImageNet weights (``weights="imagenet"``,
or ``from_preset`` with KerasHub), and ``fit`` many epochs of your pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from frcnn.backend import choose_backend

choose_backend()  # before Keras is imported

import keras  # noqa: E402

from frcnn.data.batching import DetectionBatches  # noqa: E402
from frcnn.data.dataset import open_dataset  # noqa: E402
from frcnn.data.demo import generate_demo  # noqa: E402
from frcnn.inference.predict import Detector  # noqa: E402
from frcnn.models.detector import DetectionModel  # noqa: E402
from frcnn.models.faster_rcnn import FasterRCNN  # noqa: E402
from frcnn.models.fpn import FeaturePyramid  # noqa: E402
from frcnn.models.keras_extractor import strides_of, tapped, taps_for  # noqa: E402
from frcnn.models.layers import Normalize  # noqa: E402
from frcnn.models.roi_head import RoIHead  # noqa: E402
from frcnn.models.rpn import AnchorGrid, RegionProposalNetwork  # noqa: E402

# Mean and standard deviation of ImageNet's channels; a network wants what it was trained with.
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def convnext() -> tuple[Normalize, keras.Model]:
    """ConvNeXt-Tiny, without its own layers that scale the pictures, which ``Normalize`` does."""
    backbone = keras.applications.ConvNeXtTiny(
        include_top=False, include_preprocessing=False, weights=None
    )
    return Normalize(**IMAGENET), backbone


def keras_hub() -> tuple[Normalize, keras.Model]:
    """A ResNet-18 of KerasHub; ``ResNetBackbone.from_preset`` would bring weights."""
    from keras_hub.models import ResNetBackbone

    backbone = ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )
    return Normalize(**IMAGENET), backbone


def detector_over(backbone: keras.Model, preprocessing: Normalize, classes: int) -> FasterRCNN:
    """Faster R-CNN on the deepest maps of stride 8, 16 and 32 of a backbone."""
    # Or name the layers yourself: tapped(backbone, ["conv3_block4_out", ...]).
    extractor = tapped(backbone, taps_for(backbone))
    strides = strides_of(extractor)
    levels = (*strides, 2 * strides[-1])  # the pyramid adds one
    return FasterRCNN(
        preprocessing=preprocessing,
        extractor=extractor,
        neck=FeaturePyramid(128),
        rpn=RegionProposalNetwork(
            AnchorGrid(levels, tuple((4.0 * stride,) for stride in levels)), channels=128
        ),
        roi_head=RoIHead(classes, strides, units=(256, 256)),
    )


BACKBONES = {"convnext": convnext, "keras_hub": keras_hub}


def main(arguments: Sequence[str] | None = None) -> Detector:
    """Build, train two steps, detect."""
    parser = argparse.ArgumentParser(description="Train a detector over your own backbone.")
    parser.add_argument("--backbone", choices=tuple(BACKBONES), default="convnext")
    parser.add_argument("--side", type=int, default=256, help="short side of the pictures")
    given = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as folder:
        width = 4 * given.side // 3
        data = generate_demo(Path(folder) / "demo", images=5, size=(width, width))
        pictures = open_dataset(data, split="train")
        batches = DetectionBatches(pictures, 2, short=given.side, long=width)

        preprocessing, backbone = BACKBONES[given.backbone]()
        network = detector_over(backbone, preprocessing, len(pictures.classes))
        network.compile(keras.optimizers.AdamW(1e-4))
        network.fit(batches, epochs=1, steps_per_epoch=2, shuffle=False, verbose=2)

        model = DetectionModel(
            network, pictures.classes, given.side, width, canvases=batches.canvases
        )
        detector = Detector(model)
        print(f"{len(detector.detect(pictures[0].image))} detections in {pictures[0].image}")
    return detector


if __name__ == "__main__":
    main()
