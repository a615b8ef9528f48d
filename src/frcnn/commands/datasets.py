"""The commands about data sets: ``convert-data``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from frcnn.errors import printable


@dataclass(frozen=True)
class ConvertData:
    """Write a data set in another format.

    Args:
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        out: the new folder.
        to: the format: voc, coco, yolo or csv.
        split: only this split. Left out: all.
        images: copy the pictures' files, or link to them (hard links).
        strict: stop at the first broken sample.
    """

    data: Annotated[Positional[str], arg(metavar="SRC")]
    out: Annotated[Positional[str], arg(metavar="DST")]
    to: Annotated[Literal["voc", "coco", "yolo", "csv"], arg(metavar="FORMAT")]
    split: Annotated[str | None, arg(metavar="NAME")] = None
    images: Literal["copy", "link"] = "copy"
    strict: bool = False


def convert_data(arguments: ConvertData) -> None:
    """Read all splits, say what was left out, write them."""
    from frcnn.data.converting import open_all_splits
    from frcnn.data.faults import describe_faults
    from frcnn.data.writing import write_dataset

    splits = open_all_splits(arguments.data, arguments.split, arguments.strict)
    faults = dict.fromkeys(fault for dataset in splits.values() for fault in dataset.faults)
    written = write_dataset(splits, arguments.out, arguments.to, arguments.images)
    counts = ", ".join(f"{split} {count:,}" for split, count in written.images.items())
    notes = [f"Note: as {arguments.to}: {sentence}" for sentence in written.lost]
    for line in filter(None, [describe_faults(tuple(faults)), *notes]):
        print(line)
    print(printable(f"Wrote {written.folder} (images: {counts})."))
