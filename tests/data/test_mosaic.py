import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.data.mosaic import mosaic

CANVAS, SHORT, LONG = (96, 128), 96, 128
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], np.uint8)


def pictures(sizes, whole=True):
    """Of one colour each, with a box round all of it, or a small square in the middle."""
    made = []
    for label, (height, width) in enumerate(sizes):
        image = np.tile(COLOURS[label], (height, width, 1))
        box = [0, 0, width, height]
        if not whole:
            box = [width / 2 - 5, height / 2 - 5, width / 2 + 5, height / 2 + 5]
        made.append((image, np.array([box], np.float32), np.array([label])))
    return made


SIZES = st.lists(st.tuples(st.integers(20, 200), st.integers(20, 200)), min_size=4, max_size=4)


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(0, 999))
def test_boxes_surround_what_is_left_of_each_picture(sizes, seed):
    image, boxes, labels = mosaic(pictures(sizes), CANVAS, SHORT, LONG, np.random.default_rng(seed))
    assert image.shape == (*CANVAS, 3) and boxes.dtype == np.float32
    for box, label in zip(boxes, labels, strict=True):
        rows, columns = np.nonzero((image == COLOURS[label]).all(axis=2))
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, around, atol=1.01)
        assert (rows.max() + 1 - rows.min()) * (columns.max() + 1 - columns.min()) == len(rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999))
def test_the_four_meet_at_a_point_in_their_order(seed):
    image, _, _ = mosaic(
        pictures([(96, 128)] * 4), CANVAS, SHORT, LONG, np.random.default_rng(seed)
    )
    is_red, is_blue = (image == COLOURS[0]).all(axis=2), (image == COLOURS[3]).all(axis=2)
    end, start = np.argwhere(is_red).max(axis=0), np.argwhere(is_blue).min(axis=0)
    np.testing.assert_array_equal(end + 1, start)
    assert (0.29 * np.array(CANVAS) <= start).all() and (start <= 0.7 * np.array(CANVAS)).all()


def test_objects_are_smaller_by_one_factor_and_stay_on_their_pixels():
    """What the boxes cut out of the mosaic is what they cut out of the pictures."""
    made = pictures([(96, 128)] * 4, whole=False)
    for image, box, _ in made:
        x1, y1, x2, y2 = box[0].astype(int)
        image[y1:y2, x1:x2] = 255
    for seed in range(20):
        image, boxes, labels = mosaic(made, CANVAS, SHORT, LONG, np.random.default_rng(seed))
        assert len(labels)  # the middle of a picture is kept more often than not
        white = (image > 240).all(axis=2)
        for x1, y1, x2, y2 in boxes:
            inside = white[int(y1 + 1) : int(y2 - 1), int(x1 + 1) : int(x2 - 1)]
            assert inside.all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides <= 10.01).all() and (np.median(sides) >= 4.9)


def test_boxes_whose_centre_is_cut_off_are_left_out():
    made = pictures([(96, 128)] * 4, whole=False)
    kept = [
        len(mosaic(made, CANVAS, SHORT, LONG, np.random.default_rng(seed))[1]) for seed in range(50)
    ]
    assert min(kept) < 4 and max(kept) == 4


def test_a_picture_without_objects():
    made = pictures([(96, 128)] * 4)
    empty = (made[0][0], np.zeros((0, 4), np.float32), np.zeros(0, int))
    _, boxes, labels = mosaic([empty, *made[1:]], CANVAS, SHORT, LONG, np.random.default_rng(0))
    assert sorted(labels) == [1, 2, 3] and boxes.shape == (3, 4)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_draw_gives_the_same(seed):
    made = pictures([(50, 60), (90, 30), (64, 64), (33, 99)])
    first, second = (
        mosaic(made, CANVAS, SHORT, LONG, np.random.default_rng(seed)) for _ in range(2)
    )
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
