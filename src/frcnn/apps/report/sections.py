"""The parts of a report as HTML: what limits the detector, curves, tables, pictures, data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from frcnn.apps.report.charts import bar_chart, line_chart
from frcnn.apps.report.gallery import Gallery
from frcnn.apps.report.markup import figure, table, text
from frcnn.evaluation.confusion import Confusion
from frcnn.evaluation.diagnosis import Diagnosis

_MOST_CLASSES = 30  # of a confusion matrix, of curves of single classes far fewer
_MOST_CURVES = 6
_LOSSES = ("loss", "rpn_objectness", "rpn_box", "roi_class", "roi_box")
_SHADES = 4


def summary(figures: Mapping[str, str], diagnosis: Diagnosis | None) -> str:
    """Headline figures, then what limits the detector."""
    parts = [
        '<dl class="figures">',
        *(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in figures.items()),
        "</dl>",
    ]
    if diagnosis is None:
        return "".join([*parts, "<p>There are no validation images to diagnose it on.</p>"])
    parts.append("<h3>What limits this detector, in order</h3>")
    items = [
        f'<li><span class="what">{text(limit.sentence)}</span>'
        f'<span class="do">{text(limit.setting)}</span></li>'
        for limit in diagnosis.limits
    ]
    return "".join([*parts, '<ol class="limits">', *items, "</ol>"])


def training_curves(history: Sequence[Mapping[str, float]]) -> str:
    """Losses, validation figures, the learning rate and the speed, by epoch."""
    known = dict.fromkeys(name for row in history for name in row)  # a cell may be empty

    def lines(names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
        present = [name for name in names if name in known]
        return {
            name.removeprefix("val_"): [(row["epoch"], row.get(name, math.nan)) for row in history]
            for name in present
        }

    validated = [name for name in known if name.startswith("val_")]
    charts = [
        line_chart("Losses", lines(_LOSSES), "epoch"),
        line_chart("Validation", lines(validated), "epoch", (0.0, 1.0)),
        line_chart("Learning rate", lines(["learning_rate"]), "epoch"),
        line_chart("Images a second", lines(["images_per_second"]), "epoch"),
    ]
    return f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def diagnosis_tables(diagnosis: Diagnosis) -> str:
    """Errors, curves, proposals, groups of objects, confusion and scores."""
    errors = diagnosis.errors
    rows = [(kind, errors.counts[kind], gain) for kind, gain in errors.gains.items()]
    return "".join(
        [
            '<div class="charts">',
            bar_chart("AP50 that each kind of error costs", errors.gains),
            _precision_recall(diagnosis),
            _reliability(diagnosis),
            "</div>",
            "<h3>Errors (TIDE)</h3>",
            table(("error", "count", "AP50 it costs"), rows),
            f"<p>All false detections: {figure(errors.false_positives)}; all objects not found: "
            f"{figure(errors.false_negatives)}.</p>",
            _proposals(diagnosis),
            "<h3>By size and crowding</h3>",
            _groups(diagnosis),
            "<h3>By class</h3>",
            _classes(diagnosis),
            f"<h3>Confusion at {diagnosis.score_in_words}</h3>",
            confusion_table(diagnosis.confusion),
            "<h3>Most confident mistakes</h3>",
            table(
                ("image", "class", "score", "error"),
                [(m["image"], m["class"], m["score"], m["kind"]) for m in diagnosis.mistakes],
                (0, 1, 3),
            ),
        ]
    )


def _precision_recall(of: Diagnosis) -> str:
    most = sorted(of.curves, key=lambda name: -of.per_class[name]["objects"])[:_MOST_CURVES]
    lines = {
        name: list(zip(of.curves[name]["recall"], of.curves[name]["precision"], strict=True))
        for name in most
    }
    title = "Precision over recall at IoU 0.5"
    if len(of.curves) > len(most):
        title += f", the {len(most)} most frequent of {len(of.curves)} classes"
    return line_chart(title, lines, "recall", (0.0, 1.0))


def _reliability(of: Diagnosis) -> str:
    points = [(row["score"], row["right"]) for row in of.calibration.bins if row["count"]]
    title = f"Share that is right over score; calibration error {figure(of.calibration.error)}"
    return line_chart(title, {"detections": points}, "score", (0.0, 1.0), even=True)


def _proposals(of: Diagnosis) -> str:
    if of.proposals is None:
        return "<h3>Proposals</h3><p>Unknown: this detector gives none.</p>"
    rows = [
        (f"{count:,}", *row.values(), of.proposals.average[count])
        for count, row in of.proposals.recall.items()
    ]
    titles = ("proposals", "recall", "small", "medium", "large", "mean over IoU 0.5 to 0.95")
    return f"<h3>Recall of the proposals, on {of.proposals.images:,} images</h3>" + table(
        titles, rows
    )


def _groups(of: Diagnosis) -> str:
    rows = [(f"{name} objects", row["objects"], row["AP"]) for name, row in of.sizes.items()]
    rows += [
        (f"{n} objects in an image", row["objects"], row["AP"]) for n, row in of.crowding.items()
    ]
    return table(("", "objects", "AP"), rows)


def _classes(of: Diagnosis) -> str:
    rows = [
        (name, row["objects"], row["detections"], row["AP"], row["AP50"])
        for name, row in of.per_class.items()
    ]
    return table(("class", "objects", "detections", "AP", "AP50"), rows)


def confusion_table(confusion: Confusion) -> str:
    """The matrix, shaded by the share of its row; of many classes the frequent confusions alone."""
    if len(confusion.classes) > _MOST_CLASSES:
        return table(("class", "taken for", "count"), confusion.pairs()[:_MOST_CLASSES], (0, 1))
    titles = [*confusion.classes, "missed"]
    names = [*confusion.classes, "background"]
    head = "".join(f"<th>{text(title)}</th>" for title in ["true, detected as", *titles])
    body = []
    for name, row in zip(names, confusion.matrix, strict=True):
        total = max(int(row.sum()), 1)
        cells = "".join(
            f'<td class="h{math.ceil(_SHADES * count / total)}">{count:,}</td>'
            for count in row.tolist()
        )
        body.append(f"<tr><td>{text(name)}</td>{cells}</tr>")
    return (
        f'<div class="scroll"><table id="confusion"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def gallery_section(gallery: Gallery) -> str:
    """Controls, and the pictures over which the script draws boxes."""
    if not gallery.pictures:
        return ""
    options = "".join(
        f'<option value="{index}">{text(name)}</option>'
        for index, name in enumerate(gallery.classes)
    )
    figures = "".join(
        '<figure class="picture"><div class="frame">'
        f'<img src="{each["source"]}" alt="{text(each["name"])}" width="{each["width"]}" '
        f'height="{each["height"]}">'
        f'<svg viewBox="0 0 {each["width"]} {each["height"]}"></svg></div>'
        f"<figcaption>{text(each['name'])}: {text(each['why'])}; "
        f'<span class="count">?</span> shown of {len(each["found"])}</figcaption></figure>'
        for each in gallery.pictures
    )
    return (
        '<div class="controls">'
        f'<label>Score from <input type="range" id="score" min="0" max="1" step="0.01" '
        f'value="{gallery.score:.2f}"><output id="shown-score" for="score"></output></label>'
        f'<label>Class <select id="class"><option value="">all</option>{options}</select></label>'
        '<label>Detections <select id="kind"><option value="">all</option>'
        '<option value="right">right</option><option value="wrong">wrong</option>'
        '<option value="ignored">ignored</option></select></label>'
        '<label><input type="checkbox" id="truth" checked> ground truth</label>'
        '<span><span id="total"></span> detections shown</span></div>'
        '<p class="faint"><span class="key truth"></span>ground truth '
        '<span class="key right"></span>right <span class="key wrong"></span>wrong, with its '
        'kind of error <span class="key ignored"></span>ignored, on a difficult object</p>'
        f'<div class="gallery">{figures}</div>'
    )


def data_section(audit: Mapping[str, Any] | None) -> str:
    """What an audit found, by the keys of its ``to_dict``."""
    if audit is None:
        return ""
    parts = []
    splits = audit.get("splits") or []
    if splits:
        keys = ("name", "images", "empty", "boxes", "difficult")
        rows = [tuple(each.get(key) for key in keys) for each in splits]
        parts.append(table(("split", *keys[1:]), [(row[0] or "all", *row[1:]) for row in rows]))
        names = list(dict.fromkeys(name for each in splits for name in each.get("classes", {})))
        counted = [(n, *(each.get("classes", {}).get(n, 0) for each in splits)) for n in names]
        titles = ("boxes of class", *((each.get("name") or "all") for each in splits))
        parts.append(table(titles, counted))
    for each in audit.get("findings", []):
        files = "".join(f"<li><code>{text(file)}</code></li>" for file in each.get("files", []))
        listed = f"<details><summary>Files</summary><ul>{files}</ul></details>" if files else ""
        parts.append(
            f'<p><span class="severity">{text(each.get("severity", ""))}</span>: '
            f"{text(each.get('sentence', ''))}</p>{listed}"
        )
    if not audit.get("findings"):
        parts.append("<p>Nothing is wrong with the data.</p>")
    return "".join(parts)


def settings_section(
    config: Mapping[str, Any], environment: Mapping[str, str], timing: Mapping[str, str]
) -> str:
    """The configuration, what it ran on and how long things took."""
    return "".join(
        f"<h3>{title}</h3>" + table(("", ""), list(rows.items()), (0, 1))
        for title, rows in (
            ("Timing", timing),
            ("Configuration", {k: "left out" if v is None else str(v) for k, v in config.items()}),
            ("Environment", environment),
        )
        if rows
    )
