"""A network in use on PyTorch, recorded once and replayed as the bare list of its operations.

Keras looks at every layer's and operation's inputs anew each time, which takes a small network on
a CPU as long as a third of its arithmetic. Only for the PyTorch backend: the others compile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

Tensors = dict[str, torch.Tensor]


class RecordedGraph:
    """What ``function`` does with inputs of these shapes and types.

    What depends on weights alone, as the folding of normalisations into kernels does, is computed
    at the first call and again after the weights have changed. Weights must be changed in place,
    as Keras and PyTorch do.

    Args:
        function: tensors -> tensors by name; what it does may depend on its inputs' shapes and
            types, but not on their values.
        inputs: any of the right shapes and types.

    Raises:
        RuntimeError: what it does depends on the values of its inputs.
    """

    def __init__(self, function: Callable[..., Tensors], inputs: Sequence[torch.Tensor]):
        with torch.no_grad():
            recorded = make_fx(function)(*inputs)
        recorded.graph.eliminate_dead_code()
        self._weights, self._fold, self._run = _split(recorded)
        self._versions: list[int] = []
        self._folded: Sequence[torch.Tensor] = ()

    def __call__(self, *inputs: torch.Tensor) -> Tensors:
        """Replay on other inputs of the same shapes and types; without gradients."""
        with torch.no_grad():
            versions = [weight._version for weight in self._weights]
            if versions != self._versions:
                self._folded = self._fold()
                self._versions = versions
            return self._run(*self._folded, *inputs)


def _split(recorded: fx.GraphModule):
    """Part a graph into what depends on constants alone and what needs the inputs.

    Returns:
        The constant tensors, a function of nothing that gives the first part's results, and one
        of these and the inputs that gives the output.
    """
    constant = _constants(recorded.graph)
    wanted = [
        node
        for node in recorded.graph.nodes
        if node in constant and any(user not in constant for user in node.users)
    ]
    before, after = fx.Graph(recorded), fx.Graph(recorded)
    copies: dict[fx.Node, fx.Node] = {}
    for node in recorded.graph.nodes:
        if node in constant:
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(tuple(copies[node] for node in wanted))
    copies = {node: after.placeholder(f"folded_{place}") for place, node in enumerate(wanted)}
    for node in recorded.graph.nodes:
        if node not in constant:
            copies[node] = after.node_copy(node, copies.__getitem__)
    weights = [
        getattr(recorded, str(node.target))
        for node in recorded.graph.nodes
        if node.op == "get_attr"
    ]
    return weights, *(fx.GraphModule(recorded, graph) for graph in (before, after))


def _constants(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that depend on constant tensors alone and keep their value in a replay."""
    constant: set[fx.Node] = set()
    changed: list[fx.Node] = []
    for node in graph.nodes:
        if node.op == "get_attr":
            constant.add(node)
        elif node.op == "call_function" and _changes_inputs(node):
            changed += node.all_input_nodes
        elif node.op == "call_function" and constant.issuperset(node.all_input_nodes):
            constant.add(node)
    while changed:  # what is written to is made anew each time, and so is what it is a view of
        node = changed.pop()
        if node in constant and node.op != "get_attr":
            constant.discard(node)
            changed += node.all_input_nodes
    return constant


def _changes_inputs(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is None or schema.is_mutable
