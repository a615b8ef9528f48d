"""Which box each anchor or proposal answers for, and which of them a training step looks at."""

from __future__ import annotations

from keras import ops

FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1

# Compiled and eager arithmetic may differ in the last bits of an IoU, and anchors which lie
# symmetrically about a box are equally good in theory: closer than this is a tie.
TIE = 1e-6


def match(iou, valid, foreground, background, best_anchor=False, inside=None):
    """Label anchors by their IoU with the boxes of their image (Faster R-CNN paper, 3.1.2).

    Args:
        iou: float32 ``[B, A, G]``, IoU of every anchor and box.
        valid: bool ``[B, G]``, false for padding boxes; G is at least 1.
        foreground: an anchor whose highest IoU is at least this is foreground.
        background: an anchor whose highest IoU is below this is background.
        best_anchor: also make foreground whichever anchors have the highest IoU, above 0, with a
            valid box, so that no box goes without; each keeps the box that it overlaps most.
        inside: bool ``[A]`` or ``[B, A]``, anchors that may be used; the others are ignored and
            do not compete for the best. Default: all.

    Returns:
        int32 ``[B, A]``, index of the valid box with the highest IoU (0 where there is none), and
        int32 ``[B, A]``, 1 foreground, 0 background, -1 ignored. In an image without valid boxes
        every anchor inside is background.
    """
    iou = ops.where(valid[:, None, :], iou, -1.0)  # [B, A, G]
    if inside is not None:
        inside = ops.convert_to_tensor(inside)
        inside = inside[None] if len(inside.shape) == 1 else inside  # [1 or B, A]
        iou = ops.where(inside[:, :, None], iou, -1.0)
    matched = ops.cast(ops.argmax(iou, axis=-1), "int32")  # [B, A]
    highest = ops.max(iou, axis=-1)
    labels = ops.where(highest >= foreground, FOREGROUND, IGNORED)
    labels = ops.where(highest < background, BACKGROUND, labels)
    if best_anchor:
        reach = ops.max(iou, axis=1, keepdims=True) * (1.0 - TIE)  # [B, 1, G]
        best = ops.any((iou >= reach) & (iou > 0), axis=-1)  # [B, A]
        labels = ops.where(best, FOREGROUND, labels)
    if inside is not None:
        labels = ops.where(inside, labels, IGNORED)
    return matched, ops.cast(labels, "int32")


def sample(labels, count, max_foreground, keys):
    """Draw a fixed number of foreground and background entries, without replacement.

    Args:
        labels: int ``[B, N]``, 1 foreground, 0 background, anything else is never drawn.
        count: how many to draw of each row.
        max_foreground: how many of them may be foreground; background fills the rest.
        keys: float32 ``[B, N]`` in [0, 1): the highest are drawn, ties by the lower index. Uniform
            random keys make a uniform draw; the function itself is deterministic.

    Returns:
        int32 ``[B, count]`` indices into the rows, foreground first, each kind by index; bool
        ``[B, count]``, is foreground; bool ``[B, count]``, is a draw at all, false where a row
        ran out of entries (there the index is 0).
    """
    labels, keys = ops.convert_to_tensor(labels), ops.convert_to_tensor(keys)
    length = labels.shape[1]
    is_foreground, is_background = labels == FOREGROUND, labels == BACKGROUND
    limit = ops.zeros_like(labels[:, :1]) + min(max_foreground, count)  # [B, 1]
    foreground = _highest(keys, is_foreground, limit, min(max_foreground, count))
    drawn = ops.sum(ops.cast(foreground, labels.dtype), axis=1, keepdims=True)
    background = _highest(keys, is_background, count - drawn, count)
    # No two priorities are equal, so every backend's top_k returns the same entries in order.
    kind = 2 * ops.cast(foreground, "int32") + ops.cast(background, "int32")  # [B, N]
    priority = kind * length - ops.arange(length, dtype="int32")
    _, indices = ops.top_k(priority, min(count, length))  # [B, min(count, N)]
    kind = ops.take_along_axis(kind, indices, axis=1)
    missing = [[0, 0], [0, count - min(count, length)]]
    indices = ops.pad(ops.where(kind > 0, ops.cast(indices, "int32"), 0), missing)
    kind = ops.pad(kind, missing)
    return indices, kind == 2, kind > 0


def _highest(keys, allowed, limit, most):
    """Mask of the ``limit`` [B, 1] (at most ``most``) highest keys among the ``allowed`` [B, N]."""
    most = min(most, keys.shape[1])
    if most == 0:
        return ops.zeros_like(allowed)
    keys = ops.where(allowed, keys, -1.0)
    descending, _ = ops.top_k(keys, most)  # [B, most]
    last = ops.clip(limit - 1, 0, most - 1)
    least = ops.take_along_axis(descending, ops.cast(last, "int32"), axis=1)  # [B, 1]
    above, ties = allowed & (keys > least), allowed & (keys == least)
    room = limit - ops.sum(ops.cast(above, limit.dtype), axis=1, keepdims=True)
    return above | (ties & (ops.cumsum(ops.cast(ties, limit.dtype), axis=1) <= room))
