"""A step of SGD on PyTorch that passes over the weights once; imported where PyTorch runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils import get_total_norm
from torch.optim.sgd import sgd


class Group(NamedTuple):
    """Weights that decay alike and have the same learning rate.

    Args:
        weights: changed in place.
        gradients: of the weights; changed too.
        velocities: momentum times the last step's, less the learning rate times the gradient.
        decay: share of a weight that is added to its gradient.
        pace: the learning rate is multiplied by it.
    """

    weights: list[torch.Tensor]
    gradients: list[torch.Tensor]
    velocities: list[torch.Tensor]
    decay: float
    pace: float = 1.0


@torch.no_grad()
def sgd_step(
    groups: Sequence[Group], rate: torch.Tensor, momentum: float, clip: float | None
) -> None:
    """Clip the gradients by their common norm and step, in place.

    Gradients of which one is not finite count as zeros.

    Args:
        groups: all weights.
        rate: the learning rate, a scalar tensor.
        momentum: 0..1.
        clip: most that the norm of all gradients may be; None clips nothing.
    """
    gradients = [each for group in groups for each in group.gradients]
    norm = get_total_norm(gradients)
    broken = ~norm.isfinite()
    asked = _may_ask(rate.device)
    if not asked or broken:
        for each in gradients:
            each.masked_fill_(broken, 0.0)
        norm = norm.masked_fill(broken, 0.0)
    scale = torch.ones_like(norm) if clip is None else clip / norm.clamp(min=clip)
    step = _one_pass if asked else _many_passes
    for group in groups:
        step(group, group.pace * rate, scale, momentum)


def _may_ask(device: torch.device) -> bool:
    """Whether values are there to be looked at; a GPU would have to be waited for."""
    return device.type == "cpu"


def _one_pass(group: Group, rate, scale, momentum: float) -> None:
    """By PyTorch's fused kernel, whose velocities leave out the learning rate and its sign."""
    sgd(
        group.weights,
        group.gradients,
        group.velocities,  # type: ignore[arg-type]  # a list of which no element is None
        fused=True,
        grad_scale=1 / (rate * scale),
        lr=-1.0,
        maximize=True,
        momentum=momentum,
        weight_decay=-float(rate) * group.decay,
        dampening=0.0,
        nesterov=False,
    )
    # The kernel does not say that it changed them, and what was made of them would be kept.
    for weight in group.weights:
        torch.autograd.graph.increment_version(weight)


def _many_passes(group: Group, rate, scale, momentum: float) -> None:
    """For a device that a learning rate read back would wait for."""
    many: Any = torch  # whose functions of many tensors are not declared to type checkers
    gradients = group.gradients
    many._foreach_mul_(gradients, scale)
    if group.decay:
        many._foreach_add_(gradients, group.weights, alpha=group.decay)
    many._foreach_mul_(gradients, -rate)
    many._foreach_mul_(group.velocities, momentum)
    many._foreach_add_(group.velocities, gradients)
    many._foreach_add_(group.weights, group.velocities)


@torch.no_grad()
def approach(
    averages: list[torch.Tensor], weights: list[torch.Tensor], share: torch.Tensor
) -> None:
    """Move averages by a ``share``, a scalar tensor, of the way to the weights, in place.

    An average that equals its weight stays as it is, to the last bit.
    """
    move = _move_in_one_pass if _may_ask(share.device) else _move_in_many_passes
    move(averages, weights, share)


def _move_in_one_pass(averages, weights, share) -> None:
    many: Any = torch
    many._foreach_lerp_(averages, weights, float(share))


def _move_in_many_passes(averages, weights, share) -> None:
    """For a device that a share read back would wait for."""
    many: Any = torch
    ways = many._foreach_sub(weights, averages)
    many._foreach_mul_(ways, share)
    many._foreach_add_(averages, ways)
