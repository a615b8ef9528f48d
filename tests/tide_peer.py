"""TIDE as its authors wrote it: tidecv (Bolya et al., MIT).

Its requirement opencv-python overwrites opencv-python-headless, so it is no requirement of ours,
and its figures are kept in evaluation/tidecv.json. Where it is installed (`pip install --no-deps
tidecv==1.0.1` is enough, as only its plots need the rest) the figures are made again and must be
those kept; FRCNN_TIDECV=write keeps new ones.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

KEPT = Path(__file__).parent / "evaluation" / "tidecv.json"


def tide_gains(case: str, detections, samples, classes) -> dict[str, float]:
    """AP50 and what mending each kind of error adds, all 0..100, by tidecv's short names.

    Args:
        case: under which the figures are kept.
        detections: of each picture.
        samples: the pictures.
        classes: their names.
    """
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if find_spec("tidecv") is None:
        return kept[case]
    found = _by_tidecv(detections, samples, classes)
    if os.environ.get("FRCNN_TIDECV") == "write":
        kept[case] = {name: round(float(gain), 6) for name, gain in found.items()}
        KEPT.write_text(json.dumps(kept, indent=0) + "\n")
    assert found == pytest.approx(kept[case], abs=1e-5)
    return found


def _by_tidecv(detections, samples, classes) -> dict[str, float]:
    for part in ("plotting", "datasets"):
        stand_in = ModuleType(f"tidecv.{part}")
        stand_in.Plotter = object  # type: ignore[attr-defined]
        sys.modules.setdefault(f"tidecv.{part}", stand_in)
    import tidecv

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
