"""Everything that can be said of a detector from what it found: tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from frcnn.evaluation.calibration import Calibration, best_score, calibrate, object_ranking
from frcnn.evaluation.confusion import Confusion, confusion_matrix
from frcnn.evaluation.errors import Errors, find_errors
from frcnn.evaluation.evaluate import Evaluation, evaluate_detections
from frcnn.evaluation.greedy import enough, greedy_match, quick_ap
from frcnn.evaluation.limits import find_limits
from frcnn.evaluation.matching import pairwise_iou, relabel
from frcnn.evaluation.measured import Channels, Limit, Measured, Shared
from frcnn.evaluation.plain import plain
from frcnn.evaluation.probes import find_relabelling, find_shift, without_classes
from frcnn.evaluation.proposals import AnchorFit, ProposalRecall, proposal_recall
from frcnn.evaluation.tables import (
    classes_table,
    crowding_table,
    curves_of,
    mistakes_table,
    sizes_table,
    worst_table,
)
from frcnn.structures import Detections, Sample


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known beside the detections; None is unknown.

    Args:
        proposals: of each picture the boxes that the RPN proposes, with scores, or None for a
            picture left out; in pixels of the original.
        anchors: how the anchors fit the objects.
        channels: how the detector does with red and blue exchanged.
        shared: images that were trained on.
        run: what was asked for the images that it was trained on.
    """

    proposals: Sequence[Detections | None] | None = None
    anchors: AnchorFit | None = None
    channels: Channels | None = None
    shared: Shared | None = None
    run: str | None = None


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What limits a detector, and the tables behind it. Figures are 0..1, NaN where undefined.

    ``print(diagnosis)`` shows the sentences and short tables; `to_dict` gives all as plain values.

    Args:
        limits: what limits it, the worst first.
        score: the score with the highest F1; ``confusion`` and ``worst`` are of it.
        f1: that F1.
        errors: TIDE's decomposition.
        confusion: with background.
        calibration: of all detections, right being IoU 0.5 with the class right.
        sizes: "small", "medium", "large" -> ``AP``, ``objects``.
        crowding: objects in a picture -> ``AP``, ``images``, ``objects``.
        curves: class name -> ``recall`` and ``precision`` at IoU 0.5, 101 points of the envelope.
        per_class: class name -> ``AP``, ``AP50``, ``objects``, ``detections``.
        worst: pictures with most objects missed and false detections: ``image``, ``missed``,
            ``false``, ``found``.
        mistakes: the most confident wrong detections: ``image``, ``box``, ``class``, ``score``,
            ``kind``.
        proposals: of the RPN, or None where they are unknown.
        evidence: what was known beside the detections.
        evaluation: the usual scores.
    """

    limits: tuple[Limit, ...]
    score: float
    f1: float
    errors: Errors
    confusion: Confusion
    calibration: Calibration
    sizes: dict[str, dict[str, float]]
    crowding: dict[str, dict[str, float]]
    curves: dict[str, dict[str, list[float]]] = field(repr=False)
    per_class: dict[str, dict[str, float]]
    worst: list[dict[str, Any]] = field(repr=False)
    mistakes: list[dict[str, Any]] = field(repr=False)
    proposals: ProposalRecall | None
    evidence: Evidence = field(repr=False)
    evaluation: Evaluation = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None.

        Keys: ``sentences`` [text]; ``limits`` [{kind, sentence, setting, cost}]; ``score``,
        ``f1``; ``errors`` {ap50, gains {kind: AP50}, false_positives, false_negatives, counts};
        ``confusion`` {matrix, classes, score}; ``calibration`` {error, bias, ranking, spread,
        bins [{from, count, score, right}]}; ``sizes``, ``crowding``, ``per_class``, ``curves``,
        ``worst``, ``mistakes`` as the arguments; ``proposals`` {recall {count: {size: share}},
        average {count: share}, objects {size: count}, images, ranking} or None; ``anchors``
        {mean_iou, fitting, best_factor, best_mean_iou, object_side, smallest, largest} or None;
        ``channels`` {images, ap, swapped_ap, sure} or None; ``shared`` {shared, images, examples}
        or None.
        """
        known = self.evidence
        values = {
            "sentences": [str(limit) for limit in self.limits],
            "limits": [limit.to_dict() for limit in self.limits],
            "score": self.score,
            "f1": self.f1,
            "errors": self.errors.to_dict(),
            "confusion": self.confusion.to_dict(),
            "calibration": self.calibration.to_dict(),
            "sizes": self.sizes,
            "crowding": self.crowding,
            "per_class": self.per_class,
            "curves": self.curves,
            "worst": self.worst,
            "mistakes": self.mistakes,
            "proposals": self.proposals and self.proposals.to_dict(),
            "anchors": known.anchors and vars(known.anchors),
            "channels": known.channels and vars(known.channels),
            "shared": known.shared and vars(known.shared),
        }
        return plain(values)

    @property
    def score_in_words(self) -> str:
        """The score that the confusion matrix is made at, and how it was chosen."""
        known = self.f1 > 0
        why = f", where F1 is highest ({self.f1:.3f})" if known else ", as none has a best F1"
        return f"score {self.score:.2f}{why}"

    def __str__(self) -> str:
        from frcnn.evaluation.diagnosis_text import describe

        return describe(self)


