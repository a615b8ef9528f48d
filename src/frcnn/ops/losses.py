"""Element-wise losses: nothing is summed or averaged here, normalisers belong to the caller."""

from __future__ import annotations

from keras import ops

from frcnn.ops.boxes import SMALLEST_SIDE, area


def sigmoid_cross_entropy(logits, targets):
    """Binary cross entropy of each logit.

    Args:
        logits: float32, any shape.
        targets: float32 of that shape, 0..1.

    Returns:
        float32 of that shape.
    """
    # Two one-sided terms: each is exact where it is small, and smooth at a logit of 0.
    return targets * ops.softplus(-logits) + (1.0 - targets) * ops.softplus(logits)


def softmax_cross_entropy(logits, labels, smoothing: float = 0.0):
    """Cross entropy of each row of logits with its class.

    Args:
        logits: float32 ``[..., C]``.
        labels: int ``[...]``, 0..C-1; a row of padding (-1) costs 0.
        smoothing: this much of the certainty is spread over all classes evenly, 0..1 (Szegedy et
            al. 2016, section 7).

    Returns:
        float32 ``[...]``.
    """
    log_probabilities = ops.log_softmax(logits, axis=-1)
    # Not ops.one_hot: PyTorch's looks at the labels' values first, for which a GPU is waited for.
    classes = ops.arange(logits.shape[-1], dtype="int32")
    chosen = ops.cast(labels, "int32")[..., None] == classes
    entropy = -ops.sum(ops.where(chosen, log_probabilities, 0.0), axis=-1)
    if not smoothing:
        return entropy
    spread = ops.where(labels >= 0, -ops.mean(log_probabilities, axis=-1), 0.0)
    return (1.0 - smoothing) * entropy + smoothing * spread


def smooth_l1(predictions, targets, beta):
    """Huber loss divided by ``beta`` (Fast R-CNN paper, equation 3).

    Args:
        predictions: float32, any shape.
        targets: float32 of that shape.
        beta: error at which the parabola becomes a line, >= 0; 0 is the absolute error.

    Returns:
        float32 of that shape.
    """
    difference = predictions - targets
    # Not ops.abs: its gradient at no error is 1 on JAX and 0 elsewhere.
    error = difference * ops.stop_gradient(ops.sign(difference))
    if beta == 0:
        return error
    return ops.where(error < beta, 0.5 / beta * error * error, error - 0.5 * beta)


def giou_loss(boxes, targets):
    """One minus the generalised IoU of each pair of boxes (Rezatofighi et al. 2019).

    Finite in value and gradient for boxes without area too, such as padding.

    Args:
        boxes: float32 ``[..., 4]``, xyxy.
        targets: float32 ``[..., 4]``, xyxy.

    Returns:
        float32 ``[...]``, 0 for equal boxes, 2 at most.
    """
    boxes, targets = ops.convert_to_tensor(boxes), ops.convert_to_tensor(targets)
    larger, smaller = _maximum(boxes, targets), -_maximum(-boxes, -targets)
    # Not maximum with 0: its gradient for boxes that just touch differs between backends.
    inner = ops.relu(smaller[..., 2:] - larger[..., :2])  # [..., 2], width and height
    outer = larger[..., 2:] - smaller[..., :2]
    intersection = inner[..., 0] * inner[..., 1]
    hull = outer[..., 0] * outer[..., 1]
    union = area(boxes) + area(targets) - intersection
    return 1.0 - _share(intersection, union) + _share(hull - union, hull)


def _maximum(first, second):
    """The larger; the gradient of equal ones goes half to each, on every backend."""
    return ops.where(first == second, 0.5 * (first + second), ops.maximum(first, second))


def _share(part, whole):
    """``part / whole``; 0 where the whole is no area."""
    is_area = whole > SMALLEST_SIDE**2
    return ops.where(is_area, part, 0.0) / ops.where(is_area, whole, 1.0)
