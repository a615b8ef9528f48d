"""The network in use: images -> a fixed number of detections, the same graph everywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import keras
from keras import ops

from frcnn.errors import UserError
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.initializers import undrawn
from frcnn.models.keras_archive import check_weights, class_name, read_config
from frcnn.ops import boxes as box_ops
from frcnn.ops.nms import nms
from frcnn.ops.soft_nms import soft_nms

MIN_SIZE = 1e-2  # pixels; boxes narrower or lower are nothing that could be seen


@dataclass(frozen=True)
class DetectionRule:
    """Which boxes are returned.

    Args:
        score: boxes scored higher are kept.
        iou_threshold: of the NMS, which runs on each class by itself.
        count: boxes returned for an image, at most.
        candidates: boxes of all classes, by score, that enter NMS, at most.
        soft_sigma: above 0, boxes that overlap a better one are not dropped but scored lower by
            ``exp(-iou ** 2 / soft_sigma)`` (Soft-NMS, Bodla et al. 2017); the paper has 0.5.
    """

    score: float = 0.05
    iou_threshold: float = 0.5
    count: int = 100
    candidates: int = 3000
    soft_sigma: float = 0.0


@keras.saving.register_keras_serializable(package="frcnn")
class DetectionModel(keras.Model):
    """A trained ``FasterRCNN`` with thresholds, and all that is needed to use it on a picture.

    Args:
        network: the trained network.
        classes: names of its classes, in label order.
        short: pixels that a picture's short side is resized to.
        long: pixels that its long side may have at most.
        canvases: (height, width) that resized pictures are padded to; a picture takes the
            smallest that holds it. Empty: each picture is padded to a shape of its own, for which
            JAX and TensorFlow compile the network anew.
        rule: which boxes are returned.
        resizing: "smooth", or "plain": torchvision's, for weights that come from it.
        multiple: of so many pixels are the sides of a picture's own shape.

    Raises:
        ValueError: class names in other number than the network's, another ``resizing``.
    """

    def __init__(
        self,
        network: FasterRCNN,
        classes: tuple[str, ...],
        short: int,
        long: int,
        canvases: tuple[tuple[int, int], ...],
        rule: DetectionRule = DetectionRule(),
        resizing: str = "smooth",
        multiple: int = 32,
        **kwargs,
    ):
        super().__init__(**{"autocast": False, **kwargs})  # the layers cast
        if resizing not in ("smooth", "plain"):
            raise ValueError(f'Expected `resizing` "smooth" or "plain". Received: {resizing!r}.')
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
        self.resizing = resizing
        self.multiple = multiple
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
        rule, sizes = self.rule, inputs["sizes"]
        found = self.network(inputs, training=False)
        scores, rois, deltas = self.network.second_stage(
            found["features"], found["proposals"], sizes
        )
        scores = ops.where(found["valid"][..., None], scores, 0.0)  # [B, P, C]
        boxes, scores, labels = self._candidates(scores, rois, deltas)
        boxes = box_ops.clip(boxes, ops.cast(sizes, "float32"))
        large = ops.all(boxes[..., 2:] - boxes[..., :2] >= MIN_SIZE, axis=-1)
        options = {"groups": labels, "valid": (scores > rule.score) & large}
        if rule.soft_sigma > 0:
            kept, scores, valid = soft_nms(
                boxes, scores, rule.count, rule.soft_sigma, score_threshold=rule.score, **options
            )
        else:
            kept, valid = nms(boxes, scores, rule.iou_threshold, rule.count, **options)
            scores = ops.take_along_axis(scores, kept, axis=1)
        boxes = ops.take_along_axis(boxes, kept[..., None], axis=1)
        return {
            "boxes": ops.where(valid[..., None], boxes, 0.0),
            "scores": ops.where(valid, scores, 0.0),
            "labels": ops.where(valid, ops.take_along_axis(labels, kept, axis=1), -1),
            "count": ops.sum(ops.cast(valid, "int32"), axis=1),
        }

    def _candidates(self, scores, rois, deltas):
        """Of all boxes of all classes, the most confident; only these are made.

        Args:
            scores: float32 (B, P, C).
            rois: float32 (B, P, 4), as of ``FasterRCNN.second_stage``.
            deltas: float32 (B, P, C, 4), or (B, P, 1, 4) if the classes share a box.

        Returns:
            Boxes float32 (B, K, 4), scores float32 (B, K), descending, labels int32 (B, K).
        """
        proposals, classes = scores.shape[1:]
        total = proposals * classes
        scores, index = ops.top_k(
            ops.reshape(scores, (-1, total)), min(self.rule.candidates, total)
        )  # [B, K]
        labels = ops.cast(index % classes, "int32")
        rows = index // classes
        shared = deltas.shape[2] == 1
        deltas = ops.reshape(deltas, (-1, proposals if shared else total, 4))
        deltas = ops.take_along_axis(deltas, (rows if shared else index)[..., None], axis=1)
        rois = ops.take_along_axis(rois, rows[..., None], axis=1)
        return self.network.refine(rois, deltas), scores, labels

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
            "resizing": self.resizing,
            "multiple": self.multiple,
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

    A file from elsewhere is safe to read: nothing in it is run, and no other model is built.

    Raises:
        UserError: the file is missing, damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no model file {path}.")
    try:
        config = read_config(path)
        kind = class_name(config)
        if kind == keras.saving.get_registered_name(DetectionModel):
            check_weights(path, config)
            with undrawn():
                model = keras.saving.load_model(path, compile=False, safe_mode=True)
            if isinstance(model, DetectionModel):
                return model
            kind = type(model).__name__
    except Exception as error:  # of Keras, HDF5 and three backends, which share no class of error
        # Keras writes the whole config, and last what it stumbled over.
        reason = str(error).rpartition("Exception encountered: ")[2].strip()
        reason = next(iter(reason.splitlines()), repr(error))
        raise UserError(f"{path} is not a readable model file: {reason:.300}") from error
    raise UserError(f"{path} holds a Keras {kind:.100}, not a detector saved by frcnn.")
