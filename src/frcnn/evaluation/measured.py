"""What the sentences on a detector's limits are made from, and what they are."""

from __future__ import annotations

from dataclasses import dataclass

from frcnn.evaluation.calibration import Calibration
from frcnn.evaluation.confusion import Confusion
from frcnn.evaluation.errors import Errors
from frcnn.evaluation.probes import Relabelling, Shift
from frcnn.evaluation.proposals import AnchorFit, ProposalRecall


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
