"""Training steps that take a batch in equal parts, one after the other, for the sake of memory.

The gradients of the parts are averaged. As each image weighs the same in the losses, and what is
drawn for an image is its own, that is the gradient of the batch. A part's maps are freed before the
next is begun. Only normalisations that train, whose statistics are then a part's, tell the two
apart.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops, tree


def step_in_parts(model: Any, parts: int, *arguments):
    """One training step; arguments and result are those of Keras's ``train_step``.

    Args:
        model: a compiled model.
        parts: how many; a divisor of the batch.
        *arguments: (x, y), on JAX after the training's state.

    Raises:
        ValueError: the batch does not divide into so many parts.
    """
    *state, data = arguments
    batch = keras.utils.unpack_x_y_sample_weight(data)[:2]
    rows = tree.flatten(batch)[0].shape[0]
    if rows is not None and rows % parts:
        raise ValueError(f"Expected a batch of {parts} equal parts. Received: {rows} images.")
    return _STEPS[keras.config.backend()](model, parts, batch, *state)


def _torch_step(model, parts: int, batch):
    import torch

    model.zero_grad()
    for index in range(parts):
        x, y = tree.map_structure(lambda each, index=index: _part(each, parts, index), batch)
        _loss(model, x, y, parts).backward()  # adds to the gradients that are there
    weights = model.trainable_weights
    with torch.no_grad():
        model.optimizer.apply([weight.value.grad for weight in weights], weights)
    return model.get_metrics_result()


def _tensorflow_step(model, parts: int, batch):
    import tensorflow as tf

    weights = model.trainable_weights

    def add(index, *totals):
        x, y = tree.map_structure(lambda each: _part(each, parts, index), batch)
        with tf.GradientTape() as tape:
            loss = _loss(model, x, y, parts)
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        sums = (
            total if gradient is None else total + gradient
            for total, gradient in zip(totals, gradients, strict=True)
        )
        return (index + 1, *sums)

    start = (0, *(tf.zeros(weight.shape, weight.dtype) for weight in weights))
    left = tf.while_loop(lambda index, *_: index < parts, add, start, parallel_iterations=1)
    model.optimizer.apply(left[1:], weights)
    return model.get_metrics_result()


def _loss(model, x, y, parts: int):
    """The share of a part in the loss of the batch, as the optimizer wants it scaled."""
    found = model(x, training=True)
    loss = model.compute_loss(x=x, y=y, y_pred=found, training=True)
    model._loss_tracker.update_state(loss, sample_weight=ops.shape(y["labels"])[0])
    return model.optimizer.scale_loss(loss) / parts


def _part(array, parts: int, index):
    """Part ``index`` of the rows of an array."""
    rows = ops.shape(array)[0] // parts
    return array[index * rows : (index + 1) * rows]


def _jax_step(model, parts: int, batch, state):
    import jax

    trainable, others, optimizer, metrics = state
    gradients_of = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)

    def add(carried, part):
        totals, others, metrics = carried
        (_, aux), gradients = gradients_of(
            trainable, others, metrics, *part, None, training=True, optimizer_variables=optimizer
        )
        loss, found, others, metrics = aux
        logs, metrics = model._update_metrics_variables(metrics, loss, *part, found, None)
        totals = [total + gradient for total, gradient in zip(totals, gradients, strict=True)]
        return (totals, others, metrics), logs

    divided = tree.map_structure(
        lambda each: ops.reshape(each, (parts, each.shape[0] // parts, *each.shape[1:])), batch
    )
    start = [ops.zeros_like(weight) for weight in trainable], others, metrics
    (totals, others, metrics), logs = jax.lax.scan(add, start, divided)
    means = [total / parts for total in totals]
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, means, trainable)
    return tree.map_structure(lambda each: each[-1], logs), (trainable, others, optimizer, metrics)


_STEPS = {"torch": _torch_step, "tensorflow": _tensorflow_step, "jax": _jax_step}
