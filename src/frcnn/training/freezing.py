"""The feature extractor frozen for the first epochs of a training, and trained then."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from frcnn.models.faster_rcnn import FasterRCNN


class Freezing:
    """Freezes the whole extractor, and undoes it.

    The optimizer is the same throughout and has a place for every weight, so that a training's
    state is of one form.

    Args:
        network: compiled, its optimizer built for the weights that train in the end.
        epochs: how many epochs, from the first, are frozen.
        join: called whenever other weights than before are going to train.
    """

    def __init__(self, network: FasterRCNN, epochs: int, join: Callable[[], None]):
        self._network, self._epochs, self._join = network, epochs, join
        # A layer sets those within it, so they come after it.
        self._flags = [(layer, layer.trainable) for layer in network.extractor._flatten_layers()]

    def spans(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Part epochs ``first`` to ``end`` where the freezing ends; sets the network for each."""
        for low, high, frozen in ((0, self._epochs, True), (self._epochs, end, False)):
            low, high = max(low, first), min(high, end)
            if low < high:
                self._set(frozen)
                yield low, high

    def _set(self, frozen: bool) -> None:
        if not self._epochs:
            return
        if frozen:
            self._network.extractor.trainable = False
        else:
            for layer, trainable in self._flags:
                layer.trainable = trainable
        optimizer = self._network.optimizer
        optimizer.step_only(self._network.trainable_variables)
        self._network.compile(optimizer)
        self._join()
