"""Convolutions of a recorded graph, and what follows each, in one pass over its map.

PyTorch on a GPU adds a bias, a shortcut and clips by a kernel each, which read and write a map of
a hundred megabytes every time. In a recorded graph it is plain who else needs what is between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from frcnn.ops.torch_operators import operators

ATEN = torch.ops.aten
_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # channels, of a map with them first and last
CLIPS = (ATEN.relu.default, ATEN.relu_.default, ATEN.hardtanh.default, ATEN.hardtanh_.default)


def finish_convolutions(recorded: fx.GraphModule) -> None:
    """Put what follows each convolution, where nobody else needs it, into one operation.

    A bias, then another map added, then ReLU or ReLU6; in training too, whose gradients need none
    of what is between.

    Args:
        recorded: with the shapes of its values; changed.
    """
    graph = recorded.graph
    for node in list(graph.nodes):
        if node.target is ATEN.convolution.default:
            _finish(graph, node)
    graph.eliminate_dead_code()
    recorded.recompile()


@dataclass
class Followers:
    """The nodes after a convolution that one operation can replace, in their order."""

    nodes: list[fx.Node]
    channels_last: bool = False  # after a permutation
    other: fx.Node | None = None  # (B, H, W, C), added
    activation: fx.Node | None = None


def _finish(graph: fx.Graph, convolution: fx.Node) -> None:
    found, bias = followers(convolution, CLIPS), convolution.args[2]
    if bias is None and not found.nodes:
        return
    convolution.update_arg(2, None)
    last = (convolution, *found.nodes)[-1]
    with graph.inserting_before(last.next):
        other = found.other
        if other is not None:
            other = _before_doubling(other) or channels_first(graph, other)
        low, high = bounds(found.activation) if found.activation else (-math.inf, math.inf)
        graph.call_function(operators().finish.default, (convolution, bias, other, low, high))
        put_in_place(graph, found, convolution, convolution)


def channels_first(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """A view (B, C, H, W) of a map (B, H, W, C)."""
    return graph.call_function(ATEN.permute.default, (node, _FIRST))


def put_in_place(graph: fx.Graph, found: Followers, convolution: fx.Node, result: fx.Node) -> None:
    """Have ``result``, (B, C, H, W), used for what followed a convolution, or for it alone."""
    last = (convolution, *found.nodes)[-1]
    if found.channels_last:
        result = graph.call_function(ATEN.permute.default, (result, _LAST))
    result.meta = dict(last.meta)
    if last is not result:
        last.replace_all_uses_with(result)
    for node in reversed(found.nodes):
        graph.erase_node(node)


def followers(convolution: fx.Node, activations: tuple[Any, ...]) -> Followers:
    """What follows a convolution and its bias: perhaps a map added, perhaps an activation."""
    found = Followers([])
    last = convolution
    while len(last.users) == 1:
        (node,) = last.users
        if node.target is ATEN.permute.default and node.args[1] == _LAST and not found.nodes:
            found.channels_last = True
        elif node.target is ATEN.add.Tensor and found.channels_last and _is_sum(node):
            if found.other is not None:
                break
            (found.other,) = (each for each in node.all_input_nodes if each is not last)
        elif node.target in activations:
            found.activation = node
            found.nodes.append(node)
            return found
        else:
            break
        found.nodes.append(node)
        last = node
    return found if found.other is not None else Followers([])


def _is_sum(node: fx.Node) -> bool:
    """Whether it adds two different maps of one shape and type, as they are."""
    if node.kwargs or len(node.all_input_nodes) != 2:
        return False
    values = [each.meta.get("val") for each in (node, *node.all_input_nodes)]
    return len({each if each is None else (each.shape, each.dtype) for each in values}) == 1


def _before_doubling(node: fx.Node) -> fx.Node | None:
    """The map of which this one is twice as large, or a row or column less, if it is made of one.

    For such sizes PyTorch's rule, in float32, is that of ``finish``.
    """
    enlarged = node.args[0]
    if node.target is not ATEN.permute.default or node.args[1] != _LAST:
        return None
    if not isinstance(enlarged, fx.Node) or enlarged.target is not ATEN.upsample_nearest2d.default:
        return None
    (smaller,) = enlarged.all_input_nodes
    sizes = zip(smaller.meta["val"].shape[2:], enlarged.meta["val"].shape[2:], strict=True)
    return smaller if all(large in (2 * small - 1, 2 * small) for small, large in sizes) else None


def bounds(node: fx.Node) -> tuple[float, float]:
    """Between which values one of ``CLIPS`` clips."""
    if "relu" in str(node.target):
        return 0.0, math.inf
    given: Any = node.args[1:]
    low, high = (*given, *(-1.0, 1.0)[len(given) :])
    return float(low), float(high)
