"""TIDE as its authors wrote it: tidecv (Bolya et al., MIT).

Its requirement opencv-python overwrites opencv-python-headless, and only its plots need that and
the rest: it is installed alone, and its plots are left out here.
"""

from __future__ import annotations

import sys
from types import ModuleType

from required import lacking


def tide_gains(detections, samples, classes) -> dict[str, float]:
    """AP50 and what mending each kind of error adds, all 0..100, by tidecv's short names."""
    for part in ("plotting", "datasets"):
        stand_in = ModuleType(f"tidecv.{part}")
        stand_in.Plotter = object  # type: ignore[attr-defined]
        sys.modules.setdefault(f"tidecv.{part}", stand_in)
    try:
        import tidecv
    except ImportError:
        lacking("tidecv is missing. Install it: pip install --no-deps tidecv==1.0.1")
    truth, found = tidecv.Data("truth"), tidecv.Data("found")
    for label, name in enumerate(classes):
        truth.add_class(label, name)
    for image, (each, sample) in enumerate(zip(detections, samples, strict=True)):
        truth.add_image(image, str(image))
        found.add_image(image, str(image))
        for box, label, hard in zip(
            xywh(sample.boxes), sample.labels, sample.difficult, strict=True
        ):
            add = truth.add_ignore_region if hard else truth.add_ground_truth
            add(image, int(label), box)
        for box, label, score in zip(xywh(each.boxes), each.labels, each.scores, strict=True):
            found.add_detection(image, int(label), float(score), box)
    run = tidecv.TIDE().evaluate(truth, found, mode=tidecv.TIDE.BOX)
    gains = {kind.short_name: gain for kind, gain in run.fix_main_errors().items()}
    special = {kind.short_name: gain for kind, gain in run.fix_special_errors().items()}
    return {"ap50": run.ap, **gains, **special}


def xywh(boxes):
    corners = boxes.astype(float)
    corners[:, 2:] -= corners[:, :2]
    return corners.tolist()
