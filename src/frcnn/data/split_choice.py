"""Which splits of a data set are meant where none is named."""

from __future__ import annotations

import os
from pathlib import Path

from frcnn.data.formats import find_source
from frcnn.data.names import common_name, match_split


def training_split(path: str | os.PathLike) -> str | None:
    """The one to train on: ``train``, else ``trainval``, in any spelling; None for all there is.

    A file of boxes is what is trained on whatever it is called, so it must itself be ``train``.

    Raises:
        DataError: ``path`` is no data set.
    """
    source = find_source(Path(path))
    if source.own is None:
        return match_split("train", source.splits) or match_split("trainval", source.splits)
    return source.own if common_name(source.own) == "train" else None


def joined_splits(path: str | os.PathLike) -> tuple[str, ...]:
    """The ones that ``open_dataset`` reads as one, sorted.

    Raises:
        DataError: ``path`` is no data set.
    """
    source = find_source(Path(path))
    return source.splits if source.own is None else (source.own,)
