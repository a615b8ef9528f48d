"""Faults of the whole, such as labels in another order, each told by a measurement of its own.

The least values of these are stated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, nan

from frcnn.errors import printable
from frcnn.evaluation.measured import Limit, Measured
from frcnn.evaluation.naming import listed, shown
from frcnn.evaluation.proposals import AnchorFit

CLEAR_GAIN = 0.03  # of AP, and a tenth of what there is, by mending a fault of the whole
LEAST_SHIFT = 1.0  # pixels
MISFIT = 2.0  # times too large or too small are anchors that do not fit
MISFIT_GAIN = 0.15  # of the mean IoU with the best anchor
POOR_RECALL = 0.7  # of proposals
FLAT = 0.25  # standard deviation of scores over their mean
POOR_RANKING = 0.65
POOR_ASSOCIATION = 0.3
LOST_CLASSES = 0.1  # of AP50, by wrong classes
FEW = 0.05  # detections for each object
LEAKED = 0.1  # what figures on images that were trained on are taken to be too high by


def faults(of: Measured) -> Iterator[Limit]:
    """Those that are seen, in no order."""
    yield from _unknown_classes(of)
    yield from _proposals(of)
    yield from _labels(of)
    yield from _shift(of)
    yield from _channels(of)
    yield from _scores(of)
    yield from _training_images(of)


def _clear(gain: float, ap: float) -> bool:
    return gain >= max(CLEAR_GAIN, ap / 10)


def _unknown_classes(of: Measured) -> Iterator[Limit]:
    if of.unknown_classes:
        lost = sum(of.unknown_classes.values())
        names = listed([shown(name) for name in of.unknown_classes])
        yield Limit(
            "unknown_classes",
            f"The detector does not know {names}: {lost:,} of {of.objects:,} objects cannot be "
            "found.",
            "Name the classes as in training, or train on data that have them.",
            lost / of.objects,
        )


def _proposals(of: Measured) -> Iterator[Limit]:
    if of.proposals is None:
        return
    most = max(of.proposals.recall)
    recall, small = of.proposals.recall[most]["all"], of.proposals.recall[most]["small"]
    if isnan(recall):  # none was looked at where there is an object
        return
    covered = f"{most:,} proposals an image cover {recall:.0%} of the objects"
    if not isnan(small) and small < recall:
        covered += f", {small:.0%} of the small ones"
    fit, weak = of.anchors, recall < 0.95 or of.errors.ap50 < 0.8
    if fit and weak and _misfit(fit):
        wrong, other = ("large", "smaller") if fit.best_factor < 1 else ("small", "larger")
        times = max(fit.best_factor, 1 / fit.best_factor)
        yield Limit(
            "anchors",
            f"The anchors are too {wrong}: the objects' median side is {fit.object_side:.0f} "
            f"pixels in the network, the anchors' are {fit.smallest:.0f} to {fit.largest:.0f}, and "
            f"{fit.fitting:.0%} of the objects have one of IoU 0.5 or more; {covered}.",
            f"Use anchors about {times:.1f} times {other} (AnchorGrid's sizes), or train at "
            f"a {'larger' if fit.best_factor < 1 else 'smaller'} --size.",
            max(1 - recall, (fit.best_mean_iou - fit.mean_iou) / 2),
        )
    elif of.proposals.ranking < POOR_RANKING and of.errors.ap50 < 0.8:
        few = min(of.proposals.recall)
        yield Limit(
            "objectness",
            f"The first stage does not tell objects from background: a proposal on an object is "
            f"above one beside all in {of.proposals.ranking:.0%} of cases, where 50% is chance; "
            f"{few:,} proposals an image cover {of.proposals.recall[few]['all']:.0%} of the "
            f"objects, {covered}.",
            "The objectness of the RPN is not trained: check that it is not frozen, its learning "
            "rate, and that its weights were loaded.",
            1 - of.errors.ap50,
        )
    elif recall < POOR_RECALL:
        yield Limit(
            "proposals",
            f"The region proposals miss the objects: {covered}.",
            "Train longer, at a larger --size if the objects are small; compare the anchors with "
            "the objects (frcnn audit).",
            1 - recall,
        )


def _misfit(fit: AnchorFit) -> bool:
    far = fit.best_factor <= 1 / MISFIT or fit.best_factor >= MISFIT
    return far and fit.best_mean_iou - fit.mean_iou >= MISFIT_GAIN


def _labels(of: Measured) -> Iterator[Limit]:
    other = of.relabelling
    if other and _clear(other.ap - of.ap, of.ap):
        pairs = [f"{shown(ours)} is {shown(true)}" for ours, true in other.names.items()]
        yield Limit(
            "labels",
            f"The class labels are in another order than the detector's: what it calls "
            f"{listed(pairs)}. With the names put right AP would be {other.ap:.3f} instead of "
            f"{of.ap:.3f}.",
            "Check the list of classes (class ids, names, their order) in training and here.",
            other.ap - of.ap,
        )
        return
    lost = of.one_class_ap50 - of.errors.ap50
    if lost >= LOST_CLASSES and of.association < POOR_ASSOCIATION and not _flat(of):
        yield Limit(
            "random_labels",
            f"The classes are not told apart, as if the labels had been shuffled: the class "
            f"detected says little about the true one "
            f"(association {of.association:.2f} of 1). If there were but one class, AP50 would be "
            f"{of.one_class_ap50:.3f} instead of {of.errors.ap50:.3f}.",
            "Check the labels of the training data, and those here, for a mix-up of classes; if "
            "they are right, train longer.",
            lost,
        )


def _shift(of: Measured) -> Iterator[Limit]:
    by = of.shift
    if by is None or max(abs(by.x), abs(by.y)) < LEAST_SHIFT or not _clear(by.ap - of.ap, of.ap):
        return
    across = f"{abs(by.x):.1f} pixels too far to the {'right' if by.x > 0 else 'left'}"
    down = f"{abs(by.y):.1f} pixels too {'low' if by.y > 0 else 'high'}"
    parts = [text for text, size in ((across, by.x), (down, by.y)) if abs(size) >= LEAST_SHIFT / 2]
    yield Limit(
        "shift",
        f"The boxes are shifted: they lie {' and '.join(parts)}. Moved back, AP would be "
        f"{by.ap:.3f} instead of {of.ap:.3f}.",
        "Check how boxes are converted, padded or cropped, in the labels and after detection.",
        by.ap - of.ap,
    )


def _channels(of: Measured) -> Iterator[Limit]:
    tried = of.channels
    if tried and tried.sure and _clear(tried.swapped_ap - tried.ap, tried.ap):
        yield Limit(
            "channels",
            f"Red and blue are exchanged: with the channels of the pictures swapped (BGR for RGB), "
            f"AP is {tried.swapped_ap:.3f} instead of {tried.ap:.3f} on {tried.images} images.",
            "Hand over pictures as RGB; OpenCV's are BGR. Check the weights' first layer too.",
            tried.swapped_ap - tried.ap,
        )


def _flat(of: Measured) -> bool:
    scores = of.calibration
    means = [each["count"] * each["score"] for each in scores.bins if each["count"]]
    return of.detections > 0 and scores.spread < FLAT * sum(means) / of.detections


def _poorly_scored(of: Measured) -> bool:
    if isnan(of.object_ranking):  # no box on an object, or none beside all
        return _flat(of)
    return of.object_ranking < POOR_RANKING


def _scores(of: Measured) -> Iterator[Limit]:
    gain = of.errors.false_positives
    proposed = of.proposals.recall[max(of.proposals.recall)]["all"] if of.proposals else nan
    covered = "" if isnan(proposed) else f" The proposals cover {proposed:.0%} of them."
    if of.detections < FEW * of.objects:
        yield Limit(
            "nothing_found",
            f"Hardly anything is scored above the detector's threshold: {of.detections:,} "
            f"detections for {of.objects:,} objects.{covered}",
            "Train the classification head (longer, or with a higher --lr), on data like these.",
            0.1,
        )
    elif _poorly_scored(of) and gain > CLEAR_GAIN:
        spread = f"they spread by {of.calibration.spread:.3f}"
        ranked = (
            ""
            if isnan(of.object_ranking)
            else f", and one on an object is above one beside all in {of.object_ranking:.0%} of "
            "cases, where 50% is chance"
        )
        yield Limit(
            "scores",
            f"The scores do not tell right from wrong: {spread}{ranked}.{covered} With all wrong "
            f"detections scored last, AP50 would be {of.errors.ap50 + gain:.3f} instead of "
            f"{of.errors.ap50:.3f}.",
            "The classification head is not trained: check that it is not frozen, its learning "
            "rate, and that its weights were loaded.",
            gain,
        )


def _training_images(of: Measured) -> Iterator[Limit]:
    if of.shared and of.shared.shared:
        share = of.shared.shared / of.shared.images
        yield Limit(
            "training_images",
            f"{of.shared.shared:,} of the {of.shared.images:,} images were trained on "
            f"({', '.join(printable(name) for name in of.shared.examples)}), so the figures are "
            "too high.",
            "Evaluate on images that the training has not seen: --split test or val.",
            LEAKED * share,
        )