def diagnose_detections(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    classes: Sequence[str],
    evidence: Evidence | None = None,
) -> Diagnosis:
    """Find out what limits a detector.

    Args:
        detections: what it found, one entry a picture, in the order of ``samples``.
        samples: the pictures with their ground truth.
        classes: the names the labels of ``samples`` index.
        evidence: what else is known.

    Raises:
        ValueError: detections that do not fit the samples.
    """
    evidence = evidence or Evidence()
    evaluation = evaluate_detections(detections, samples, classes)
    found = [relabel(each, classes) for each in detections]
    matches = greedy_match(found, samples, [0.5], enough(samples))
    counted = ~matches.ignored[0]
    scores, right = matches.scores[counted], matches.right[0][counted]
    threshold, f1 = best_score(scores, right, evaluation.boxes)
    threshold = 0.5 if math.isnan(threshold) else threshold
    measured = _measure(evaluation, found, samples, threshold, evidence)
    return Diagnosis(
        limits=find_limits(measured),
        score=threshold,
        f1=f1,
        errors=measured.errors,
        confusion=measured.confusion,
        calibration=measured.calibration,
        sizes=sizes_table(evaluation, samples),
        crowding=crowding_table(found, samples, len(classes)),
        curves=curves_of(evaluation),
        per_class=classes_table(evaluation),
        worst=worst_table(matches, samples, threshold),
        mistakes=mistakes_table(measured.errors, found, samples),
        proposals=measured.proposals,
        evidence=evidence,
        evaluation=evaluation,
    )


def _measure(
    evaluation: Evaluation,
    found: Sequence[Detections],
    samples: Sequence[Sample],
    threshold: float,
    evidence: Evidence,
) -> Measured:
    """All that the sentences need; ``found`` is labelled as the samples are."""
    classes = tuple(evaluation.per_class)
    errors = find_errors(found, samples, classes)
    everything = confusion_matrix(found, samples, classes, 0.0)
    proposals, unproposed = _measure_proposals(evidence.proposals, samples, errors)
    sizes = sizes_table(evaluation, samples)
    matches = greedy_match(found, samples, [0.5], enough(samples))
    counted = ~matches.ignored[0]
    return Measured(
        ap=evaluation.coco["AP"],
        sizes={name: (row["AP"], int(row["objects"])) for name, row in sizes.items()},
        objects=evaluation.boxes,
        detections=int(counted.sum()),
        errors=errors,
        confusion=confusion_matrix(found, samples, classes, threshold),
        calibration=calibrate(matches.scores[counted], matches.right[0][counted]),
        object_ranking=_object_ranking(found, samples),
        association=everything.association(),
        one_class_ap50=quick_ap(*without_classes(found, samples), 1, [0.5]),
        relabelling=find_relabelling(everything, found, samples),
        shift=find_shift(found, samples, len(classes)),
        unknown_classes={
            name: evaluation.per_class[name]["boxes"] for name in evaluation.unknown_classes
        },
        unproposed=unproposed,
        proposals=proposals,
        anchors=evidence.anchors,
        channels=evidence.channels,
        shared=evidence.shared,
    )


def _object_ranking(found: Sequence[Detections], samples: Sequence[Sample]) -> float:
    scores, best = [np.zeros(0)], [np.zeros(0)]
    for each, sample in zip(found, samples, strict=True):
        scores.append(each.scores)
        best.append(pairwise_iou(each.boxes, sample.boxes).max(axis=1, initial=0.0))
    return object_ranking(np.concatenate(scores), np.concatenate(best))


def _measure_proposals(
    proposals: Sequence[Detections | None] | None, samples: Sequence[Sample], errors: Errors
) -> tuple[ProposalRecall | None, float]:
    """The recall, and the share of the missed objects that no proposal covers."""
    if proposals is None:
        return None, float("nan")
    known = [(p, s) for p, s in zip(proposals, samples, strict=True) if p is not None]
    recall = proposal_recall([p for p, _ in known], [s for _, s in known])
    counts = [len(sample.boxes) for sample in samples]
    asked = np.repeat([proposal is not None for proposal in proposals], counts)
    covered = np.zeros(len(asked), bool)
    covered[asked] = recall.covered
    missed = errors.missed[asked[errors.missed]]
    return recall, float((~covered[missed]).mean()) if len(missed) else float("nan")
