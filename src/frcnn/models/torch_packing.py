"""Convolutions and dense layers of a recorded graph as faster operations, on a CPU.

PyTorch gives oneDNN a kernel as it is, to be arranged at each call, has bias and activation of a
dense layer, shortcut and activation of a convolution pass over their map again, and leaves matrix
products and small convolutions to others, which are slower. In a recorded graph it is plain what
does not change and what follows. oneDNN's operations are those that ``torch.compile`` uses where
weights are frozen; convolutions with many channels go by tiles, ``ops/torch_winograd.py``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import fx

from frcnn.models.torch_fusion import (
    ATEN,
    CLIPS,
    Followers,
    bounds,
    channels_first,
    followers,
    put_in_place,
)
from frcnn.ops.torch_operators import operators
from frcnn.ops.torch_winograd import suits

MKLDNN = torch.ops.mkldnn
_ACTIVATIONS = (*CLIPS, ATEN.hardswish.default)
_USED = (
    "_convolution_pointwise",
    "_linear_pointwise",
    "_reorder_convolution_weight",
    "_reorder_linear_weight",
)

# Bytes of a dense layer's weights, at most, of which an arranged copy is made: the first of VGG16
# has 411 MB, and would gain a hundredth of a picture's time.
MOST_COPIED = 1 << 26


@functools.cache
def packs() -> bool:
    """Whether this PyTorch has oneDNN's operations, on a processor that they were tried on."""
    return (
        torch.backends.mkldnn.is_available()
        and "AVX" in torch.backends.cpu.get_cpu_capability()
        and all(hasattr(MKLDNN, name) for name in _USED)
    )


def pack_layers(recorded: fx.GraphModule) -> None:
    """Put faster operations in place of convolutions and dense layers with what follows them.

    How kernels are arranged depends on them alone, and on the size of the map. For tiles they take
    four times as much memory.

    Args:
        recorded: with the shapes of its values, on a CPU, without gradients; changed.
    """
    graph = recorded.graph
    varying = _varying(graph)
    for node in list(graph.nodes):
        if node.target not in (ATEN.convolution.default, ATEN.mm.default):
            continue
        value, kernel = node.meta["val"], node.args[1]
        if kernel in varying or value.dtype != torch.float32:
            continue
        if node.target is ATEN.mm.default:
            _pack_dense(graph, node, varying)
        elif value.ndim == 4 and not node.args[6]:  # which is whether it is a transposed one
            pack = _pack_tiles if _in_tiles(node) else _pack_convolution
            pack(graph, node)
    graph.eliminate_dead_code()
    recorded.recompile()


