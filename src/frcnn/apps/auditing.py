"""``frcnn audit``: a data set is looked through, and what was found is printed."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from frcnn.console import counting, new_console, say
from frcnn.data.anchor_fit import HIGH, LOW
from frcnn.data.audit import Audit, audit, open_for_audit
from frcnn.data.duplicates import look_at
from frcnn.data.faults import plural
from frcnn.data.object_sizes import SMALL
from frcnn.data.statistics import SplitFigures
from frcnn.errors import printable
from frcnn.threads import available_cores
from frcnn.training.auditing import working_of


def audit_data(data: str, preset: str, size: int | None, split: str | None) -> Audit:
    """Look through a data set, with a counter; each picture is decoded once.

    Args:
        data: as of ``open_dataset``.
        preset: the architecture whose anchors and size are compared with the objects.
        size: pixels of the short side; None for the preset's.
        split: only this one.

    Raises:
        UserError: no such preset, or data that cannot be used at all.
    """
    working = working_of(preset, size)
    with counting("checking pictures", None) as advance:
        opened = open_for_audit(data, split, advance)
    pictures = opened.pictures()
    with counting("looking at pictures", len(pictures)) as advance:
        looks = look_at(pictures, available_cores(), advance)
    return audit(opened, working, looks)


def print_audit(found: Audit, console: Console | None = None) -> None:
    """Print figures of each split, how the objects suit the preset, and the findings."""
    console = console or new_console()
    console.print(_table_of_splits(found.splits))
    console.print(_table_of_classes(found.splits))
    for line in [*_lines_of_objects(found), *_lines_of_findings(found)]:
        say(console, line)


def _table_of_splits(splits: tuple[SplitFigures, ...]) -> Table:
    table = Table("split")
    for title in ("images", "empty", "boxes", "pictures", "side, px", "height/width"):
        table.add_column(title, justify="right")
    for each in splits:
        size = each.picture_sizes[0] if each.picture_sizes else None
        counts = (each.images, each.empty, each.boxes)
        table.add_row(
            _plain(each.name or "all"),
            *(f"{count:,}" for count in counts),
            f"{size['width']}x{size['height']}" if size else "-",
            _middle(each.sides, "{:.0f}"),
            _middle(each.ratios, "{:.2f}"),
        )
    table.caption = "pictures: the most frequent size; objects: median, and 5% to 95%"
    return table


def _middle(shares: dict[str, float], form: str) -> str:
    if not shares:
        return "-"
    low, middle, high = (form.format(shares[key]) for key in ("5", "50", "95"))
    return f"{middle} ({low}-{high})"


def _plain(name: str) -> Text:
    """A name from a file: nothing in it is markup."""
    return Text(printable(name))


def _table_of_classes(splits: tuple[SplitFigures, ...]) -> Table:
    table = Table("class")
    for each in splits:
        table.add_column(_plain(each.name or "all"), justify="right")
    for name in splits[0].classes:
        table.add_row(_plain(name), *(f"{each.classes.get(name, 0):,}" for each in splits))
    return table


def _lines_of_objects(found: Audit) -> list[str]:
    working, fit = found.working, found.fit
    if fit is None or found.small is None:
        return ["There are no objects to train on."]
    lines = [
        f"With {working.preset} at {working.short} pixels: {found.small:.1%} of the objects are "
        f"below {SMALL} pixels; {fit.low:.1%} have an anchor above IoU {LOW}, {fit.high:.1%} above "
        f"{HIGH}.",
        f"  {'side, px':<12}{'objects':>9}{f'> {LOW}':>8}{f'> {HIGH}':>8}",
    ]
    for each in fit.bins:
        share = f"{each['low']:>8.1%}{each['high']:>8.1%}"
        lines.append(f"  from {each['from']:<7}{each['boxes']:>9,}{share}")
    if found.suggested:
        anchors, then = found.suggested
        sizes = ", ".join("+".join(f"{side:g}" for side in level) for level in anchors.sizes)
        lines.append(
            f"Anchors of sizes {sizes} on strides {', '.join(map(str, anchors.strides))}, ratios "
            f"{', '.join(f'{ratio:g}' for ratio in anchors.ratios)}, would fit better: "
            f"{then.low:.1%} above {LOW}, {then.high:.1%} above {HIGH}."
        )
    return lines


def _lines_of_findings(found: Audit) -> list[str]:
    if not found.findings:
        return ["Nothing is wrong with the data."]
    lines = [
        f"{each.severity.capitalize()}: {each.kind}: {each.sentence}" for each in found.findings
    ]
    faults = len(found.faults)
    notes = len(found.findings) - faults
    return [*lines, f"{plural(faults, 'kind')} of faults, {plural(notes, 'kind')} of notes."]
