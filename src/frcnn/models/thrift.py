"""A functional model run so that each map is dropped after its last use.

Keras keeps the outputs of all layers until the last has run. A ResNet's early maps, which a frozen
stage needs for no gradient, are then the most that a training step holds at any time. Compilers
see to this by themselves; PyTorch, which runs layer by layer, needs it done.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
from keras import tree


def run_extractor(extractor: Any, pixels, training) -> list:
    """Run a feature extractor.

    Args:
        extractor: a model or layer of one input.
        pixels: (B, H, W, 3), what it takes.
        training: as of a layer's call.

    Returns:
        Its outputs in a list.
    """
    if not is_functional(extractor) or keras.config.backend() != "torch":
        outputs = extractor(pixels, training=training)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    values = {id(extractor.inputs[0]): pixels}
    return run_nodes(nodes_of(extractor), values, [id(x) for x in extractor.outputs], training)


def is_functional(extractor: Any) -> bool:
    """Whether it was built from the tensors of its layers, which can then be run one by one."""
    return getattr(extractor, "_nodes_by_depth", None) is not None


def nodes_of(extractor: Any) -> list:
    """The operations of a functional model, in an order in which they can run."""
    nodes = extractor._nodes_by_depth
    ordered = [node for depth in sorted(nodes, reverse=True) for node in nodes[depth]]
    return [node for node in ordered if not node.is_input]


def run_nodes(nodes: list, values: dict[int, Any], wanted: list[int], training) -> list:
    """Run operations one by one.

    Args:
        nodes: the operations.
        values: the maps they start from, by the ids of their tensors; it is used up.
        wanted: ids of the tensors whose maps are returned.
        training: as of a layer's call.
    """
    left = Counter(id(x) for node in nodes for x in node.input_tensors)
    left.update(wanted)  # these are never dropped
    for node in nodes:
        args, options = node.arguments.fill_in(values)
        if "training" in getattr(node.operation, "_call_context_args", ()):
            options["training"] = training
        results = tree.flatten(node.operation(*args, **options))
        del args, options
        values.update(zip(map(id, node.outputs), results, strict=True))
        del results
        for x in node.input_tensors:
            left[id(x)] -= 1
            if not left[id(x)]:
                del values[id(x)]
    return [values[each] for each in wanted]
