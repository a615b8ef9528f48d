"""The network in use: images -> a fixed number of detections, the same graph everywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import keras
from keras import ops

from frcnn.errors import UserError
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.ops import boxes as box_ops
from frcnn.ops.nms import nms

MIN_SIZE = 1e-2  # pixels; boxes narrower or lower are nothing that could be seen


@dataclass(frozen=True)
class DetectionRule:
    """Which boxes are returned.

    Args:
        score: boxes scored higher are kept.
        iou_threshold: of the NMS, which runs on each class by itself.
        count: boxes returned for an image, at most.
        candidates: boxes of all classes, by score, that enter NMS, at most.
    """

    score: float = 0.05
    iou_threshold: float = 0.5
    count: int = 100
    candidates: int = 3000


@keras.saving.register_keras_serializable(package="frcnn")
class DetectionModel(keras.Model):
    """A trained ``FasterRCNN`` with thresholds, and all that is needed to use it on a picture.

    Args:
        network: the trained network.
        classes: names of its classes, in label order.
        short: pixels that a picture's short side is resized to.
        long: pixels that its long side may have at most.
        canvases: (height, width) that resized pictures are padded to; a picture takes the
            smallest that holds it.
        rule: which boxes are returned.
    """

    def __init__(
        self,
        network: FasterRCNN,
        classes: tuple[str, ...],
        short: int,
        long: int,
        canvases: tuple[tuple[int, int], ...],
        rule: DetectionRule = DetectionRule(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if len(classes) != network.roi_head.num_classes:
            raise ValueError(
                f"Expected {network.roi_head.num_classes} class names, as the network was built "
                f"for. Received: {len(classes)}, {', '.join(classes)}."
            )
        self.network = network
        self.classes = tuple(classes)
        self.short = short
        self.long = long
        self.canvases = tuple(tuple(canvas) for canvas in canvases)
        self.rule = rule
        self.built = True

    def build(self, input_shape=None):
        """Nothing to do: the network is built when it is made."""
        self.built = True

    def call(self, inputs):
        """Detect on a batch, given as to ``FasterRCNN``.

        Returns:
            a dict: ``boxes`` float32 (B, D, 4), xyxy in canvas pixels; ``scores`` float32
            (B, D), descending; ``labels`` int32 (B, D); ``count`` int32 (B,), how many of the
            D rows are detections. The rows after them are zero, their label -1.
        """
        network, rule = self.network, self.rule
        found = network(inputs, training=False)
        proposals = found["proposals"]
        logits, deltas = network.roi_head(found["features"], proposals, training=False)
        scores = ops.softmax(logits, axis=-1)[..., :-1]  # [B, P, C]
        boxes = box_ops.decode(proposals[:, :, None], deltas, network.roi_rule.weights)

        # Of all boxes of all classes, the most confident enter NMS.
        classes = len(self.classes)
        total = proposals.shape[1] * classes
        scores = ops.where(found["valid"][..., None], scores, 0.0)
        scores, index = ops.top_k(
            ops.reshape(scores, (-1, total)), min(rule.candidates, total)
        )  # [B, K]
        boxes = ops.take_along_axis(ops.reshape(boxes, (-1, total, 4)), index[..., None], axis=1)
        boxes = box_ops.clip(boxes, ops.cast(inputs["sizes"], "float32"))
        labels = ops.cast(index % classes, "int32")
        large = ops.all(boxes[..., 2:] - boxes[..., :2] >= MIN_SIZE, axis=-1)

        kept, valid = nms(
            boxes,
            scores,
            rule.iou_threshold,
            rule.count,
            groups=labels,
            valid=(scores > rule.score) & large,
        )
        return {
            "boxes": ops.where(
                valid[..., None], ops.take_along_axis(boxes, kept[..., None], axis=1), 0.0
            ),
            "scores": ops.where(valid, ops.take_along_axis(scores, kept, axis=1), 0.0),
            "labels": ops.where(valid, ops.take_along_axis(labels, kept, axis=1), -1),
            "count": ops.sum(ops.cast(valid, "int32"), axis=1),
        }

    def get_config(self):
        """The network, serialised without its training state, and plain values."""
        network = keras.saving.serialize_keras_object(self.network)
        network.pop("compile_config", None)
        return {
            "name": self.name,
            "network": network,
            "classes": self.classes,
            "short": self.short,
            "long": self.long,
            "canvases": self.canvases,
            "rule": asdict(self.rule),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Inverse of ``get_config``."""
        config = dict(config)
        if isinstance(config["network"], dict):
            config["network"] = keras.saving.deserialize_keras_object(
                config["network"], custom_objects
            )
        config["rule"] = DetectionRule(**config["rule"])
        return cls(**config)


def read_model(path: str | Path) -> DetectionModel:
    """Read a model that was saved as a ``.keras`` file, on any backend.

    Raises:
        UserError: the file is missing, damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no model file {path}.")
    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), repr(error))
        raise UserError(f"{path} is not a readable model file: {reason}") from error
    if not isinstance(model, DetectionModel):
        raise UserError(
            f"{path} holds a Keras {type(model).__name__}, not a detector saved by frcnn."
        )
    return model
