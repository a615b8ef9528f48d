"""Batches of several sizes, of rare classes and of mosaics."""

import keras
import numpy as np
import pytest

from frcnn.data.batching import DetectionBatches, most_boxes
from frcnn.data.dataset import Dataset
from frcnn.data.planning import Variety
from frcnn.structures import Sample

pytestmark = pytest.mark.backend

ON_TENSORFLOW = keras.config.backend() == "tensorflow"
ALL = Variety((0.5, 1.0, 1.5), rare=0.5, mosaics=0.5, mosaic_epochs=2)


@pytest.fixture
def dataset(tmp_path, write_image):
    """Eight wide and eight tall pictures; one box each, of class 1 in two of them."""
    samples = []
    for number in range(16):
        size = (96, 128) if number < 8 else (128, 96)
        path = write_image(tmp_path / f"{number:02}.png", size, seed=number)
        boxes = np.array([[10, 10, 80, 80]], np.float32)
        samples.append(Sample(path, boxes, np.array([number in (0, 8)], int), size=size))
    return Dataset(tuple(samples), ("a", "b"), tmp_path)


def make(dataset, variety, **options):
    return DetectionBatches(dataset, 4, 64, 96, variety=variety, **options)


def test_canvases_follow_the_scales(dataset):
    batches = make(dataset, Variety((0.5, 1.0, 1.5)), workers=0)
    plain = {(96, 96)} if ON_TENSORFLOW else {(64, 96), (96, 64)}
    assert set(batches.plain_canvases) == plain
    if ON_TENSORFLOW:  # one that holds them all
        assert batches.canvases == ((160, 160),)
    else:
        assert batches.canvases == ((32, 64), (64, 32), (64, 96), (96, 64), (96, 160), (160, 96))
    assert len(batches) == 4
    sides = set()
    for epoch in range(6):
        for index in range(len(batches)):
            x, y = batches.load(epoch, index)
            assert x["images"].shape[1:3] in batches.canvases
            (short,) = set(x["sizes"].min(axis=1).tolist())  # a batch is of one scale
            sides.add(short)
            scale = short / 96
            np.testing.assert_allclose(
                y["boxes"][:, 0], np.tile([10, 10, 80, 80], (4, 1)) * scale, rtol=0.02
            )
    assert sides == {32, 64, 96}


def test_mosaics_end_with_their_epochs(dataset):
    variety = Variety(mosaics=1.0, mosaic_epochs=1)
    batches = make(dataset, variety, workers=0)
    assert batches.max_boxes == 2 * most_boxes(dataset)
    x, y = batches.load(0, 0)
    assert (x["sizes"] == x["images"].shape[1:3]).all()
    assert (y["labels"] >= 0).sum() > 4
    later, plain = batches.load(1, 0), make(dataset, Variety(), workers=0).load(1, 0)
    np.testing.assert_array_equal(later[0]["images"], plain[0]["images"])
    np.testing.assert_array_equal(later[1]["boxes"][:, :8], plain[1]["boxes"])


def test_half_of_the_pictures_are_mosaics(dataset):
    batches = make(dataset, Variety(mosaics=0.5), workers=0)
    boxes = [batches.load(epoch, i)[1]["labels"] for epoch in range(8) for i in range(4)]
    counts = (np.concatenate(boxes) >= 0).sum(axis=1)
    assert 0.3 < (counts > 1).mean() < 0.6  # some mosaics keep a single box


def test_rare_classes_are_shown_more_often(dataset):
    batches = make(dataset, Variety(rare=0.5), workers=0)
    # Of each of the two canvases, of which TensorFlow has one: seven once, and one twice.
    assert len(batches) == (-(-18 // 4) if ON_TENSORFLOW else 2 * -(-9 // 4))
    shown = np.concatenate([batches.samples_of(index) for index in range(len(batches))])
    counts = np.bincount(shown, minlength=16)
    assert counts[0] >= 2 and counts[8] >= 2 and counts.min() >= 1


def test_batches_depend_on_seed_epoch_and_index_alone(dataset):
    threads, none = make(dataset, ALL, workers=3), make(dataset, ALL, workers=0)
    for epoch in (0, 2):
        threads.epoch = none.epoch = epoch
        for index in range(len(none)):
            for one, two in zip(threads[index], none[index], strict=True):
                for key in one:
                    np.testing.assert_array_equal(one[key], two[key])


def test_in_order_everything_is_shown_once_and_as_it_is(dataset):
    batches = make(dataset, ALL, shuffle=False, workers=0)
    plain = make(dataset, Variety(), shuffle=False, workers=0)
    assert len(batches) == len(plain) == 4
    for one, two in zip(batches.load(0, 1), plain.load(0, 1), strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
