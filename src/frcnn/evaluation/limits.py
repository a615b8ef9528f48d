"""Sentences: what limits a detector, the worst first, and the setting that addresses it.

Faults of the whole, such as labels in another order, come before errors of single detections: they
explain these. A fault that was mended for trial, and with it most of AP came back, comes before all
that may follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isnan

from frcnn.evaluation.faults import faults
from frcnn.evaluation.measured import Limit, Measured
from frcnn.evaluation.naming import shown

DECISIVE = 0.5  # times the AP there is, by mending a fault
LEAST_COST = 0.005  # of AP50; errors that cost less are not worth a sentence
UNSURE = 0.1  # calibration error


def find_limits(measured: Measured) -> tuple[Limit, ...]:
    """All limits: faults of the whole by what they cost, then the errors by what they cost."""
    if not measured.objects:
        text = "There is no object to find in these images, so nothing can be said."
        return (Limit("no_objects", text, "Name a data set with objects.", 0.0),)

    def by_cost(limits: Iterable[Limit]) -> list[Limit]:
        return sorted(limits, key=lambda limit: -limit.cost)

    whole = list(faults(measured))
    proven = {"labels", "shift", "channels"}
    decisive = [f for f in whole if f.kind in proven and f.cost >= DECISIVE * measured.ap]
    others = [fault for fault in whole if fault not in decisive]
    limits = [*by_cost(decisive), *by_cost(others), *by_cost(_errors(measured))]
    if not limits:
        text = f"Nothing stands out: AP is {measured.ap:.3f}, and no kind of error costs much."
        limits = [Limit("none", text, "More and more varied images may help.", 0.0)]
    return tuple(limits)


def _errors(of: Measured) -> Iterator[Limit]:
    gains, counts = of.errors.gains, of.errors.counts
    for kind, (what, setting) in _KINDS.items():
        if gains[kind] >= LEAST_COST:
            sentence = f"{what.format(count=counts[kind])} costs {gains[kind]:.3f} of AP50"
            sentence += _detail(kind, of) + "."
            yield Limit(kind, sentence, _setting(kind, setting, of), gains[kind])
    small, large = of.sizes["small"], of.sizes["large"]
    if small[1] and large[1] and small[0] < large[0]:
        cost = (large[0] - small[0]) * small[1] / of.objects
        if cost >= LEAST_COST:
            yield Limit(
                "small_objects",
                f"Small objects are found less well: AP {small[0]:.3f} below 32 x 32 pixels "
                f"({small[1]:,} objects), {large[0]:.3f} above 96 x 96.",
                "Train at a larger --size, or cut the pictures into tiles.",
                cost,
            )
    scores = of.calibration
    if scores.error >= UNSURE:
        how = "high" if scores.bias > 0 else "low"
        right = any(each["count"] and each["right"] > 0 for each in scores.bins)
        yield Limit(
            "calibration",
            f"The scores are too {how}: they are off by {scores.error:.2f} on average from the "
            "share of detections that are right.",
            f"Keep detections from score {of.confusion.score:.2f} on, where F1 is highest."
            if right
            else "No detection is right, so no score to keep them from is good.",
            0.0,
        )


_KINDS = {
    "classification": (
        "Taking objects for another class ({count:,} detections)",
        "Check how these classes are labelled; show rare ones more often (--rare 0.1).",
    ),
    "localisation": (
        "Placing boxes inexactly ({count:,} detections with IoU 0.1 to 0.5)",
        "Train longer or at a larger --size; a cascade (--preset resnet50_fpn_cascade) is made "
        "for exact boxes.",
    ),
    "both": (
        "Wrong class and inexact box at once ({count:,} detections)",
        "Train longer, on more images.",
    ),
    "duplicate": (
        "Finding objects twice ({count:,} detections)",
        "Lower the NMS threshold, by the lines of Python in docs/troubleshooting.md.",
    ),
    "background": (
        "Detecting background ({count:,} detections)",
        "Look at the most confident mistakes: they may be objects without a label. If not, add "
        "images without objects to the training data.",
    ),
    "missed": ("Missing objects ({count:,})", "Train longer, on more images of such objects."),
}


def _detail(kind: str, of: Measured) -> str:
    if kind == "classification" and of.confusion.pairs():
        true, detected, count = of.confusion.pairs()[0]
        return f"; most often {shown(true)} is taken for {shown(detected)} ({count:,} of them)"
    if kind == "missed" and not isnan(of.unproposed):
        return f"; {of.unproposed:.0%} of them are covered by no proposal"
    return ""


def _setting(kind: str, setting: str, of: Measured) -> str:
    if kind == "missed" and of.unproposed > 0.5:
        return "Train at a larger --size, or with anchors that fit these objects (frcnn audit)."
    return setting
