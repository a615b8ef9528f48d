"""Stochastic gradient descent as Fast R-CNN trains: momentum, warm-up, decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

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
        ema: share that averages of the weights keep of themselves at a step, in the long run; 0
            keeps none.
        slow: paths of the variables whose learning rate is ``slowness`` times the others'.
        slowness: that factor.
        **kwargs: those of ``keras.optimizers.SGD``.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        decay: float = 0.0,
        ema: float = 0.0,
        slow: Sequence[str] = (),
        slowness: float = 1.0,
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, **kwargs)
        self.decay, self.ema = decay, ema
        self.slow, self.slowness = frozenset(slow), slowness
        self.averages: list[keras.Variable] = []
        self._stepped: list[int] | None = None
        # Of devices that share a step: each one's gradients -> their means.
        self.average_gradients: Callable[[list[Any]], list[Any]] | None = None

    def build(self, variables):
        """Create the momenta, and the averages, which begin as the weights."""
        if self.built:
            return
        super().build(variables)
        if self.ema:
            self.averages = self.add_optimizer_variables(self._trainable_variables, "average")
            for average, variable in zip(self.averages, self._trainable_variables, strict=True):
                average.assign(ops.copy(variable))  # JAX gives the memory of both away

    def step_only(self, variables) -> None:
        """Say which of the variables that it was built for it will be given gradients of.

        On JAX, Keras does not say so at the step itself.
        """
        # Their places: variables kept here would become the optimizer's own.
        self._stepped = [self._get_variable_index(variable) for variable in variables]

    def averaged(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each weight with the average of it; empty if none are kept."""
        return list(zip(self._trainable_variables, self.averages, strict=False))

    def decays(self, variable) -> bool:
        """Whether a variable's gradient gets its share of the variable."""
        return self.decay > 0 and self._own(variable).name not in ("bias", "gamma", "beta")

    def pace(self, variable) -> float:
        """What a variable's learning rate is multiplied by."""
        return self.slowness if self._own(variable).path in self.slow else 1.0

    def _own(self, variable) -> keras.Variable:
        """Keras's variable: TensorFlow hands its own over, which has another name."""
        return self._trainable_variables[self._get_variable_index(variable)]

    def update_step(self, gradient, variable, learning_rate):
        """Step one variable; Keras's hook."""
        if self.decays(variable):
            share = ops.cast(self.decay, variable.dtype)
            gradient = ops.cast(gradient, variable.dtype) + share * variable
        super().update_step(gradient, variable, self.pace(variable) * learning_rate)

    def apply(self, grads, trainable_variables=None):
        """Step all variables, or those given."""
        if self._one_pass_serves(trainable_variables):
            self._apply_in_one_pass(grads, trainable_variables)
        else:
            if self.average_gradients is not None:
                grads = self.average_gradients(list(grads))
            super().apply(_finite_or_zero(grads), trainable_variables)
        if self.ema:
            self._average(trainable_variables or self._trainable_variables)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """``apply`` to values in place of variables, for JAX; see ``step_only``."""
        stepped = self._trainable_variables
        if self._stepped is not None:
            stepped = [stepped[place] for place in self._stepped]
        mapping = [
            *zip(stepped, trainable_variables, strict=True),
            *zip(self.variables, optimizer_variables, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.apply(grads, stepped)
        return tuple(
            [scope.get_current_value(variable) for variable in variables]
            for variables in (stepped, self.variables)
        )

    def _average(self, variables) -> None:
        """Move the averages of variables that were stepped towards them.

        Early ones forget sooner, as min(ema, (1 + t) / (10 + t)) of TensorFlow's moving average,
        so that a short training has an average worth having. The first is the weights.
        """
        done = ops.cast(self.iterations, "float32") - 1.0
        share = 1.0 - ops.minimum(self.ema, done / (done + 9.0))
        owned = [self._own(variable) for variable in variables]
        averages = [self.averages[self._get_variable_index(variable)] for variable in owned]
        if keras.config.backend() == "torch":
            from frcnn.training.torch_sgd import approach

            approach([each.value for each in averages], [each.value for each in owned], share)
            return
        for average, variable in zip(averages, owned, strict=True):
            # In this form an average that equals the variable stays as it is, to the last bit.
            average.assign(average + share * (variable - average))

    def _one_pass_serves(self, variables) -> bool:
        """Whether nothing is asked for but momentum, decay and a bound on the common norm.

        Variables may not be constrained, either.
        """
        others = (
            self.nesterov,
            self.weight_decay,
            self.clipnorm,
            self.clipvalue,
            self.use_ema,
            self.gradient_accumulation_steps,
            self.loss_scale_factor,
        )
        if keras.config.backend() != "torch" or self.momentum <= 0 or any(others):
            return False
        stepped = self._trainable_variables if variables is None else variables
        return all(variable.constraint is None for variable in stepped)

    def _apply_in_one_pass(self, gradients, variables) -> None:
        from frcnn.training.torch_sgd import Group, sgd_step

        variables = self._trainable_variables if variables is None else list(variables)
        if not self.built:
            self.build(variables)
        groups: dict[tuple[bool, float], Group] = {}
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is not None:
                decays, pace = self.decays(variable), self.pace(variable)
                empty = Group([], [], [], self.decay if decays else 0.0, pace)
                group = groups.setdefault((decays, pace), empty)
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
        own = {
            "decay": self.decay,
            "ema": self.ema,
            "slow": sorted(self.slow),
            "slowness": self.slowness,
        }
        return {**super().get_config(), **own}


def _finite_or_zero(gradients):
    """Gradients as they are, or zeros for all of them if one holds NaN or infinity."""
    sums = [ops.sum(ops.cast(each, "float32")) for each in gradients if each is not None]
    finite = ops.isfinite(sum(sums))  # infinities of both signs make NaN
    return [None if each is None else ops.where(finite, each, 0) for each in gradients]


def build_optimizer(config: Config, peak: float, steps: int, network=None) -> SGD:
    """SGD with momentum for a run of ``steps`` steps at a peak learning rate.

    ``network`` is the one to train; without it nothing is known of ``config.backbone_lr``.
    """
    warmup = min(config.warmup, steps // 10)
    slow = [] if network is None else network.extractor.trainable_variables
    return SGD(
        WarmupDecay(peak, steps, warmup, config.schedule),
        config.momentum,
        config.weight_decay,
        config.ema,
        slow=[variable.path for variable in slow] if config.backbone_lr != 1 else (),
        slowness=config.backbone_lr,
        global_clipnorm=config.clip,
    )
