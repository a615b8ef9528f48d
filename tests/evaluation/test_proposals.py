import numpy as np
import pytest

from frcnn.evaluation.matching import pairwise_iou
from frcnn.evaluation.proposals import anchor_fit, proposal_recall
from frcnn.structures import Detections, Sample


def random_proposals(seed, images=8, most=60):
    rng = np.random.default_rng(seed)
    samples, proposals = [], []
    for index in range(images):
        count = int(rng.integers(0, 6))
        corner = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 160, (count, 2))], axis=1)
        samples.append(Sample(f"{index}.jpg", boxes, [0] * count, rng.random(count) < 0.2))
        number = int(rng.integers(0, most)) if count else 0
        near = boxes[rng.integers(0, max(count, 1), number)] + rng.normal(0, 12, (number, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        proposals.append(Detections(near, rng.random(number), [0] * number, ("object",)))
    return proposals, samples


@pytest.mark.parametrize("seed", range(8))
def test_recall_is_that_of_counting(seed):
    proposals, samples = random_proposals(seed)
    measured = proposal_recall(proposals, samples, (3, 10, 1000))
    sizes = {"all": (0, 1e9), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e9)}
    for count in (3, 10, 1000):
        levels = []
        for name, (low, high) in sizes.items():
            hits = []
            for found, sample in zip(proposals, samples, strict=True):
                best = sorted(range(len(found)), key=lambda i, f=found: -f.scores[i])[:count]
                for box, hard in zip(sample.boxes, sample.difficult, strict=True):
                    area = float(box[2] - box[0]) * float(box[3] - box[1])
                    if hard or not low <= area < high:
                        continue
                    ious = [pairwise_iou(found.boxes[i][None], box[None])[0, 0] for i in best]
                    hits.append(max(ious, default=0.0))
            share = np.mean([hit >= 0.5 for hit in hits]) if hits else np.nan
            np.testing.assert_allclose(measured.recall[count][name], share)
            assert measured.objects[name] == len(hits)
            if name == "all":
                levels = [np.mean(np.array(hits) >= t) for t in np.linspace(0.5, 0.95, 10)]
        np.testing.assert_allclose(measured.average[count], np.mean(levels))


def test_pictures_without_objects_or_proposals():
    nothing = Detections([], [], [], ("object",))
    assert np.isnan(proposal_recall([nothing], [Sample("a.jpg")]).recall[100]["all"])
    sample = Sample("a.jpg", np.array([[0, 0, 9, 9]]), [0])
    measured = proposal_recall([nothing], [sample])
    assert measured.recall[1000]["small"] == 0.0 and not measured.covered.any()
    assert proposal_recall([], []).images == 0


def test_anchors_four_times_too_large_are_seen():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 200, (50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (50, 2))], axis=1)
    samples = [Sample("a.jpg", boxes, [0] * 50)]
    sides = np.array([[20, 40], [40, 20], [28, 28], [40, 40], [28, 56], [56, 28]])
    fit = anchor_fit(sides, samples, np.ones(1))
    large = anchor_fit(4 * sides, samples, np.ones(1))
    assert fit.best_factor == 1.0 and fit.mean_iou == fit.best_mean_iou
    # Of factors that do about as well, the one that changes least.
    assert large.best_factor in (0.25, 0.25 * 2**0.5)
    assert large.best_mean_iou == pytest.approx(fit.mean_iou, abs=0.02)
    assert large.mean_iou < 0.2 and large.fitting == 0.0
    # Enlarged four times, the pictures fit again.
    enlarged = anchor_fit(4 * sides, samples, np.array([4.0]))
    assert enlarged.best_factor == 1.0 and enlarged.object_side == pytest.approx(
        4 * fit.object_side
    )
    assert anchor_fit(sides, [Sample("a.jpg")], np.ones(1)) is None


def test_the_fit_of_one_anchor_by_hand():
    sample = Sample("a.jpg", np.array([[10, 10, 30, 20]]), [0])
    fit = anchor_fit(np.array([[10.0, 10.0], [20.0, 20.0]]), [sample], np.ones(1))
    assert fit.mean_iou == pytest.approx(0.5)  # 100 of 200, and 200 of 400
    assert (fit.smallest, fit.largest) == (10.0, 20.0)
