"""Sentences: what limits a detector, the worst first, and the setting that addresses it.

Faults of the whole, such as labels in another order, come before errors of single detections: they
explain these. Each is told by a measurement of its own, whose least value is stated here. A fault
that was mended for trial, and with it most of AP came back, comes before all that may follow from
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isnan

from frcnn.errors import printable
from frcnn.evaluation.calibration import Calibration
from frcnn.evaluation.confusion import Confusion
from frcnn.evaluation.errors import Errors
from frcnn.evaluation.probes import Relabelling, Shift
from frcnn.evaluation.proposals import AnchorFit, ProposalRecall

DECISIVE = 0.5  # times the AP there is, by mending a fault
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
LEAST_COST = 0.005  # of AP50; errors that cost less are not worth a sentence
UNSURE = 0.1  # calibration error


@dataclass(frozen=True)
class Limit:
    """One thing that limits a detector, or the trust in its figures.

    Args:
        kind: what it is, in one word that does not change.
        sentence: what was measured.
        setting: what addresses it.
        cost: about how much AP it costs, 0..1.
    """

    kind: str
    sentence: str
    setting: str
    cost: float

    def to_dict(self) -> dict:
        """Plain values, by the names of the arguments."""
        return {
            "kind": self.kind,
            "sentence": self.sentence,
            "setting": self.setting,
            "cost": self.cost,
        }

    def __str__(self) -> str:
        return f"{self.sentence} {self.setting}"


@dataclass(frozen=True)
class Channels:
    """How a detector does on pictures with red and blue exchanged.

    Args:
        images: pictures tried.
        ap: COCO's AP on them as they are, 0..1.
        swapped_ap: with the channels exchanged.
        sure: whether the difference is beyond chance.
    """

    images: int
    ap: float
    swapped_ap: float
    sure: bool


@dataclass(frozen=True)
class Shared:
    """Images that were trained on among those measured on.

    Args:
        shared: how many.
        images: of so many.
        examples: names of the first of them.
    """

    shared: int
    images: int
    examples: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """What the sentences are made from; None is unknown.

    Args:
        ap: COCO's AP, 0..1.
        sizes: "small", "medium", "large" -> (AP, objects).
        objects: to find.
        detections: received.
        errors: TIDE's.
        confusion: at the score with the highest F1.
        calibration: of all detections.
        object_ranking: probability that a detection on an object is scored above one beside all.
        association: of the classes detected with the true ones, whatever the score.
        one_class_ap50: AP50 as if there were but one class.
        relabelling: names under which detections would fit.
        shift: by how much boxes are off.
        unknown_classes: class -> objects, of those that the detector does not know.
        unproposed: share of the missed objects that no proposal covers.
        proposals: of the RPN.
        anchors: how they fit.
        channels: with red and blue exchanged.
        shared: images that were trained on.
    """

    ap: float
    sizes: dict[str, tuple[float, int]]
    objects: int
    detections: int
    errors: Errors
    confusion: Confusion
    calibration: Calibration
    object_ranking: float
    association: float
    one_class_ap50: float
    relabelling: Relabelling | None
    shift: Shift | None
    unknown_classes: dict[str, int]
    unproposed: float
    proposals: ProposalRecall | None
    anchors: AnchorFit | None
    channels: Channels | None
    shared: Shared | None


def find_limits(measured: Measured) -> tuple[Limit, ...]:
    """All limits: faults of the whole by what they cost, then the errors by what they cost."""
    if not measured.objects:
        text = "There is no object to find in these images, so nothing can be said."
        return (Limit("no_objects", text, "Name a data set with objects.", 0.0),)

    def by_cost(limits: Iterable[Limit]) -> list[Limit]:
        return sorted(limits, key=lambda limit: -limit.cost)

    faults = list(_faults(measured))
    proven = {"labels", "shift", "channels"}
    decisive = [f for f in faults if f.kind in proven and f.cost >= DECISIVE * measured.ap]
    others = [fault for fault in faults if fault not in decisive]
    limits = [*by_cost(decisive), *by_cost(others), *by_cost(_errors(measured))]
    if not limits:
        text = f"Nothing stands out: AP is {measured.ap:.3f}, and no kind of error costs much."
        limits = [Limit("none", text, "More and more varied images may help.", 0.0)]
    return tuple(limits)


def _faults(of: Measured) -> Iterator[Limit]:
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
        yield Limit(
            "unknown_classes",
            f"The detector does not know {_names(list(of.unknown_classes))}: {lost:,} of "
            f"{of.objects:,} objects cannot be found.",
            "Name the classes as in training, or train on data that have them.",
            lost / of.objects,
        )


def _proposals(of: Measured) -> Iterator[Limit]:
    if of.proposals is None:
        return
    most = max(of.proposals.recall)
    recall, small = of.proposals.recall[most]["all"], of.proposals.recall[most]["small"]
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
        pairs = [f"{ours!r} is {true!r}" for ours, true in other.names.items()]
        yield Limit(
            "labels",
            f"The class labels are in another order than the detector's: what it calls "
            f"{_listed(pairs)}. With the names put right AP would be {other.ap:.3f} instead of "
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
    shown = [text for text, size in ((across, by.x), (down, by.y)) if abs(size) >= LEAST_SHIFT / 2]
    yield Limit(
        "shift",
        f"The boxes are shifted: they lie {' and '.join(shown)}. Moved back, AP would be "
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


def _scores(of: Measured) -> Iterator[Limit]:
    gain = of.errors.false_positives
    proposed = of.proposals.recall[max(of.proposals.recall)]["all"] if of.proposals else None
    covered = f" The proposals cover {proposed:.0%} of them." if proposed is not None else ""
    if of.detections < FEW * of.objects:
        yield Limit(
            "nothing_found",
            f"Hardly anything is scored above the detector's threshold: {of.detections:,} "
            f"detections for {of.objects:,} objects.{covered}",
            "Train the classification head (longer, or with a higher --lr), on data like these.",
            0.1,
        )
    elif (_flat(of) or of.object_ranking < POOR_RANKING) and gain > CLEAR_GAIN:
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
        yield Limit(
            "calibration",
            f"The scores are too {how}: they are off by {scores.error:.2f} on average from the "
            "share of detections that are right.",
            f"Keep detections from score {of.confusion.score:.2f} on, where F1 is highest.",
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
        "Lower the NMS threshold (DetectionRule's iou_threshold).",
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
        return f"; most often {_shown(true)} is taken for {_shown(detected)} ({count:,} of them)"
    if kind == "missed" and not isnan(of.unproposed):
        return f"; {of.unproposed:.0%} of them are covered by no proposal"
    return ""


def _setting(kind: str, setting: str, of: Measured) -> str:
    if kind == "missed" and of.unproposed > 0.5:
        return "Train at a larger --size, or with anchors that fit these objects (frcnn audit)."
    return setting


def _shown(name: str) -> str:
    return printable(repr(name if len(name) <= 60 else name[:57] + "..."))


def _names(names: list[str]) -> str:
    return _listed([_shown(name) for name in names])


def _listed(parts: list[str], most: int = 5) -> str:
    shown = ", ".join(parts[:most])
    return f"{shown} and {len(parts) - most} more" if len(parts) > most else shown
