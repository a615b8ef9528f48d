"""Which pictures train and which validate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from frcnn.data.dataset import Dataset, available_splits, hold_out, open_dataset
from frcnn.errors import UserError
from frcnn.training.config import Config

HELD_OUT = 0.1


class Splits(NamedTuple):
    """The data of a run.

    Args:
        train: what is trained on.
        validation: what the best epoch is chosen by, or None.
        note: one sentence on where the validation images come from.
    """

    train: Dataset
    validation: Dataset | None
    note: str


def open_splits(config: Config) -> Splits:
    """Open a run's data.

    Raises:
        DataError: data that cannot be used; with ``config.strict``, anything at fault.
        UserError: no object to train on, or no image left to train on.
    """
    splits = available_splits(config.data)
    name = config.train_split
    is_csv = Path(config.data).suffix.lower() == ".csv"
    if name is None and "train" in splits and not is_csv:
        name = "train"
    train = open_dataset(config.data, name, strict=config.strict)
    result = _with_validation(config, train, name, splits)
    if not any((sample.labels[~sample.difficult] >= 0).any() for sample in result.train):
        raise UserError(f"{config.data}: no image of the training split has an object.")
    return result


def _with_validation(config: Config, train: Dataset, name, splits) -> Splits:
    if config.val_split == "none":
        return Splits(train, None, "No validation: the last epoch counts as the best.")
    if config.val_split is not None:
        chosen = config.val_split
        validation = open_dataset(config.data, chosen, train.classes, config.strict)
        shared = _shared(train, validation)
        note = f"Validation: {len(validation)} images of {chosen}."
        if shared:
            note += f" {shared} of them are trained on too, so its figures are too high."
        return Splits(train, validation, note)
    if name == "train" and "val" in splits:
        validation = open_dataset(config.data, "val", train.classes, config.strict)
        if not _shared(train, validation):
            return Splits(train, validation, f"Validation: {len(validation)} images of val.")
    rest, held = hold_out(train, HELD_OUT, config.seed)
    note = (
        f"Validation: {len(held)} of the {len(train)} images, held out (seed {config.seed}); "
        "--val-split names others, or none."
    )
    return Splits(replace(rest, faults=train.faults), held, note)


def _shared(first: Dataset, second: Dataset) -> int:
    """How many images the two have in common."""
    return len({s.image for s in first} & {s.image for s in second})