def _varying(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that depend on the inputs."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _in_tiles(convolution: fx.Node) -> bool:
    """Whether it pays to convolve as ``ops/torch_winograd.py`` does."""
    given: tuple[Any, ...] = convolution.args
    x, kernel = given[:2]
    plain = all(size == 1 for sizes in given[3:6] for size in sizes)
    return plain and suits(x.meta["val"].shape, _shape(kernel), ready=True)


def _pack_tiles(graph: fx.Graph, convolution: fx.Node) -> None:
    """By tiles, and clipped in passing; a map to be added stays an addition."""
    given: tuple[Any, ...] = convolution.args
    x, kernel, bias = given[:3]
    found = followers(convolution, CLIPS)
    if found.other is not None:
        found = Followers([])
    low, high = bounds(found.activation) if found.activation else (-math.inf, math.inf)
    with graph.inserting_before(convolution):
        values = graph.call_function(operators().winograd_kernel.default, (kernel,))
        arguments = x, values, bias, low, high
        result = graph.call_function(operators().winograd.default, arguments)
        put_in_place(graph, found, convolution, result)
    graph.erase_node(convolution)


def _pack_convolution(graph: fx.Graph, convolution: fx.Node) -> None:
    given: tuple[Any, ...] = convolution.args
    x, kernel, bias, strides, padding, dilation, _, _, groups = given
    found = followers(convolution, _ACTIVATIONS)
    if found.other is not None and not _undisturbed(convolution, found.nodes):
        found = Followers([])
    activation, scalars = _activation(found.activation)
    last = (convolution, *found.nodes)[-1]
    where: Any = (padding, strides, dilation, groups)
    # With a map to be added, once that is there.
    with graph.inserting_before(convolution if found.other is None else last.next):
        arrange = MKLDNN._reorder_convolution_weight.default
        packed = graph.call_function(arrange, (kernel, *where, [*x.meta["val"].shape]))
        if found.other is None:
            arguments = x, packed, bias, *where, activation or "none", scalars, ""
            result = graph.call_function(MKLDNN._convolution_pointwise.default, arguments)
        else:
            other = channels_first(graph, found.other)
            arguments = x, other, packed, bias, *where, "add", 1.0, activation, scalars, ""
            result = graph.call_function(MKLDNN._convolution_pointwise.binary, arguments)
        put_in_place(graph, found, convolution, result)
    graph.erase_node(convolution)


def _pack_dense(graph: fx.Graph, product: fx.Node, varying: set[fx.Node]) -> None:
    given: tuple[Any, ...] = product.args
    x, kernel = given
    (rows, inputs), units = x.meta["val"].shape, product.meta["val"].shape[1]
    if 4 * inputs * units > MOST_COPIED:
        return
    nodes, bias = _dense_followers(product, varying)
    if not _undisturbed(product, nodes):
        nodes, bias = [], None
    last = (product, *nodes)[-1]
    activation, scalars = _activation(last if last.target in CLIPS else None)
    with graph.inserting_before(last.next):
        turned = graph.call_function(ATEN.t.default, (kernel,))
        turned = graph.call_function(ATEN.contiguous.default, (turned,))
        packed = graph.call_function(MKLDNN._reorder_linear_weight.default, (turned, rows))
        arguments = x, packed, bias, activation or "none", scalars, ""
        result = graph.call_function(MKLDNN._linear_pointwise.default, arguments)
    result.meta = dict(last.meta)
    last.replace_all_uses_with(result)
    for node in (*reversed(nodes), product):
        graph.erase_node(node)


def _dense_followers(
    product: fx.Node, varying: set[fx.Node]
) -> tuple[list[fx.Node], fx.Node | None]:
    """A bias added to a matrix product and ReLU after that, where they are; and the bias."""
    nodes, bias = [], None
    units = product.meta["val"].shape[1]
    added = _only_user(product, (ATEN.add.Tensor,))
    if added is not None and not added.kwargs and added.args[0] is product:
        other = added.args[1]
        if isinstance(other, fx.Node) and other not in varying and _shape(other) == (units,):
            nodes, bias = [added], other
    clip = _only_user((product, *nodes)[-1], CLIPS)
    if clip is not None:
        nodes.append(clip)
    return nodes, bias


def _activation(node: fx.Node | None) -> tuple[str | None, list[float]]:
    """An activation by oneDNN's name and numbers; None for none."""
    if node is None:
        return None, []
    if node.target is ATEN.hardswish.default:
        return "hardswish", []
    low, high = bounds(node)
    return ("relu", []) if math.isinf(high) else ("hardtanh", [low, high])


def _only_user(node: fx.Node, targets: tuple[Any, ...]) -> fx.Node | None:
    """The node's user, if it has one alone and that is one of these operations."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in targets else None


def _shape(node: fx.Node) -> tuple[int, ...]:
    if node.op == "get_attr":
        return tuple(getattr(node.graph.owning_module, str(node.target)).shape)
    return tuple(node.meta["val"].shape)


def _undisturbed(first: fx.Node, followers: list[fx.Node]) -> bool:
    """Whether nothing is changed in place from a node to its last follower: what it reads stays."""
    node = first
    while node is not (first, *followers)[-1]:
        node = node.next
        schema = getattr(node.target, "_schema", None)
        if node not in followers and schema is not None and schema.is_mutable:
            return False
    return True
