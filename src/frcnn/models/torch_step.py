"""Training steps on a GPU by PyTorch: recorded, then one launch each.

Layer by layer, Keras needs several times as long to ask for a step's thousands of kernels as the
GPU needs to run them. Shapes are static and nothing in a step waits for a value, so after some
steps all of it, backward pass and optimizer included, is recorded (``torch_graph``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from keras import ops, tree

from frcnn.models.torch_graph import RecordedGraph

LOGGER = logging.getLogger(__name__)

# Steps of one shape before it is recorded. Recording takes as long as some dozens of steps then
# save, and a training on several canvases of several sizes takes few of each.
RECORD_AFTER = 20
DEVICES = ("cuda",)


class RecordedSteps:
    """Does the training steps of a model, in place of Keras.

    Args:
        model: a compiled model, whose optimizer and trainable weights stay what they are.
        step: Keras's own training step: (x, y) -> metrics by name.
    """

    def __init__(self, model: Any, step: Callable[[Any], dict]):
        self._model, self._step = model, step
        self._seen: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, RecordedGraph | None] = {}

    def __call__(self, data: Any) -> dict[str, torch.Tensor]:
        """Do one step; Keras's ``train_step``."""
        if self._model.variables[0].value.device.type not in DEVICES:
            return self._step(data)
        batch = data[:2]  # x, y; Keras adds that there are no sample weights
        arrays = tree.flatten(batch)
        case = tuple((tuple(each.shape), str(each.dtype)) for each in arrays)
        self._seen[case] += 1
        if self._seen[case] > RECORD_AFTER and case not in self._graphs:
            return self._record(case, batch, [ops.convert_to_tensor(each) for each in arrays])
        graph = self._graphs.get(case)
        if graph is None:
            return self._step(data)
        return {name: value.clone() for name, value in graph(*arrays).items()}

    def _record(self, case: Hashable, batch: Any, inputs: Sequence[torch.Tensor]) -> dict:
        """Do the step while recording it; where that cannot be, do it as before."""

        @torch.enable_grad()
        def step(*inputs):
            return self._step(tree.pack_sequence_as(batch, inputs))

        model = self._model
        variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
        before = [each.value.detach().clone() for each in variables]
        changing = [each.value for each in model.trainable_variables]
        try:
            self._graphs[case] = graph = RecordedGraph(step, inputs, changing)
        except Exception as error:  # of an optimizer or a layer of the user's own, that do as well
            LOGGER.warning(
                "Training steps run layer by layer, which takes a GPU several times as long: they "
                "cannot be recorded: %s",
                error,
            )
            self._graphs[case] = None
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            return self._step(batch)
        return graph.first
