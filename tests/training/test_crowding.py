"""A detector returns enough boxes for the most crowded picture of its data."""

import io

import pytest
from rich.console import Console

import frcnn
from frcnn.models.detector import DetectionRule
from frcnn.models.rpn import ProposalRule
from frcnn.training import crowding
from frcnn.training.crowding import enough_boxes
from tiny import write_voc


@pytest.mark.parametrize(
    ("most", "count", "before", "after"),
    [
        (0, 100, 150, 150),
        (80, 100, 150, 150),
        (81, 200, 600, 600),
        (147, 200, 600, 600),
        (718, 900, 2700, 2700),
        (10_000, 3000, 9000, 9000),
    ],
)
def test_a_quarter_to_spare_in_hundreds(most, count, before, after):
    rule, proposals = DetectionRule(score=0.01), ProposalRule(150, 150)
    wider, more = enough_boxes(rule, proposals, most)
    assert (wider.count, wider.score, wider.candidates) == (count, 0.01, 3000)
    assert more == ProposalRule(before, after)
    assert enough_boxes(wider, more, most) == (wider, more)


def test_what_suffices_stays():
    rule, proposals = DetectionRule(count=300), ProposalRule(6000, 1000)
    assert enough_boxes(rule, proposals, 240) == (rule, proposals)
    assert enough_boxes(rule, proposals, 250)[1] == ProposalRule(6000, 1200)


def test_a_training_on_crowded_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(crowding, "_SPARE", 100.0)  # of two objects
    data = write_voc(tmp_path / "voc", 4)
    console = Console(file=io.StringIO(), width=200)
    settings = {"size": 64, "epochs": 1, "batch": 2, "val_split": "none", "samples_every": 0}
    run = frcnn.train(frcnn.Config(str(data), out=str(tmp_path / "run"), **settings), console)
    assert "up to 2 objects, so the detector will return up to 200 boxes for one, of 600" in (
        console.file.getvalue()
    )
    model = frcnn.load(run.folder).model
    assert (model.rule.count, model.network.rpn.inference_rule) == (200, ProposalRule(1000, 600))
    assert model.network.rpn.training_rule == ProposalRule(1000, 500)  # the preset's
