"""How many boxes a detector returns, by the pictures that it is trained for."""

from __future__ import annotations

import math
from dataclasses import replace

from frcnn.data.dataset import trained_on
from frcnn.models.detector import DetectionRule
from frcnn.models.faster_rcnn import FasterRCNN
from frcnn.models.rpn import ProposalRule
from frcnn.training.splits import Splits

_SPARE = 1.25  # boxes returned, to the objects of the most crowded picture
_PROPOSALS = 3  # to a box returned, at least


def make_room(
    network: FasterRCNN, rule: DetectionRule, splits: Splits
) -> tuple[DetectionRule, str | None]:
    """Let a network propose, and a detector return, enough boxes for the most crowded picture.

    Args:
        network: its rule of proposals in use is changed.
        rule: which boxes the preset's detector returns.
        splits: the data; a picture's difficult objects do not count.

    Returns:
        The rule, and a sentence where the preset's was too narrow, else None.
    """
    samples = [*splits.train, *(splits.validation or ())]
    most = max((int(trained_on(sample).sum()) for sample in samples), default=0)
    rpn = network.rpn
    wider, rpn.inference_rule = enough_boxes(rule, rpn.inference_rule, most)
    if wider == rule:
        return rule, None
    return wider, (
        f"an image has up to {most:,} objects, so the detector will return up to {wider.count:,} "
        f"boxes for one, of {rpn.inference_rule.after_nms:,} proposals."
    )


def enough_boxes(
    rule: DetectionRule, proposals: ProposalRule, most: int
) -> tuple[DetectionRule, ProposalRule]:
    """Both rules, or wider ones where they leave too few boxes for so many objects.

    Those leave a quarter to spare, in hundreds, but no more than enter NMS, and have three
    proposals for each box.
    """
    count = min(100 * math.ceil(most * _SPARE / 100), rule.candidates)
    if count <= rule.count:
        return rule, proposals
    after = max(proposals.after_nms, _PROPOSALS * count)
    before = max(proposals.before_nms, after)
    return replace(rule, count=count), ProposalRule(before, after)
