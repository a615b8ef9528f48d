"""Pictures on their canvas, in memory that held others before."""

import numpy as np
import pytest

from frcnn.data.resizing import prepare
from frcnn.inference.preparation import Preparation, lay_all

RNG = np.random.default_rng(0)


def noise(height, width):
    return RNG.integers(1, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("resizing, dtype", [("smooth", np.uint8), ("plain", np.float32)])
def test_pictures_lie_at_the_top_left_with_zeros_beside_them(resizing, dtype):
    preparation = Preparation(64, 96, ((64, 96),), resizing)
    given = [noise(64, 96), noise(64, 70), noise(128, 40), noise(10, 96)]
    pictures = [preparation.prepare(image) for image in given]
    images = np.full((6, 64, 96, 3), 7, dtype)
    sizes = lay_all(pictures, images)
    assert sizes.dtype == np.int32
    assert sizes.tolist() == [[64, 96], [64, 70], [64, 20], [10, 96], [1, 1], [1, 1]]
    for image, picture, (height, width) in zip(images, pictures, sizes, strict=False):
        np.testing.assert_array_equal(image[:height, :width], picture.pixels)
        assert picture.pixels.dtype == dtype and (image[:height, :width] > 0).all()
        assert not image[height:].any() and not image[:, width:].any()
    assert not images[len(given) :].any()


def test_a_picture_of_the_right_size_is_not_copied_before_it_is_laid():
    image = noise(64, 96)
    assert Preparation(64, 96, ((64, 96),), "smooth").prepare(image).pixels is image


def test_it_is_what_training_sees():
    image = noise(201, 333)
    preparation = Preparation(64, 96, ((64, 96),), "smooth")
    prepared = preparation.prepare(image)
    images = np.full((1, 64, 96, 3), 7, np.uint8)
    sizes = lay_all([prepared], images)
    of_training = prepare(image, 64, 96, (64, 96))
    for padded, size, scale in (of_training, preparation.apply(image)):
        np.testing.assert_array_equal(images[0], padded)
        assert tuple(sizes[0]) == size and prepared.scale == scale
    assert prepared.original == (201, 333)
