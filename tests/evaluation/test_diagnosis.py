"""Each fault put into sound detections is named first."""

import json

import numpy as np
import pytest

from frcnn.evaluation.diagnosis import Evidence, diagnose_detections
from frcnn.evaluation.measured import Channels, Shared
from frcnn.evaluation.proposals import anchor_fit
from frcnn.structures import Detections, Sample
from made_detections import CLASSES, moved, renamed, scene


def diagnosed(found, samples, classes=CLASSES, **known):
    return diagnose_detections(found, samples, classes, Evidence(**known))


def rescored(found, scores):
    return [Detections(d.boxes, scores(len(d)), d.labels, d.classes) for d in found]


def kinds(diagnosis):
    return [limit.kind for limit in diagnosis.limits]


@pytest.fixture(scope="module")
def sound():
    return scene(4, images=40, spread=3.0)


WHOLE = {
    "labels",
    "random_labels",
    "shift",
    "scores",
    "channels",
    "anchors",
    "proposals",
    "objectness",
}


def test_a_sound_detector_has_no_fault_of_the_whole(sound):
    assert not WHOLE & set(kinds(diagnosed(*sound)))


def test_exchanged_labels(sound):
    found, samples = sound
    first = diagnosed(renamed(found, [1, 2, 3, 0]), samples).limits[0]
    assert first.kind == "labels" and "'cat' is 'yak'" in first.sentence


def test_where_nothing_is_right_the_confusion_is_of_all_that_is_sure():
    box = np.array([[0, 0, 40, 40.0]])
    samples = [Sample(f"{n}.jpg", box, [0]) for n in range(20)]
    found = [Detections(box, [0.6 + n / 100], [1], CLASSES) for n in range(20)]
    diagnosis = diagnosed(found, samples)
    assert (diagnosis.score, diagnosis.f1) == (0.5, 0.0)
    assert diagnosis.score_in_words == "score 0.50, as none has a best F1"
    assert diagnosis.confusion.pairs()[0][2] == 20
    assert "where F1 is highest" not in str(diagnosis)


def test_labels_at_random(sound):
    found, samples = sound
    rng = np.random.default_rng(0)
    mixed = [Detections(d.boxes, d.scores, rng.integers(0, 4, len(d)), CLASSES) for d in found]
    first = diagnosed(mixed, samples).limits[0]
    assert first.kind == "random_labels" and "shuffled" in first.sentence


@pytest.mark.parametrize("shift", [(10, 10), (-10, 0)])
def test_shifted_boxes(sound, shift):
    found, samples = sound
    first = diagnosed(moved(found, *shift), samples).limits[0]
    assert first.kind == "shift"
    assert ("right" if shift[0] > 0 else "left") in first.sentence


def test_scores_that_are_all_alike(sound):
    found, samples = sound
    for scores in (
        lambda n: np.full(n, 0.2),
        lambda n: np.random.default_rng(n).uniform(0.19, 0.21, n),
    ):
        first = diagnosed(rescored(found, scores), samples).limits[0]
        assert first.kind == "scores" and "do not tell right from wrong" in first.sentence


def test_narrow_scores_that_rank_well_are_no_fault(sound):
    found, samples = sound
    narrow = [Detections(d.boxes, 0.8 + d.scores / 10, d.labels, CLASSES) for d in found]
    assert "scores" not in kinds(diagnosed(narrow, samples))


def test_scores_that_say_nothing(sound):
    found, samples = sound
    rng = np.random.default_rng(1)
    assert kinds(diagnosed(rescored(found, rng.random), samples))[0] == "scores"


def test_hardly_anything_found_where_the_proposals_are_sound(sound):
    _, samples = sound
    nothing = [Detections([], [], [], CLASSES) for _ in samples]
    proposals = [Detections(s.boxes, np.ones(len(s.boxes)), s.labels, CLASSES) for s in samples]
    first = diagnosed(nothing, samples, proposals=proposals).limits[0]
    assert first.kind == "nothing_found" and "The proposals cover 100%" in first.sentence


