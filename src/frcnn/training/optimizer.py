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


@keras.saving.register_keras_serializable(package="frcnn")
class SGD(keras.optimizers.SGD):
    """Momentum SGD whose weight decay is part of the gradient, as in the papers.

    Keras's own subtracts the decay from the weights, outside the momentum. Gradients of which one
    is not finite count as zeros. On PyTorch a step passes over the weights once.

    Args:
        learning_rate: a number or a schedule.
        momentum: 0..1.
        decay: share of a weight that is added to its gradient; of kernels alone, not of biases
            and normalisations.
        **kwargs: those of ``keras.optimizers.SGD``.
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, decay: float = 0.0, **kwargs):
        super().__init__(learning_rate, momentum, **kwargs)
        self.decay = decay

    def decays(self, variable) -> bool:
        """Whether a variable's gradient gets its share of the variable."""
        # TensorFlow hands its own variable over, whose name is longer.
        own = self._trainable_variables[self._get_variable_index(variable)]
        return self.decay > 0 and own.name not in ("bias", "gamma", "beta")

    def update_step(self, gradient, variable, learning_rate):
        """Step one variable; Keras's hook."""
        if self.decays(variable):
            share = ops.cast(self.decay, variable.dtype)
            gradient = ops.cast(gradient, variable.dtype) + share * variable
        super().update_step(gradient, variable, learning_rate)

    def apply(self, grads, trainable_variables=None):
        """Step all variables."""
        if self._one_pass_serves():
            self._apply_in_one_pass(grads, trainable_variables)
        else:
            super().apply(_finite_or_zero(grads), trainable_variables)

    def _one_pass_serves(self) -> bool:
        """Whether nothing is asked for but momentum, decay and a bound on the common norm."""
        others = (
            self.nesterov,
            self.weight_decay,
            self.clipnorm,
            self.clipvalue,
            self.use_ema,
            self.gradient_accumulation_steps,
            self.loss_scale_factor,
        )
        return keras.config.backend() == "torch" and self.momentum > 0 and not any(others)

    def _apply_in_one_pass(self, gradients, variables) -> None:
        from frcnn.training.torch_sgd import Group, sgd_step

        variables = self._trainable_variables if variables is None else list(variables)
        if not self.built:
            self.build(variables)
        groups = {True: Group([], [], [], self.decay), False: Group([], [], [], 0.0)}
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is not None:
                group = groups[self.decays(variable)]
                group.weights.append(variable.value)
                group.gradients.append(gradient)
                group.velocities.append(self.momentums[self._get_variable_index(variable)].value)
        rate = ops.convert_to_tensor(self.learning_rate)
        sgd_step((*groups.values(),), rate, self.momentum, self.global_clipnorm)
        for variable in variables:
            variable.value.grad = None  # or Keras would hold it through the next forward pass
        self.iterations.assign_add(1)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "decay": self.decay}


def _finite_or_zero(gradients):
    """Gradients as they are, or zeros for all of them if one holds NaN or infinity."""
    sums = [ops.sum(ops.cast(each, "float32")) for each in gradients if each is not None]
    finite = ops.isfinite(sum(sums))  # infinities of both signs make NaN
    return [None if each is None else ops.where(finite, each, 0) for each in gradients]


def build_optimizer(config: Config, peak: float, steps: int) -> SGD:
    """SGD with momentum for a run of ``steps`` steps at a peak learning rate."""
    warmup = min(config.warmup, steps // 10)
    return SGD(
        WarmupDecay(peak, steps, warmup, config.schedule),
        config.momentum,
        config.weight_decay,
        global_clipnorm=config.clip,
    )
