"""Stochastic gradient descent as Fast R-CNN trains: momentum, warm-up, decay."""

from __future__ import annotations

import math

import keras
from keras import ops

from frcnn.training.config import Config

# Shares of the training after which the step schedule divides by ten: 60k and 80k of 90k
# iterations, the schedule of the Feature Pyramid Networks paper.
MILESTONES = (2 / 3, 8 / 9)


@keras.saving.register_keras_serializable(package="frcnn")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to a peak, then cosine decay to zero or division by ten at milestones.

    Args:
        peak: the highest learning rate.
        steps: of the whole training.
        warmup: steps of the warm-up, within ``steps``.
        kind: "cosine" or "step".
    """

    def __init__(self, peak: float, steps: int, warmup: int = 0, kind: str = "cosine"):
        self.peak, self.steps, self.warmup, self.kind = peak, steps, warmup, kind

    def __call__(self, step):
        """The learning rate of step ``step``, counted from 0."""
        step = ops.cast(step, "float32")
        rise = (step + 1.0) / max(self.warmup + 1, 1)
        if self.kind == "cosine":
            share = (step - self.warmup) / max(self.steps - self.warmup, 1)
            share = ops.clip(share, 0.0, 1.0)
            fall = 0.5 * (1.0 + ops.cos(math.pi * share))
        else:
            passed = sum(ops.cast(step >= self.steps * m, "float32") for m in MILESTONES)
            fall = ops.power(0.1, passed)
        return self.peak * ops.where(step < self.warmup, rise, fall)

    def get_config(self):
        """The constructor's arguments."""
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup, "kind": self.kind}


def build_optimizer(config: Config, peak: float, steps: int) -> keras.optimizers.Optimizer:
    """SGD with momentum for a run of ``steps`` steps at a peak learning rate.

    Keras subtracts weight decay from the weights directly, outside the momentum, where the
    papers add it to the gradient and the momentum multiplies it: the division restores their
    strength.
    """
    warmup = min(config.warmup, steps // 10)
    optimizer = keras.optimizers.SGD(
        WarmupDecay(peak, steps, warmup, config.schedule),
        momentum=config.momentum,
        weight_decay=config.weight_decay / (1 - config.momentum) or None,
        global_clipnorm=config.clip,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
