from dataclasses import replace

import numpy as np
import pytest

from frcnn.evaluation.coco import coco_scores
from frcnn.evaluation.comparison import compare
from frcnn.structures import Detections, Sample

CLASSES = ("cat", "dog", "cow")


def detectors(noise, images=40, seed=0, other_seed=1):
    """Truth, and what two detectors of the same noise, or of another, find of it."""
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(images):
        corner = rng.uniform(0, 200, (4, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (4, 2))], axis=1)
        samples.append(Sample(f"{index}.jpg", boxes, rng.integers(0, 3, 4)))
    found = []
    for number, sigma in enumerate(noise):
        rng = np.random.default_rng(other_seed + number)
        found.append([])
        for sample in samples:
            boxes = sample.boxes + rng.normal(0, sigma, sample.boxes.shape)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
            found[-1].append(Detections(boxes, rng.random(4), sample.labels, CLASSES))
    return *found, samples


def test_figures_are_cocos_and_the_interval_that_of_a_plain_bootstrap():
    first, second, samples = detectors((2.0, 3.0), images=15)
    result = compare(first, second, samples, CLASSES, resamples=40, seed=5)
    own = coco_scores(first, samples, CLASSES)
    assert result.figures["AP"].first == pytest.approx(own.summary["AP"], abs=1e-12)
    assert result.per_class["dog"].first == pytest.approx(own.per_class["dog"]["AP"], abs=1e-12)
    rng, apart = np.random.default_rng(5), []
    for _ in range(40):
        drawn = rng.integers(0, 15, 15)
        truth = [samples[i] for i in drawn]
        ap = [
            coco_scores([found[i] for i in drawn], truth, CLASSES).summary["AP"]
            for found in (first, second)
        ]
        apart.append(ap[1] - ap[0])
    # A picture drawn twice brings equal scores: they count at once here, one by one there.
    low, high = np.quantile(apart, [0.025, 0.975])
    assert result.figures["AP"].low == pytest.approx(low, abs=0.01)
    assert result.figures["AP"].high == pytest.approx(high, abs=0.01)


def test_a_clear_difference_is_beyond_chance_and_the_same_detector_is_not():
    first, second, samples = detectors((8.0, 1.0))
    result = compare(first, second, samples, CLASSES, resamples=200)
    assert result.figures["AP"].sure and "second detector is better" in result.sentence()
    turned = compare(second, first, samples, CLASSES, resamples=200)
    assert "first detector is better" in turned.sentence()
    same = compare(first, first, samples, CLASSES, resamples=200).figures["AP"]
    assert (same.difference, same.low, same.high, same.sure) == (0.0, 0.0, 0.0, False)


def test_detectors_alike_are_within_chance():
    """Of 20 pairs without a difference, an interval of 95 % leaves out 0 in about one."""
    surprises = 0
    for seed in range(20):
        first, second, samples = detectors((3.0, 3.0), other_seed=10 + 2 * seed)
        result = compare(first, second, samples, CLASSES, resamples=200)
        surprises += result.figures["AP"].sure
        assert result.figures["AP"].sure == ("beyond chance" in result.sentence())
    assert surprises <= 4


@pytest.mark.parametrize("images, empty, sure", [(1, 0, False), (9, 9, False), (10, 0, True)])
def test_few_images_with_objects_tell_nothing(images, empty, sure):
    first, second, samples = detectors((8.0, 0.5), images=images)
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), CLASSES)
    difficult = Sample("x.jpg", [[0, 0, 9, 9]], [0], [True])
    first, second = first + [nothing] * empty, second + [nothing] * empty
    result = compare(first, second, samples + [difficult] * empty, CLASSES, resamples=200)
    assert result.figures["AP"].low > 0 and result.figures["AP"].sure == sure
    values = result.to_dict()["figures"]["AP"]
    assert (values["sure"], values["images"]) == (sure, images)
    assert ("beyond chance: AP" in result.sentence()) == sure
    if not sure:
        assert "too few images to tell" in result.sentence() and f"not {images}." in str(result)
        assert not any(line.endswith("*") for line in str(result).splitlines())


def test_a_class_on_few_images_is_not_marked():
    first, second, samples = detectors((8.0, 0.5), images=30)
    rare = [replace(each, labels=np.where(each.labels == 2, 1, each.labels)) for each in samples]
    rare[:3] = samples[:3]
    result = compare(first, second, rare, CLASSES, resamples=200)
    assert result.figures["AP"].images == 30 and result.per_class["cow"].images <= 3
    assert not result.per_class["cow"].sure


def test_classes_that_a_detector_does_not_know_are_said():
    first, second, samples = detectors((2.0, 3.0), images=12)
    classes = ("cat", "dog", "ox")
    others = [Detections(d.boxes, d.scores, d.labels, classes) for d in second]
    result = compare(first, others, samples, CLASSES, resamples=50)
    warning = "Warning: the second detector does not know these classes, they score 0: cow."
    assert str(result).endswith(warning) and "the first detector does not" not in str(result)
    assert result.to_dict()["unknown_classes"] == {"first": [], "second": ["cow"]}
    turned = str(compare(others, others, samples, CLASSES, resamples=50))
    assert "the first detector does not know" in turned and "the second" in turned
    assert "Warning" not in str(compare(first, second, samples, CLASSES, resamples=50))


def test_what_is_printed_and_written():
    first, second, samples = detectors((2.0, 3.0), images=8)
    result = compare(first, second, samples, (*CLASSES, "yak"), resamples=200)
    assert "yak" not in result.per_class and len(result.to_dict()["per_class"]) == 3
    assert "200 resamples of 8 images" in str(result)
    assert "Each line is at 95 % by itself" in str(result)
    nothing = compare([], [], [], CLASSES)
    assert "no object" in str(nothing)
