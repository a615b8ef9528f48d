"""A feature extractor that keeps few of its maps for the backward pass, and makes the others again.

Its layers are divided into segments (Chen et al. 2016, "Training deep nets with sublinear memory
cost"): the maps between two segments are kept, those within one are computed once more when
their gradients are due. The same numbers come out; a step takes a forward pass longer.
"""

from __future__ import annotations

from typing import Any

import keras

from frcnn.models.thrift import is_functional, nodes_of, run_nodes

SEGMENTS = 8  # about the root of the number of layers that networks have


def check_repeatable(extractor: Any) -> None:
    """Make sure that a second run of the extractor gives what the first one gave.

    Raises:
        ValueError: it is no functional model, or some of its layers draw random numbers or
            update statistics.
    """
    if not is_functional(extractor):
        raise ValueError(
            f"The extractor {extractor.name} is no functional model, so that its layers cannot be "
            "told apart. Build it as keras.Model(inputs, outputs) to rematerialise it."
        )
    changing = [
        layer.name
        for layer in extractor._flatten_layers()
        if getattr(layer, "seed_generator", None) is not None
        or (isinstance(layer, keras.layers.BatchNormalization) and layer.trainable)
    ]
    if changing:
        raise ValueError(
            "Layers that draw random numbers or update statistics cannot be rematerialised: "
            f"{', '.join(changing[:5])}. Train without it."
        )


def run_in_segments(extractor: Any, pixels, training) -> list:
    """Run a functional model; arguments and result are those of ``run_extractor``."""
    nodes = nodes_of(extractor)
    length = -(-len(nodes) // SEGMENTS)
    segments = [nodes[start : start + length] for start in range(0, len(nodes), length)]
    values = {id(extractor.inputs[0]): pixels}
    for place, segment in enumerate(segments):
        rest = (node for after in segments[place + 1 :] for node in after)
        later = {id(x) for node in rest for x in node.input_tensors}
        later.update(map(id, extractor.outputs))
        made = {id(x) for node in segment for x in node.outputs}
        needed = sorted({id(x) for node in segment for x in node.input_tensors} - made)
        kept = sorted(made & later)

        def run(*given, segment=segment, needed=needed, kept=kept):
            given = dict(zip(needed, given, strict=True))
            return tuple(run_nodes(segment, given, kept, training))

        results = keras.remat(run)(*(values[each] for each in needed))
        values = {each: value for each, value in values.items() if each in later}
        values.update(zip(kept, results, strict=True))
    return [values[id(x)] for x in extractor.outputs]
