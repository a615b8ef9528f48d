"""Which pictures train and which validate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from frcnn.data.dataset import (
    Dataset,
    available_splits,
    hold_out,
    open_dataset,
    why_nothing_to_train_on,
)
from frcnn.data.names import common_name, match_split, respelled
from frcnn.data.split_choice import joined_splits, training_split
from frcnn.errors import UserError
from frcnn.training.config import Config

HELD_OUT = 0.1


class Splits(NamedTuple):
    """The data of a run.

    Args:
        train: what is trained on.
        validation: what the best epoch is chosen by, or None.
        note: where the validation images come from, and what is trained on if all splits are.
    """

    train: Dataset
    validation: Dataset | None
    note: str


def open_splits(config: Config, progress: Callable[[], None] | None = None) -> Splits:
    """Open a run's data.

    Args:
        config: of the run.
        progress: called after each picture.

    Raises:
        DataError: data that cannot be used; with ``config.strict``, anything at fault.
        UserError: no object to train on, or no image left to train on.
    """
    name = config.train_split or training_split(config.data)

    def opened(split: str | None, classes: Sequence[str] | None = None) -> Dataset:
        return open_dataset(config.data, split, classes, config.strict, progress)

    train = opened(name)
    result = _with_validation(config, train, opened)
    why = why_nothing_to_train_on(result.train)
    if why is not None:
        problem = f"no image of the training split has an object to train on: {why}"
        raise UserError(f"{config.data}: {problem}.")
    joined = joined_splits(config.data) if name is None else ()
    if len(joined) > 1:
        problem = f"No one split is called train, so all are trained on: {', '.join(joined)}"
        return result._replace(note=f"{problem}; --train-split names one. {result.note}")
    return result


def _with_validation(config: Config, train: Dataset, opened: Callable[..., Dataset]) -> Splits:
    if config.val_split == "none":
        return Splits(train, None, "No validation: the last epoch counts as the best.")
    if config.val_split is not None:
        chosen = config.val_split
        validation = opened(chosen, train.classes)
        shared = _shared(train, validation)
        note = f"Validation: {len(validation)} images of {chosen}."
        if shared:
            note += f" {shared} of them are trained on too, so its figures are too high."
        return Splits(train, validation, note + _lacking(train, validation))
    beside = match_split("val", available_splits(config.data))
    if train.split and common_name(train.split) == "train" and beside:
        validation = opened(beside, train.classes)
        if not _shared(train, validation):
            note = f"Validation: {len(validation)} images of {beside}."
            return Splits(train, validation, note + _lacking(train, validation))
    rest, held = hold_out(train, HELD_OUT, config.seed)
    note = (
        f"Validation: {len(held)} of the {len(train)} images, held out (seed {config.seed}); "
        "--val-split names others, or none."
    )
    return Splits(replace(rest, faults=train.faults), held, note)


def _lacking(train: Dataset, validation: Dataset) -> str:
    """What to say of classes that only the validation images have."""
    names = []
    for name in validation.unknown:
        other = respelled(name, train.classes)
        names.append(f"{name!r}" + (f" (spelled {other!r} in training)" if other else ""))
    if not names:
        return ""
    return f" Its boxes of classes that the training images lack are left out: {', '.join(names)}."


def _shared(first: Dataset, second: Dataset) -> int:
    """How many images the two have in common."""
    return len({s.image for s in first} & {s.image for s in second})
