"""A functional model run so that it keeps fewer maps.

Keras keeps the outputs of all layers until the last has run. A ResNet's early maps, which a frozen
stage needs for no gradient, are then the most that a training step holds at any time. Compilers
see to this by themselves; PyTorch, which runs layer by layer, needs it done.

What gradients do need can be made again in place of being kept: the layers are run in stretches,
and only the maps between two of them stay (Chen et al. 2016, section 4).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from frcnn.models.torch_convolution import kernels_kept

Values = dict[int, Any]  # of symbolic tensors, by their identity


def run_extractor(extractor: Any, pixels, training, remat: bool = False) -> list:
    """Run a feature extractor.

    Args:
        extractor: a model or layer of one input.
        pixels: (B, H, W, 3), what it takes.
        training: as of a layer's call.
        remat: make maps again for the gradients; only of a functional model.

    Returns:
        Its outputs in a list.
    """
    nodes = getattr(extractor, "_nodes_by_depth", None)
    if nodes is None or not (remat or keras.config.backend() == "torch"):
        outputs = extractor(pixels, training=training)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    ordered = [node for depth in sorted(nodes, reverse=True) for node in nodes[depth]]
    ordered = [node for node in ordered if not node.is_input]
    values = {id(extractor.inputs[0]): pixels}
    outputs = [id(x) for x in extractor.outputs]
    if not remat:
        _run(ordered, values, outputs, training)
    else:
        for stretch, needed in _stretches(ordered, outputs):
            _run_again(stretch, values, needed, training)
    return [values[x] for x in outputs]


def _run(nodes: list, values: Values, needed: list[int], training) -> None:
    """Run some nodes, and drop each map after its last use unless it is needed."""
    left = Counter(id(x) for node in nodes for x in node.input_tensors)
    left.update(needed)
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


def _run_again(nodes: list, values: Values, needed: list[int], training) -> None:
    """Run some nodes so that their gradients run them once more, if that does no harm."""
    if any(_changes(layer) for node in nodes for layer in _layers(node.operation)):
        _run(nodes, values, needed, training)
        return
    given = list({id(x): None for node in nodes for x in node.input_tensors if id(x) in values})
    made = [x for x in needed if x not in values]

    def run(*maps):
        inner = dict(zip(given, maps, strict=True))
        with kernels_kept():
            _run(nodes, inner, made, training)
        return [inner[x] for x in made]

    values.update(zip(made, keras.remat(run)(*(values[x] for x in given)), strict=True))
    for x in set(values).difference(needed):
        del values[x]


def _stretches(nodes: list, outputs: list[int]) -> Iterator[tuple[list, list[int]]]:
    """Nodes in stretches of about the square root of their number, and what is needed after each.

    One ends where all nodes after it take a single map, beside what is an output.
    """
    length = math.isqrt(len(nodes))
    last = {id(x): at for at, node in enumerate(nodes) for x in node.input_tensors}
    stretch, made = [], list(map(id, nodes[0].input_tensors))
    for at, node in enumerate(nodes):
        stretch.append(node)
        made += map(id, node.outputs)
        taken = [x for x in made if last.get(x, -1) > at]
        if at + 1 == len(nodes) or (len(stretch) >= length and len(taken) == 1):
            made = [x for x in made if x in taken or x in outputs]
            yield stretch, made
            stretch = []


def _layers(operation) -> list:
    """A layer and all in it; none of what is no layer."""
    return list(operation._flatten_layers()) if isinstance(operation, keras.layers.Layer) else []


def _changes(layer) -> bool:
    """Whether a layer's state is another after each run in training: then it is run once."""
    trains = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    return trains or bool(layer._seed_generators)
