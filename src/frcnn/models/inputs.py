"""What a network of one's own training loop may be given, and what of it is no good."""

from __future__ import annotations

from typing import Any

from keras import ops


def refuse_weights(sample_weight: Any) -> None:
    """Refuse weights of images.

    Raises:
        ValueError: there are some.
    """
    if sample_weight is not None:
        raise ValueError(
            "Expected no `sample_weight`: each image weighs the same in the losses. To have some "
            "count more, show them more often."
        )


def check_canvas(images: Any) -> None:
    """Refuse images of an unknown size.

    Raises:
        ValueError: their height or width is None.
    """
    if None in images.shape[1:3]:
        raise ValueError(
            "Expected images on a canvas of a fixed size, for the network is one graph of static "
            f"shapes. Received: shape {tuple(images.shape)}. Pad them to one size, as "
            "`padded_batch(..., padded_shapes=...)` of tf.data does."
        )


def with_a_slot(boxes: Any, labels: Any) -> tuple[Any, Any]:
    """Boxes (B, G, 4) and labels (B, G); where G is 0, as of images without objects, one empty."""
    if labels.shape[1]:
        return boxes, labels
    labels = ops.pad(labels, [(0, 0), (0, 1)], constant_values=-1)
    return ops.pad(boxes, [(0, 0), (0, 1), (0, 0)]), labels