def test_proposals_where_there_is_no_object_say_nothing(sound):
    found, samples = sound
    nothing = Detections([], [], [], CLASSES)
    found, samples = [nothing, nothing, *found], [Sample("a.jpg"), *samples, Sample("b.jpg")]
    proposals = [nothing, *[None] * len(samples[1:-1]), nothing]
    for each in (found, rescored(found, lambda n: np.full(n, 0.2)), [nothing] * len(found)):
        diagnosis = diagnosed(each, samples, proposals=proposals)
        assert "nan" not in str(diagnosis) and "proposals" not in kinds(diagnosis)
        assert np.isfinite([limit.cost for limit in diagnosis.limits]).all()


def test_anchors_four_times_too_large():
    found, samples = scene(4, images=40, sides=(12, 40), spread=2.0)
    sides = [(side, ratio * side) for side in (12, 24, 48) for ratio in (0.7, 1, 1.4)]
    fits, large, small = (
        anchor_fit(factor * np.array(sides), samples, np.ones(len(samples)))
        for factor in (1, 4, 1 / 4)
    )
    lost = [Detections(d.boxes + 500, d.scores, d.labels, CLASSES) for d in found]
    first = diagnosed(lost, samples, proposals=lost, anchors=large).limits[0]
    assert first.kind == "anchors" and "too large" in first.sentence and "smaller" in first.setting
    first = diagnosed(lost, samples, proposals=lost, anchors=small).limits[0]
    assert first.kind == "anchors" and "too small" in first.sentence and "larger" in first.setting
    # Proposals that miss though the anchors fit, and anchors that do not fit but are not missed.
    assert diagnosed(lost, samples, proposals=lost, anchors=fits).limits[0].kind == "proposals"
    proposals = [Detections(s.boxes, np.ones(len(s.boxes)), s.labels, CLASSES) for s in samples]
    assert not WHOLE & set(kinds(diagnosed(found, samples, proposals=proposals, anchors=fits)))


def test_a_fault_whose_mending_brings_most_back_comes_before_what_follows_from_it(sound):
    found, samples = sound
    rng = np.random.default_rng(0)
    mixed = [Detections(d.boxes, d.scores, rng.integers(0, 4, len(d)), CLASSES) for d in found]
    diagnosis = diagnosed(mixed, samples, channels=Channels(32, 0.1, 0.5, True))
    assert kinds(diagnosis)[:2] == ["channels", "random_labels"]


def test_objectness_that_says_nothing(sound):
    found, samples = sound
    rng = np.random.default_rng(0)
    weak = [d[:2] for d in found]
    proposals = [Detections(d.boxes, rng.random(len(d)), d.labels, CLASSES) for d in found]
    first = diagnosed(weak, samples, proposals=proposals).limits[0]
    assert first.kind == "objectness" and "50% is chance" in first.sentence
    assert "objectness" not in kinds(diagnosed(weak, samples, proposals=found))


def test_exchanged_channels(sound):
    found, samples = sound
    weak = [d[d.scores > 0.9] for d in found]
    first = diagnosed(weak, samples, channels=Channels(32, 0.2, 0.5, True)).limits[0]
    assert first.kind == "channels" and "BGR" in first.sentence
    for tried in (Channels(32, 0.5, 0.2, True), Channels(32, 0.2, 0.5, False)):
        assert "channels" not in kinds(diagnosed(weak, samples, channels=tried))


def test_images_that_were_trained_on(sound):
    first = diagnosed(*sound, shared=Shared(40, 40, ("0.jpg",))).limits[0]
    assert (
        first.kind == "training_images" and "40 of the 40 images were trained on" in first.sentence
    )
    assert "training_images" not in kinds(diagnosed(*sound, shared=Shared(0, 40, ())))


def test_that_training_images_are_unknown_is_said_where_they_were_asked_for(sound):
    said = "What runs/a was trained on is not known"
    assert said in str(diagnosed(*sound, run="runs/a"))
    assert said not in str(diagnosed(*sound, run="runs/a", shared=Shared(0, 40, ())))
    assert "is not known" not in str(diagnosed(*sound))


