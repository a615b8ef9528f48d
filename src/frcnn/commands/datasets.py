"""The commands about data sets: ``audit`` and ``convert-data``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from frcnn.commands.output import check_json, write_json
from frcnn.errors import UserError, printable


@dataclass(frozen=True)
class Audit:
    """Say what is wrong with a data set, and whether a preset suits its objects.

    Faults: what cannot be read, boxes out of range or drawn twice, pictures in two splits or alike,
    classes spelled in two ways or in one split alone, and so on; notes: what may be meant.

    Args:
        data: a data set in VOC's, COCO's, YOLO's or a CSV format, as for training.
        preset: the architecture whose size and anchors are compared with the objects.
        size: pixels of the short side in training. Left out: the preset's.
        split: only this split. Left out: all, compared with each other.
        json: write all of it to this file.
        strict: exit with status 1 if there are faults.
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    preset: str = "efficientnet_lite0_fpn"
    size: Annotated[int | None, arg(metavar="PIXELS")] = None
    split: Annotated[str | None, arg(metavar="NAME")] = None
    json: Annotated[str | None, arg(metavar="FILE")] = None
    strict: bool = False


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


def audit(arguments: Audit) -> None:
    """Look through the data, print what was found, write the JSON."""
    from frcnn.apps.auditing import audit_data, print_audit

    if arguments.size is not None and not 32 <= arguments.size <= 10_000:
        raise UserError(f"--size must be in 32..10,000. Received: {arguments.size}.")
    check_json(arguments.json, arguments.data)
    found = audit_data(arguments.data, arguments.preset, arguments.size, arguments.split)
    print_audit(found)
    if arguments.json:
        write_json(arguments.json, found.to_dict())
    if arguments.strict and found.faults:
        sys.exit(1)


def convert_data(arguments: ConvertData) -> None:
    """Read all splits, say what was left out, write them."""
    from frcnn.console import counting
    from frcnn.data.converting import open_all_splits
    from frcnn.data.faults import describe_faults
    from frcnn.data.writing import write_dataset

    if Path(arguments.data).resolve() in Path(arguments.out).resolve().parents:
        raise UserError(f"{arguments.out} is inside {arguments.data}, which is read: name another.")
    with counting("checking pictures", None) as advance:
        splits = open_all_splits(arguments.data, arguments.split, arguments.strict, advance)
    faults = dict.fromkeys(fault for dataset in splits.values() for fault in dataset.faults)
    written = write_dataset(splits, arguments.out, arguments.to, arguments.images)
    counts = ", ".join(f"{split} {count:,}" for split, count in written.images.items())
    notes = [f"Note: as {arguments.to}: {sentence}" for sentence in written.lost]
    for line in filter(None, [describe_faults(tuple(faults)), *notes]):
        print(line)
    print(printable(f"Wrote {written.folder} (images: {counts})."))
