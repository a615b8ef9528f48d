"""Put arrays into layers by name, and say what found its place and what did not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from frcnn.errors import printable

# Layer name -> weight name ("kernel", "bias", "gamma", ...) -> array in Keras's layout.
Source = Mapping[str, Mapping[str, np.ndarray]]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class MatchReport:
    """What became of the layers and of the names in a file of weights.

    Attributes:
        origin: where the weights came from, for messages.
        matched: layer -> the shapes of the weights it was given.
        mismatched: layer -> why it was left as it was, although the file has its name.
        missing: layers with weights of which the file has none.
        left_over: names in the file which no layer has.
    """

    origin: str
    matched: dict[str, tuple[Shape, ...]]
    mismatched: dict[str, str]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        """Render the totals, and below them a line for each layer or name that does not match."""
        rows = [("mismatched", layer, reason) for layer, reason in self.mismatched.items()]
        rows += [("missing", layer, "not in the file") for layer in self.missing]
        rows += [("left over", name, "no such layer here") for name in self.left_over]
        widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        lines = [
            f"{status:{widths[0]}}  {name:{widths[1]}}  {detail}" for status, name, detail in rows
        ]
        totals = (
            f"{self.origin}: {len(self.matched)} layers matched, {len(self.mismatched)} "
            f"mismatched, {len(self.missing)} missing, {len(self.left_over)} names left over"
        )
        return "\n".join(map(printable, [totals, *lines]))


def load_by_name(
    layers: keras.layers.Layer | Iterable[keras.layers.Layer], source: Source, origin: str
) -> MatchReport:
    """Give every layer the weights that ``source`` holds under its name.

    A layer is given all its weights or none; nothing is changed if an error is raised.

    Args:
        layers: built layers or models, searched to any depth.
        source: layer name -> weight name -> array.
        origin: where the weights come from, as errors and the report should call it.

    Returns:
        The account of every layer and name.

    Raises:
        ValueError: no name matched, or two layers share a name that the source has.
    """
    owners = _by_owner([layers] if isinstance(layers, keras.layers.Layer) else layers)
    matched, mismatched = {}, {}
    for layer in owners.keys() & source.keys():
        problem = _disagreement(owners[layer], source[layer], layer, origin)
        if problem:
            mismatched[layer] = problem
        else:
            matched[layer] = tuple(np.shape(source[layer][name]) for name, _ in owners[layer])
    report = MatchReport(
        origin,
        {layer: matched[layer] for layer in owners if layer in matched},
        {layer: mismatched[layer] for layer in owners if layer in mismatched},
        tuple(layer for layer in owners if layer not in source),
        tuple(name for name in source if name not in owners),
    )
    if not matched:
        raise ValueError(_nothing_matched(report))
    for layer in matched:
        for name, variable in owners[layer]:
            variable.assign(source[layer][name])
    return report


def _by_owner(layers) -> dict[str, list[tuple[str, keras.Variable]]]:
    """Group all weights as layer name -> (weight name, variable), in the layers' order."""
    owners: dict[str, list[tuple[str, keras.Variable]]] = {}
    for layer in layers:
        for variable in layer.weights:
            owner, name = variable.path.split("/")[-2:]
            owners.setdefault(owner, []).append((name, variable))
    return owners


def _disagreement(ours, theirs, layer: str, origin: str) -> str | None:
    """Why ``theirs``, name -> array, cannot fill ``ours``; None if it can."""
    names = [name for name, _ in ours]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{origin} has weights for {layer!r}, but several layers here have that name; "
            "rename all but one."
        )
    if set(names) != set(theirs):
        return f"has {', '.join(theirs)}; expected {', '.join(names)}"
    shapes = [
        f"{name} has shape {np.shape(theirs[name])}, expected {tuple(variable.shape)}"
        for name, variable in ours
        if np.shape(theirs[name]) != tuple(variable.shape)
    ]
    return "; ".join(shapes) or None


def _nothing_matched(report: MatchReport) -> str:
    ours = ", ".join((*report.missing, *report.mismatched)) or "none"
    theirs = ", ".join((*report.left_over, *report.mismatched)) or "none"
    reasons = "".join(f" {layer}: {why}." for layer, why in report.mismatched.items())
    return (
        f"No weights of {report.origin} fit any layer. Layers here: {ours}. Names there: {theirs}."
        f"{reasons} Give the file of this network's weights."
    )
