"""A diagnosis as lines for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frcnn.errors import printable

if TYPE_CHECKING:
    from frcnn.evaluation.diagnosis import Diagnosis

_MOST_CLASSES = 10  # of a confusion matrix that fits on a terminal
_WIDEST = 14  # characters of a name in it


def describe(diagnosis: Diagnosis) -> str:
    """The sentences, numbered, then short tables."""
    parts = [
        [f"{number}. {limit}" for number, limit in enumerate(diagnosis.limits, 1)],
        _error_lines(diagnosis),
        _proposal_lines(diagnosis),
        _group_lines(diagnosis),
        _confusion_lines(diagnosis),
        _score_lines(diagnosis),
        _worst_lines(diagnosis),
        _unknown_lines(diagnosis),
    ]
    return printable_lines("\n\n".join("\n".join(part) for part in parts if part))


def printable_lines(text: str) -> str:
    """The text with no control characters but ends of lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _error_lines(of: Diagnosis) -> list[str]:
    lines = [f"{'error':<16}   count  AP50 it costs"]
    lines += [
        f"{kind:<16}  {of.errors.counts[kind]:>6,}  {_figure(gain)}"
        for kind, gain in of.errors.gains.items()
    ]
    return [
        *lines,
        f"{'all false ones':<16}          {_figure(of.errors.false_positives)}",
        f"{'all not found':<16}          {_figure(of.errors.false_negatives)}",
    ]


def _proposal_lines(of: Diagnosis) -> list[str]:
    if of.proposals is None:
        return [
            "Recall of the proposals: unknown; an exported detector gives none, and none are asked "
            "for with --tiles or --tta."
        ]
    lines = [f"{'proposals':<10}  recall   small  medium   large"]
    for count, row in of.proposals.recall.items():
        lines.append(f"{count:<10}" + "".join(f"  {_figure(value):>6}" for value in row.values()))
    return lines


def _group_lines(of: Diagnosis) -> list[str]:
    lines = [f"{'objects':<18}   count     AP"]
    for name, row in of.sizes.items():
        lines.append(f"{name:<18}  {row['objects']:>6,}  {_figure(row['AP']):>5}")
    for name, row in of.crowding.items():
        lines.append(f"{name + ' in an image':<18}  {row['objects']:>6,}  {_figure(row['AP']):>5}")
    return lines


def _confusion_lines(of: Diagnosis) -> list[str]:
    title = f"Confusion at {of.score_in_words}"
    if len(of.confusion.classes) > _MOST_CLASSES:
        pairs = [f"{count:>6,}  {t} taken for {d}" for t, d, count in of.confusion.pairs()[:10]]
        return [f"{title}:", *pairs] if pairs else [f"{title}: none."]
    names = [name[:_WIDEST] for name in of.confusion.classes]
    width = max(len(name) for name in [*names, "background"])
    columns = [*names, "missed"]
    lines = [f"{title}: rows are true, columns detected", " " * width]
    lines[1] += "".join(f"  {name:>{max(len(name), 6)}}" for name in columns)
    for name, row in zip([*names, "background"], of.confusion.matrix, strict=True):
        cells = zip(columns, row, strict=True)
        lines.append(
            f"{name:<{width}}"
            + "".join(f"  {count:>{max(len(column), 6)},}" for column, count in cells)
        )
    return lines


def _score_lines(of: Diagnosis) -> list[str]:
    lines = [
        f"Expected calibration error {_figure(of.calibration.error)}",
        "scores      count  right",
    ]
    for row in of.calibration.bins:
        span = f"{row['from']:.1f} to {row['from'] + 0.1:.1f}"
        lines.append(f"{span}  {row['count']:>6,}  {_figure(row['right']):>5}")
    return lines


def _worst_lines(of: Diagnosis) -> list[str]:
    if not of.worst:
        return []
    lines = ["Images with most errors: missed, false, found"]
    for row in of.worst[:5]:
        lines.append(f"{row['missed']:>4} {row['false']:>4} {row['found']:>4}  {row['image']}")
    return lines


def _unknown_lines(of: Diagnosis) -> list[str]:
    if of.evidence.run is None or of.evidence.shared is not None:
        return []
    return [
        f"What {of.evidence.run} was trained on is not known, nor whether these images are among "
        "it."
    ]
