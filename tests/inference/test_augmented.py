"""Pictures seen mirrored and in several sizes, and how that is merged."""

import numpy as np
import pytest

import frcnn
from exported import write_onnx
from frcnn.inference.augmented import SCALES, AugmentedDetector
from frcnn.inference.merging import fuse, joined, suppress
from frcnn.inference.predict import Detector
from frcnn.inference.tiles import TiledDetector
from frcnn.inference.views import Views
from frcnn.structures import Detections
from tiny import tiny_detector

CLASSES = ("disc", "square")


def of(*rows):
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes), np.array(scores), np.array(labels, int), CLASSES)


@pytest.fixture(scope="module")
def detector():
    return Detector(tiny_detector())


def picture(seed=0, size=(64, 96)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def test_a_mirrored_picture_is_seen_as_its_mirror_image(detector):
    image = picture()
    both = AugmentedDetector(detector, (1.0,))
    seen, mirrored = (view.detect(image) for view in both.views)
    expected = detector.detect(image)
    np.testing.assert_allclose(seen.boxes, expected.boxes, atol=1e-3)
    expected = detector.detect(np.ascontiguousarray(image[:, ::-1]))
    boxes = expected.boxes.copy()
    boxes[:, [0, 2]] = 96 - boxes[:, [2, 0]]
    np.testing.assert_allclose(mirrored.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(mirrored.scores, expected.scores, atol=1e-5)


def test_what_is_seen_of_a_picture_and_of_its_mirror_image_is_the_same(detector):
    image = picture(1)
    augmented = AugmentedDetector(detector, merge="nms")
    found = augmented.detect(image)
    mirrored = augmented.detect(np.ascontiguousarray(image[:, ::-1]))
    boxes = mirrored.boxes.copy()
    boxes[:, [0, 2]] = 96 - boxes[:, [2, 0]]
    assert len(found) == len(mirrored) > 0
    np.testing.assert_allclose(found.scores, mirrored.scores, atol=1e-4)
    np.testing.assert_allclose(np.sort(found.boxes, 0), np.sort(boxes, 0), atol=1e-2)


def test_sizes_are_shares_of_the_detectors_own(detector):
    views = AugmentedDetector(detector, (0.5, 1.0, 1.5), flip=False).views
    shapes = []
    for view in views:
        preparation = view.preparation
        shapes.append(preparation.prepare(picture()).canvas)
        assert all(not side % 32 for canvas in preparation.canvases for side in canvas)
    assert [view.preparation.short for view in views] == [32, 64, 96]
    assert shapes == [(32, 64), (64, 96), (96, 160)]


def test_lists_files_progress_and_scores(detector):
    done = []
    augmented = AugmentedDetector(detector, (1.0, 1.25))
    images = [picture(n) for n in range(3)]
    many = augmented.detect(images, progress=lambda: done.append(1))
    assert len(done) == 3 and augmented.detect([]) == []
    for image, found in zip(images, many, strict=True):
        alone = augmented.detect(image)
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-4)
        limit = float(np.median(found.scores))
        above = augmented.detect(image, score=limit)
        assert 0 < len(above) < len(found) and (above.scores >= limit).all()


def test_an_exported_detector_has_one_canvas(tmp_path):
    exported = frcnn.load(write_onnx(tmp_path / "model.onnx", batch=2))
    augmented = AugmentedDetector(exported)
    assert len(augmented.views) == 2 and max(SCALES) > 1
    image = np.full((128, 192, 3), 90, np.uint8)
    found = augmented.detect(image)
    np.testing.assert_allclose(found.boxes, exported.detect(image).boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, exported.detect(image).scores, atol=1e-5)
    # Its graph is the less sure the less of the canvas a picture fills: here a quarter.
    half = AugmentedDetector(exported, (0.5,), flip=False).detect(image)
    np.testing.assert_allclose(half.scores, exported.detect(image).scores / 4, rtol=1e-3)
    np.testing.assert_allclose(half.boxes[0], [48, 32, 144, 96], atol=1)
    with pytest.raises(ValueError, match="Expected scales that the detector can take"):
        AugmentedDetector(exported, (1.25, 2.0))


def test_tiles_go_round_it_and_it_goes_round_no_tiles(detector):
    both = Views(tiles=64, tta=True).of(detector)
    assert isinstance(both, TiledDetector) and isinstance(both.detector, AugmentedDetector)
    assert len(both.detect(picture(2, (100, 150)))) and Views().of(detector) is detector
    with pytest.raises(ValueError, match="no wrapper"):
        AugmentedDetector(TiledDetector(detector))
    with pytest.raises(ValueError, match="'fuse' or 'nms'"):
        AugmentedDetector(detector, merge="mean")


def test_boxes_are_fused_by_their_scores():
    found = fuse(
        [
            of(([0, 0, 10, 10], 0.6, 0), ([50, 50, 60, 60], 0.4, 1)),
            of(([0, 0, 10, 14], 0.2, 0), ([0, 0, 10, 10], 0.9, 1)),
        ],
        iou=0.5,
    )
    assert found.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(found.boxes[1], [0, 0, 10, 11])
    np.testing.assert_allclose(found.scores, [0.45, 0.4, 0.2], rtol=1e-6)


def brute_force(views, iou):
    """Weighted boxes fusion as its paper lists the steps (section 3)."""
    rows = [
        (float(s), int(c), b.astype(float))
        for each in views
        for b, s, c in zip(each.boxes, each.scores, each.labels, strict=True)
    ]
    clusters = []
    for score, label, box in sorted(rows, key=lambda row: -row[0]):
        best, place = iou, None
        for number, cluster in enumerate(clusters):
            if cluster[0][1] == label:
                weights = np.array([row[0] for row in cluster])
                fused = (np.array([row[2] for row in cluster]) * weights[:, None]).sum(axis=0)
                fused /= weights.sum()
                low, high = np.maximum(box[:2], fused[:2]), np.minimum(box[2:], fused[2:])
                common = np.prod(np.maximum(high - low, 0))
                union = np.prod(box[2:] - box[:2]) + np.prod(fused[2:] - fused[:2]) - common
                if common / union > best:
                    best, place = common / union, number
        if place is None:
            clusters.append([(score, label, box)])
        else:
            clusters[place].append((score, label, box))
    fused = []
    for cluster in clusters:
        weights = np.array([row[0] for row in cluster])
        box = (np.array([row[2] for row in cluster]) * weights[:, None]).sum(axis=0)
        score = weights.mean() * min(len(cluster), len(views)) / len(views)
        fused.append((score, cluster[0][1], box / weights.sum()))
    return sorted(fused, key=lambda row: -row[0])


def random_views(seed):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(20, 80, (6, 2))
    views = []
    for _ in range(3):
        jitter = centres + rng.normal(0, 2, centres.shape)
        boxes = np.concatenate([jitter - 8, jitter + rng.uniform(6, 10, centres.shape)], axis=1)
        order = np.argsort(-(scores := rng.uniform(0.1, 1, 6)))
        labels = rng.integers(0, 2, 6)
        views.append(Detections(boxes[order], scores[order], labels[order], CLASSES))
    return views


@pytest.mark.parametrize("seed", range(5))
def test_fusion_is_that_of_the_paper(seed):
    views = random_views(seed)
    found, expected = fuse(views, 0.55), brute_force(views, 0.55)
    assert len(found) == len(expected) < 18
    np.testing.assert_allclose(found.scores, [row[0] for row in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, [row[2] for row in expected], rtol=1e-5)
    assert found.labels.tolist() == [row[1] for row in expected]


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_torchvisions(seed):
    every = joined(random_views(seed))
    kept = []
    for label in (0, 1):
        rows = np.flatnonzero(every.labels == label)
        kept += rows[torchvision_nms(every.boxes[rows], every.scores[rows])].tolist()
    found = suppress(every, 0.5)
    np.testing.assert_array_equal(found.boxes, every.boxes[sorted(kept)])
    assert 0 < len(found) < len(every)


def torchvision_nms(boxes, scores):
    import torch
    from torchvision.ops import nms

    return nms(torch.tensor(boxes), torch.tensor(scores), 0.5).numpy()


def test_nothing_to_merge():
    assert len(fuse([of(), of()], 0.5)) == 0 and len(suppress(of(), 0.5)) == 0
