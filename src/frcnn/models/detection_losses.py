"""What the two stages of Faster R-CNN are trained by: each a loss of classes and a loss of boxes.

Ren et al. 2015, section 3.1.2, with each image weighing the same.
"""

from __future__ import annotations

from keras import ops

from frcnn.ops import boxes as box_ops
from frcnn.ops.losses import giou_loss, sigmoid_cross_entropy, smooth_l1, softmax_cross_entropy

BETA = 1 / 9  # where the box losses turn from quadratic to linear


def rpn_losses(logits, deltas, anchors, targets, box_loss: str):
    """Objectness and box loss of the RPN on the sampled anchors.

    Args:
        logits: float32 (B, A).
        deltas: float32 (B, A, 4).
        anchors: float32 (A, 4), xyxy in canvas pixels.
        targets: of ``rpn_targets``.
        box_loss: a name in ``BOX_LOSSES``.

    Returns:
        Two scalars.
    """
    index, foreground, valid, wanted = targets
    logits = ops.take_along_axis(logits, index, axis=1)  # [B, S]
    deltas = ops.take_along_axis(deltas, index[..., None], axis=1)  # [B, S, 4]
    entropy = sigmoid_cross_entropy(logits, ops.cast(foreground, "float32"))
    reference = ops.take(anchors, index, axis=0)
    distance = BOX_LOSSES[box_loss](reference, deltas, wanted, (1.0, 1.0, 1.0, 1.0))
    return _mean(entropy, valid, valid), _mean(distance, foreground, valid)


def roi_losses(logits, deltas, rois, targets, weights, box_loss: str, label_smoothing: float):
    """Class and box loss of one head of the second stage on the sampled RoIs.

    Args:
        logits: float32 (B, R, C + 1), background last.
        deltas: float32 (B, R, C, 4), or (B, R, 1, 4) if the classes share a box.
        rois: float32 (B, R, 4), xyxy in canvas pixels.
        targets: classes, which RoIs are sampled and deltas, of ``roi_targets``.
        weights: of the deltas.
        box_loss: a name in ``BOX_LOSSES``.
        label_smoothing: 0..1.

    Returns:
        Two scalars.
    """
    classes, sampled, wanted = targets
    foreground = classes >= 0
    answers = ops.where(foreground, classes, logits.shape[-1] - 1)
    entropy = softmax_cross_entropy(logits, answers, label_smoothing)
    if deltas.shape[2] == 1:
        own = deltas[:, :, 0]  # [B, R, 4]
    else:  # the deltas of the RoI's own class
        index = ops.clip(classes, 0, deltas.shape[2] - 1)[..., None, None]
        own = ops.squeeze(ops.take_along_axis(deltas, index, axis=2), axis=2)  # [B, R, 4]
    distance = BOX_LOSSES[box_loss](rois, own, wanted, weights)
    return _mean(entropy, sampled, sampled), _mean(distance, foreground, sampled)


def _smooth_l1_distance(reference, deltas, targets, weights):
    """Between deltas (..., 4), summed over the four: (...)."""
    return ops.sum(smooth_l1(deltas, targets, BETA), axis=-1)


def _giou_distance(reference, deltas, targets, weights):
    """Between the boxes that deltas and targets make of ``reference``: (...)."""
    return giou_loss(
        box_ops.decode(reference, deltas, weights),
        ops.stop_gradient(box_ops.decode(reference, targets, weights)),
    )


BOX_LOSSES = {"smooth_l1": _smooth_l1_distance, "giou": _giou_distance}


def _mean(values, counted, sampled):
    """Mean over the images of what each costs: its counted values by the size of its sample.

    Each image weighs the same, so that the mean over equal parts of a batch is that over the batch.

    Args:
        values: float32 (B, S).
        counted: bool (B, S), which values are summed.
        sampled: bool (B, S), how many they are divided by; none of an image costs nothing.
    """
    totals = ops.sum(ops.where(counted, values, 0.0), axis=1)  # [B]
    counts = ops.sum(ops.cast(sampled, "float32"), axis=1)
    return ops.mean(totals / ops.maximum(counts, 1.0))
