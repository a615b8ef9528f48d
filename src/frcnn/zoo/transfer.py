"""Start a network from another one: what fits is kept, classes are matched by their names."""

from __future__ import annotations

import re
from collections import Counter

import keras
import numpy as np

from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.zoo.matching import MatchReport

_LOGITS, _DELTAS = _CLASS_LAYERS = "class_logits", "box_deltas"

# A weight's place: the name of its layer, without the number that Keras adds to the names of
# namesakes, its own name, and how many weights of these names came before it.
Place = tuple[str, str, int]


def transfer(
    network: FasterRCNN,
    classes: tuple[str, ...],
    source: FasterRCNN,
    source_classes: tuple[str, ...],
    origin: str,
) -> MatchReport:
    """Give a network the weights of another one, as far as they fit.

    A weight fits if its layer has the same name and it has the same shape. The rows of the
    class and box outputs are taken class by class, by name; classes the other network does not
    know keep what they have. Pixels are brought to the scale that the weights were trained with.

    Args:
        network: to be trained.
        classes: its classes.
        source: a trained network.
        source_classes: the classes of that one.
        origin: where it comes from, for messages.

    Returns:
        The account, by layer.

    Raises:
        ValueError: nothing of the feature extractor fits.
    """
    theirs = _by_place(source)
    matched: dict[str, tuple] = {}
    mismatched: dict[str, str] = {}
    missing: list[str] = []
    known = [name for name in classes if name in source_classes]
    for place, ours in _by_place(network).items():
        layer = _name(place)
        other = theirs.pop(place, None)
        if other is None:
            missing.append(layer)
        elif place[0] in _CLASS_LAYERS and not _is_shared(place, ours, other):
            problem = _take_classes(place[0], ours, other, classes, source_classes)
            if problem or len(known) < len(classes):
                fresh = ", ".join(name for name in classes if name not in known or problem)
                mismatched[layer] = problem or f"started afresh for the classes {fresh}"
            else:
                matched[layer] = (tuple(ours.shape),)
        elif ours.shape != other.shape:
            mismatched[layer] = f"has shape {tuple(other.shape)}, expected {tuple(ours.shape)}"
        else:
            ours.assign(keras.ops.convert_to_numpy(other))
            matched[layer] = (tuple(ours.shape),)
    features = {_name(place) for place in _by_place(network.extractor)}
    if not features & set(matched):
        raise ValueError(
            f"no weight of its feature extractor fits this network's: {origin} is of another "
            "architecture. Name its preset with --preset, or other weights"
        )
    for name in ("mean", "std", "order"):
        setattr(network.preprocessing, name, getattr(source.preprocessing, name))
    left_over = tuple(_name(place) for place in theirs)
    return MatchReport(origin, matched, mismatched, tuple(missing), left_over)


def _by_place(network: keras.Model) -> dict[Place, keras.Variable]:
    seen: Counter = Counter()
    places = {}
    for variable in network.weights:
        layer, name = variable.path.split("/")[-2:]
        names = re.sub(r"_\d+$", "", layer), name
        places[*names, seen[names]] = variable
        seen[names] += 1
    return places


def _name(place: Place) -> str:
    return "/".join(place[:2])


def _is_shared(place: Place, ours, other) -> bool:
    """Whether both have one box for all classes, or have one class, whose box serves any other."""
    return place[0] == _DELTAS and ours.shape[-1] == other.shape[-1] == 4


def _take_classes(layer, ours, other, classes, source_classes) -> str | None:
    """Copy the outputs of the classes that both know; why not, if that cannot be.

    The last axis of the logits is one a class and background; that of the deltas four a class.
    """
    mine, theirs = (keras.ops.convert_to_numpy(each).copy() for each in (ours, other))
    if mine.shape[:-1] != theirs.shape[:-1]:
        return f"has shape {theirs.shape}, expected {mine.shape}"
    logits = layer == _LOGITS
    width = 1 if logits else 4
    if mine.shape[-1] != width * (len(classes) + logits) or (
        theirs.shape[-1] != width * (len(source_classes) + logits)
    ):
        return f"has shape {theirs.shape}, expected {mine.shape}"
    pairs = [
        (index, source_classes.index(name))
        for index, name in enumerate(classes)
        if name in source_classes
    ]
    if logits:
        pairs.append((len(classes), len(source_classes)))  # background
    for here, there in pairs:
        _columns(mine, here, width)[...] = _columns(theirs, there, width)
    ours.assign(mine)
    return None


def _columns(array: np.ndarray, index: int, width: int) -> np.ndarray:
    return array[..., index * width : (index + 1) * width]