def test_a_class_that_the_detector_does_not_know(sound):
    found, samples = sound
    fewer = [
        Detections(
            d.boxes[d.labels < 3], d.scores[d.labels < 3], d.labels[d.labels < 3], CLASSES[:3]
        )
        for d in found
    ]
    first = diagnosed(fewer, samples).limits[0]
    assert first.kind == "unknown_classes" and "'yak'" in first.sentence


def test_errors_are_ordered_by_what_they_cost(sound):
    diagnosis = diagnosed(*sound)
    costs = [limit.cost for limit in diagnosis.limits]
    assert costs == sorted(costs, reverse=True)
    gains = diagnosis.errors.gains
    assert diagnosis.limits[0].kind == max(gains, key=gains.get)


def test_missed_objects_are_blamed_on_the_stage_that_lost_them(sound):
    found, samples = sound
    half = [d[::2] for d in found]
    nothing = [Detections([], [], [], CLASSES)] * len(samples)
    every = [Detections(s.boxes, np.ones(len(s.boxes)), s.labels, CLASSES) for s in samples]
    of = {
        name: next(
            x for x in diagnosed(half, samples, proposals=given).limits if x.kind == "missed"
        )
        for name, given in (("nothing", nothing), ("every", every))
    }
    assert "100% of them are covered by no proposal" in of["nothing"].sentence
    assert "--size" in of["nothing"].setting
    assert "0% of them are covered by no proposal" in of["every"].sentence
    # Proposals of some pictures speak for these.
    some = [nothing[0], *[None] * (len(samples) - 1)]
    assert diagnosed(half, samples, proposals=some).proposals.images == 1


def test_plain_values_and_text(sound):
    found, samples = sound
    diagnosis = diagnosed(found, samples)
    values = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert values["sentences"][0] == str(diagnosis.limits[0])
    assert values["proposals"] is None and values["errors"]["counts"]["missed"] >= 0
    assert {len(curve["recall"]) for curve in values["curves"].values()} == {101}
    assert sum(row["objects"] for row in values["sizes"].values()) == sum(
        row["objects"] for row in values["crowding"].values()
    )
    scores = [mistake["score"] for mistake in values["mistakes"]]
    assert scores == sorted(scores, reverse=True) and values["worst"]
    text = str(diagnosis)
    assert text.startswith("1. ") and "unknown" in text and "yak" in text


def test_hostile_names_reach_no_terminal():
    box = np.array([[0, 0, 10, 10]])
    classes = ("a\x1b[31m" * 20, "b")
    sample = Sample("evil\x1b]0;\n.jpg", np.concatenate([box, box + 50]), [0, 1])
    found = Detections(np.concatenate([box, box + 50]), [0.9, 0.8], [1, 0], classes)
    diagnosis = diagnosed([found], [sample], classes)
    shown = str(diagnosis) + json.dumps(diagnosis.to_dict(), ensure_ascii=False)
    assert "\x1b" not in shown


def test_no_picture_no_object_no_detection():
    nothing = Detections([], [], [], CLASSES)
    for samples in ([], [Sample("a.jpg")]):
        diagnosis = diagnosed([nothing] * len(samples), samples)
        assert kinds(diagnosis) == ["no_objects"] and str(diagnosis)
        json.dumps(diagnosis.to_dict(), allow_nan=False)
    sample = Sample("a.jpg", np.array([[0, 0, 9, 9]]), [0])
    assert kinds(diagnosed([nothing], [sample]))[0] == "nothing_found"


def test_no_score_to_keep_detections_from_is_advised_where_none_is_right(sound):
    found, samples = sound
    wrong = [Detections(d.boxes + 500, np.full(len(d), 0.9), d.labels, CLASSES) for d in found]
    said = str(diagnosed(wrong, samples))
    assert "Keep detections from" not in said and "No detection is right" in said
    assert "Keep detections from" in str(diagnosed(rescored(found, lambda n: [0.1] * n), samples))
