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
    nodes = getattr(extractor, "_nodes_by_depth", None)
    if nodes is None or keras.config.backend() != "torch":
        outputs = extractor(pixels, training=training)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    ordered = [node for depth in sorted(nodes, reverse=True) for node in nodes[depth]]
    return _run(extractor, [node for node in ordered if not node.is_input], pixels, training)


def _run(extractor: Any, nodes: list, pixels, training) -> list:
    left = Counter(id(x) for node in nodes for x in node.input_tensors)
    left.update(map(id, extractor.outputs))  # these are never dropped
    values = {id(extractor.inputs[0]): pixels}
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
    return [values[id(x)] for x in extractor.outputs]
