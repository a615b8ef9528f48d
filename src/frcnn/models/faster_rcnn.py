"""Faster R-CNN (Ren et al. 2015): features, proposals, RoIs, four losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

import frcnn.models.fpn  # noqa: F401  # Keras finds a saved layer's class only once it is imported
from frcnn.models.accumulation import step_in_parts
from frcnn.models.detection_losses import BOX_LOSSES, roi_losses, rpn_losses
from frcnn.models.draws import Draws
from frcnn.models.inputs import check_canvas, refuse_weights, with_a_slot
from frcnn.models.layers import Normalize, freeze_parts
from frcnn.models.roi_head import RoIHead
from frcnn.models.rpn import RegionProposalNetwork
from frcnn.models.targets import (
    RoITargetRule,
    RPNTargetRule,
    roi_candidates,
    roi_targets,
    roi_targets_of_all,
    rpn_targets,
)
from frcnn.models.thrift import run_extractor
from frcnn.ops import boxes as box_ops

LOSSES = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
NOT_FINITE = tuple(f"{name}_not_finite" for name in LOSSES)


@keras.saving.register_keras_serializable(package="frcnn")
class FasterRCNN(keras.Model):
    """The network that trains: ``compile(optimizer)``, then ``fit`` on (x, y) batches.

    ``x`` is ``{"images": uint8 or float (B, H, W, 3), RGB, 0..255, padded to a canvas;
    "sizes": int (B, 2), height and width of the valid part}``; ``y`` is ``{"boxes": float32
    (B, G, 4), xyxy in canvas pixels; "labels": int32 (B, G), from 0}``, both padded with -1.

    Args:
        preprocessing: images and sizes -> what the extractor was trained on.
        extractor: that -> feature maps, fine to coarse.
        rpn: feature maps -> proposals.
        roi_head: feature maps and RoIs -> classes and boxes.
        neck: feature maps -> feature maps (a pyramid), or None.
        rpn_targets: which anchors are trained on.
        roi_targets: which RoIs are trained on.
        cascade: further RoI heads (Cascade R-CNN, Cai and Vasconcelos 2018), each of which refines
            the boxes of the one before; all heads are then class-agnostic.
        cascade_targets: which of those boxes train each further head; all of them are kept.
        box_loss: "smooth_l1" of the deltas, or "giou" of the boxes (Rezatofighi et al. 2019).
        seed: of the two samplings.
        label_smoothing: in the class loss of the second stage, 0..1.

    Raises:
        ValueError: another ``box_loss``; a cascade without its targets or with class-wise boxes.
    """

    def __init__(
        self,
        preprocessing: Normalize,
        extractor: keras.Model,
        rpn: RegionProposalNetwork,
        roi_head: RoIHead,
        neck: keras.layers.Layer | None = None,
        rpn_targets: RPNTargetRule = RPNTargetRule(),
        roi_targets: RoITargetRule = RoITargetRule(),
        cascade: Sequence[RoIHead] = (),
        cascade_targets: Sequence[RoITargetRule] = (),
        box_loss: str = "smooth_l1",
        seed: int = 0,
        label_smoothing: float = 0.0,
        **kwargs,
    ):
        super().__init__(**{"autocast": False, **kwargs})  # the layers cast
        if box_loss not in BOX_LOSSES:
            raise ValueError(f"Expected `box_loss` in {(*BOX_LOSSES,)}. Received: {box_loss!r}.")
        self.preprocessing = preprocessing
        self.extractor = extractor
        self.neck = neck
        self.rpn = rpn
        self.roi_head = roi_head
        self.cascade = list(cascade)
        self.rpn_rule = rpn_targets
        self.roi_rules = (roi_targets, *cascade_targets)
        self.box_loss = box_loss
        self.label_smoothing = label_smoothing
        self._check_cascade()
        self.seed = seed
        self.rpn_draws, self.roi_draws = (Draws(seed, stream) for stream in range(2))
        self._parts, self._remat = 1, False
        # On a share of each batch: losses (4,) -> their means over all shares; how many those are.
        self.average_losses: Callable[[Any], Any] | None = None
        self._shares = 1
        self.loss_means = [keras.metrics.Mean(name=name) for name in LOSSES]
        # How often each of the losses was NaN or infinite.
        self.not_finite = [keras.metrics.Sum(name=name) for name in NOT_FINITE]
        self._recorded_steps = None
        self.build()
        freeze_parts(self)

    @property
    def roi_heads(self) -> list[RoIHead]:
        """All heads of the second stage, in their order."""
        return [self.roi_head, *self.cascade]

    def _check_cascade(self):
        if len(self.roi_heads) != len(self.roi_rules):
            raise ValueError(
                "Expected as many `cascade_targets` as heads in `cascade`. Received: "
                f"{len(self.roi_rules) - 1} and {len(self.cascade)}."
            )
        if self.cascade and not all(head.class_agnostic for head in self.roi_heads):
            raise ValueError(
                "Expected class-agnostic heads in a cascade, which hands one box on for each RoI. "
                "Build each RoIHead with class_agnostic=True."
            )

    def build(self, input_shape=None):
        """Build every part, the RoI head included, which Keras would not reach by ``call``."""
        shapes = [tensor.shape for tensor in self.extractor.outputs]
        for part in (self.neck, self.rpn, *self.roi_heads):
            if part is None:
                continue
            if not part.built:  # a part that was read from a file comes built
                part.build(shapes)
            if part is self.neck:
                shapes = part.compute_output_shape(shapes)
        self.built = True

    def make_train_function(self, force=False):
        """Keras's own; steps recorded before ``compile`` was called again are forgotten."""
        if self.train_function is None or force:
            self._recorded_steps = None
        return super().make_train_function(force)

    def train_step(self, *arguments):
        """Keras's own, save for ``parts``, and that on a GPU PyTorch replays steps.

        See ``models/accumulation.py`` and ``models/torch_step.py``.
        """
        refuse_weights(keras.utils.unpack_x_y_sample_weight(arguments[-1])[2])
        step = super().train_step if self.parts == 1 else partial(step_in_parts, self, self.parts)
        # What several processes do together is not recorded, nor what is run twice.
        if keras.config.backend() != "torch" or self.average_losses is not None or self.remat:
            return step(*arguments)
        if self._recorded_steps is None:
            from frcnn.models.torch_step import RecordedSteps

            self._recorded_steps = RecordedSteps(self, step)
        return self._recorded_steps(*arguments)

    @property
    def parts(self) -> int:
        """In how many equal parts a training step takes its batch, one after the other."""
        return self._parts

    @parts.setter
    def parts(self, count: int):
        self._parts = count
        self.train_function = None  # Keras makes it anew

    @property
    def remat(self) -> bool:
        """Whether the extractor's maps are made again for the gradients, in place of being kept."""
        return self._remat

    @remat.setter
    def remat(self, again: bool):
        self._remat = again
        self.train_function = None  # Keras makes it anew

    def take_share(self, place: Any, places: int, average: Callable[[Any], Any], apart: bool):
        """Train on one of the equal shares of each batch from now on.

        Args:
            place: of this share among them; a tensor, or a function that gives it in a step.
            places: how many there are.
            average: losses (4,) of this share -> their means over all shares, whose gradient is
                what this share has to give.
            apart: whether the metrics of this network see no other share.
        """
        drops = [layer.draws for head in self.roi_heads for layer in head.drop]
        for draws in (self.rpn_draws, self.roi_draws, *drops):
            draws.place, draws.places = place, places
        self.average_losses = average
        self._shares = places if apart else 1

    def call(self, inputs, training=False):
        """Run the network up to its proposals.

        Returns:
            a dict: ``features`` [(B, H, W, channels)], ``rpn_logits`` (B, A), ``rpn_deltas``
            (B, A, 4), ``proposals`` (B, P, 4) in canvas pixels, ``valid`` (B, P), which of them
            are not padding, and ``origins`` (B, P), the anchors they were made from.
            ``training`` decides how many proposals there are and whether dropout acts; the keys
            are the same.
        """
        images, sizes = inputs["images"], inputs["sizes"]
        check_canvas(images)
        features = self.features(images, sizes, training)
        logits, deltas = self.rpn(features)
        shapes = feature_shapes(features)
        proposals, valid, origins = self.rpn.propose(logits, deltas, shapes, sizes, training)
        return {
            "features": features,
            "rpn_logits": logits,
            "rpn_deltas": deltas,
            "proposals": proposals,
            "valid": valid,
            "origins": origins,
        }

    def features(self, images, sizes, training=False):
        """Images and their valid sizes -> feature maps, fine to coarse."""
        pixels = self.preprocessing(images, sizes)
        features = run_extractor(self.extractor, pixels, training, bool(self.remat and training))
        return features if self.neck is None else self.neck(features, training=training)

    def classify(self, features, proposals, sizes):
        """Run the second stage on proposals, in use.

        Args:
            features: as ``call`` gives them.
            proposals: float32 (B, P, 4), xyxy in canvas pixels.
            sizes: (B, 2), height and width of the valid part of each image.

        Returns:
            scores: float32 (B, P, C), without background; of a cascade, the heads' mean.
            boxes: float32 (B, P, C, 4), or (B, P, 1, 4) if the classes share a box; not clipped.
        """
        scores, rois, deltas = self.second_stage(features, proposals, sizes)
        return scores, self.refine(rois[:, :, None], deltas)

    def second_stage(self, features, proposals, sizes):
        """As ``classify``, before boxes are made: that many classes have many, of which few count.

        Returns:
            scores: float32 (B, P, C), as of ``classify``.
            rois: float32 (B, P, 4), xyxy; of a cascade, those of the last head.
            deltas: float32 (B, P, C, 4), or (B, P, 1, 4) if the classes share a box; what
            ``refine`` makes the boxes with.
        """
        total, rois, deltas = 0.0, proposals, None
        for index, head in enumerate(self.roi_heads):
            if deltas is not None:
                weights = self.roi_rules[index - 1].weights
                boxes = box_ops.decode(rois, deltas[:, :, 0], weights)
                rois = box_ops.clip(boxes, ops.cast(sizes, "float32"))
            logits, deltas = head(features, rois, training=False)
            total = total + ops.softmax(logits, axis=-1)[..., :-1]
        return total / len(self.roi_heads), rois, deltas

    def refine(self, rois, deltas):
        """The boxes that the last head makes of RoIs, float32 (..., 4) both; not clipped."""
        return box_ops.decode(rois, deltas, self.roi_rules[-1].weights)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight=None, training=True
    ):
        """Sample anchors and RoIs, run the RoI head, and sum the four losses, each tracked.

        What layers of one's own ask for, by a regularizer or ``add_loss``, is added. Where one of
        the four is not finite, or a label is that of no class, the sum is NaN, has no gradient and
        is not tracked; ``not_finite`` says which.

        Raises:
            ValueError: ``sample_weight``, which is not used.
        """
        refuse_weights(sample_weight)
        boxes = ops.cast(y["boxes"], "float32")
        labels = ops.cast(y["labels"], "int32")
        boxes, labels = with_a_slot(boxes, labels)
        losses = (
            *self._rpn_losses(x["sizes"], boxes, labels, y_pred, training),
            *self._roi_losses(x["sizes"], boxes, labels, y_pred, training),
        )
        unknown = ops.any(labels >= self.roi_head.num_classes)
        losses = ops.where(unknown, np.nan, ops.stack(losses))
        if training and self.average_losses is not None:
            losses = self.average_losses(losses)
        total = self._track(losses, ops.cast(ops.shape(labels)[0] * self._shares, "float32"))
        # Each of several shares of a batch asks for the same.
        return total + sum(self.losses) / self.rpn_draws.places if self.losses else total

    def _track(self, losses, images):
        """Losses (4,) of so many images -> their sum, of which ``fit`` keeps the means."""
        finite = ops.isfinite(losses)
        sound = ops.all(finite)
        losses = ops.where(sound, losses, 0.0)
        weight = images * ops.cast(sound, "float32")
        for index, (mean, bad) in enumerate(zip(self.loss_means, self.not_finite, strict=True)):
            mean.update_state(losses[index], sample_weight=weight)
            bad.update_state(ops.where(finite[index], 0.0, 1.0))
        return ops.sum(losses) + ops.where(sound, 0.0, np.nan)

    def _rpn_losses(self, sizes, boxes, labels, y_pred, training):
        logits, deltas = y_pred["rpn_logits"], y_pred["rpn_deltas"]
        anchors = ops.convert_to_tensor(self.rpn.anchors.boxes(feature_shapes(y_pred["features"])))
        keys = self.rpn_draws.uniform(ops.shape(logits), training)
        targets = rpn_targets(anchors, boxes, labels, sizes, keys, self.rpn_rule)
        return rpn_losses(logits, deltas, anchors, targets, self.box_loss)

    def _roi_losses(self, sizes, boxes, labels, y_pred, training):
        """The two losses of the second stage, each summed over the heads of a cascade."""
        candidates, valid = roi_candidates(y_pred["proposals"], y_pred["valid"], boxes, labels)
        keys = self._candidate_keys(y_pred, labels, training)
        rois, *targets = roi_targets(candidates, valid, boxes, labels, keys, self.roi_rule)
        total, refined = (0.0, 0.0), None
        for head, rule in zip(self.roi_heads, self.roi_rules, strict=True):
            if refined is not None:  # the boxes that the head before made of its RoIs
                rois, *targets = roi_targets_of_all(refined, targets[1], boxes, labels, rule)
            logits, deltas = head(y_pred["features"], rois, training=training)
            losses = roi_losses(
                logits, deltas, rois, targets, rule.weights, self.box_loss, self.label_smoothing
            )
            total = total[0] + losses[0], total[1] + losses[1]
            if self.cascade:
                refined = box_ops.decode(rois, ops.stop_gradient(deltas[:, :, 0]), rule.weights)
                refined = box_ops.clip(refined, ops.cast(sizes, "float32"))
        return total

    @property
    def roi_rule(self) -> RoITargetRule:
        """Which RoIs the first head trains on."""
        return self.roi_rules[0]

    def _candidate_keys(self, y_pred, labels, training):
        """Random keys (B, P + G) that go with a proposal's anchor, not with its rank.

        Backends round differently, so that proposals of nearly the same score may change places;
        the same ones are sampled all the same.
        """
        slots = labels.shape[1]
        anchors = y_pred["rpn_logits"].shape[1]
        rows = ops.shape(labels)[0]
        keys = self.roi_draws.uniform((rows, anchors + slots), training)
        proposed = ops.take_along_axis(keys, y_pred["origins"], axis=1)
        return ops.concatenate([proposed, keys[:, anchors:]], axis=1)

    def get_config(self):
        """The parts, each serialised, and the rules as plain values."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize(self.dtype_policy),
            "preprocessing": serialize(self.preprocessing),
            "extractor": serialize(self.extractor),
            "rpn": serialize(self.rpn),
            "roi_head": serialize(self.roi_head),
            "neck": None if self.neck is None else serialize(self.neck),
            "rpn_targets": asdict(self.rpn_rule),
            "roi_targets": asdict(self.roi_rule),
            "cascade": [serialize(head) for head in self.cascade],
            "cascade_targets": [asdict(rule) for rule in self.roi_rules[1:]],
            "box_loss": self.box_loss,
            "seed": self.seed,
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Inverse of ``get_config``."""
        config = dict(config)

        def revived(part):
            if not isinstance(part, dict):
                return part
            return keras.saving.deserialize_keras_object(part, custom_objects)

        for part in ("preprocessing", "extractor", "rpn", "roi_head", "neck", "dtype"):
            config[part] = revived(config.get(part))
        config["cascade"] = [revived(head) for head in config["cascade"]]
        config["cascade_targets"] = [RoITargetRule(**rule) for rule in config["cascade_targets"]]
        config["rpn_targets"] = RPNTargetRule(**config["rpn_targets"])
        config["roi_targets"] = RoITargetRule(**config["roi_targets"])
        return cls(**config)


def feature_shapes(features) -> list[tuple[int, int]]:
    """Static (height, width) of each feature map."""
    return [(feature.shape[1], feature.shape[2]) for feature in features]
