import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.data.resizing import fit_canvas, plan_canvases, prepare, resize, scale_for, scaled_size

SIDES = st.integers(1, 3000)
SIZES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=30)


def resized(size, short, long):
    return scaled_size(size, scale_for(size, short, long))


@pytest.mark.parametrize(
    "size, expected",
    [((480, 640), (320, 427)), ((640, 480), (427, 320)), ((100, 1000), (50, 500)),
     ((500, 500), (320, 320)), ((10, 3000), (2, 500)), ((1, 3000), (1, 500))],
)  # fmt: skip
def test_the_short_side_rules_unless_the_long_side_would_pass(size, expected):
    assert resized(size, 320, 500) == expected


def test_one_canvas_for_pictures_of_one_size():
    assert plan_canvases([(480, 640)] * 3, 320, 533) == ((320, 448),)
    assert plan_canvases(np.array([[480, 640]], np.int32), 320, 533) == ((320, 448),)


def test_landscape_and_portrait_stay_apart_and_near_sizes_join():
    sizes = [(480, 640)] * 50 + [(640, 480)] * 40 + [(480, 625)] * 3 + [(470, 640)] * 2
    assert plan_canvases(sizes, 320, 533) == ((320, 448), (448, 320))
    assert plan_canvases(sizes, 320, 533, limit=1) == ((448, 448),)


def test_no_sizes_are_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        plan_canvases([], 320, 533)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 4), st.sampled_from([32, 64]))
def test_canvases_hold_every_picture(sizes, limit, stride):
    canvases = plan_canvases(sizes, 320, 533, stride, limit)
    assert 1 <= len(canvases) <= limit == max(limit, len(set(canvases)))
    assert all(side % stride == 0 for canvas in canvases for side in canvas)
    areas = [height * width for height, width in canvases]
    assert areas == sorted(areas)
    for size in sizes:
        needed = resized(size, 320, 533)
        fitting = [c for c in canvases if c[0] >= needed[0] and c[1] >= needed[1]]
        assert fit_canvas(needed, canvases) == fitting[0]
    for canvas in canvases:  # none larger than the pictures ask for
        for axis in (0, 1):
            most = max(resized(size, 320, 533)[axis] for size in sizes)
            assert canvas[axis] < most + stride


@settings(max_examples=30, deadline=None)
@given(SIZES)
def test_more_canvases_never_pad_more(sizes):
    def padded(limit):
        canvases = plan_canvases(sizes, 320, 533, limit=limit)
        chosen = [fit_canvas(resized(size, 320, 533), canvases) for size in sizes]
        return sum(height * width for height, width in chosen)

    assert padded(3) <= padded(1)


def test_a_picture_that_fits_nowhere_goes_where_it_shrinks_least():
    assert fit_canvas((500, 100), [(320, 320), (448, 160)]) == (448, 160)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([(64, 96), (96, 64), (32, 32)]))
def test_prepare_pads_at_the_bottom_right_and_tells_the_true_scale(height, width, canvas):
    image = np.full((height, width, 3), 200, np.uint8)
    padded, size, (down, across) = prepare(image, 64, 96, canvas)
    assert padded.shape == (*canvas, 3) and padded.dtype == np.uint8
    assert 1 <= size[0] <= canvas[0] and 1 <= size[1] <= canvas[1]
    assert (padded[: size[0], : size[1]] == 200).all()
    assert not padded[size[0] :].any() and not padded[:, size[1] :].any()
    assert (height * down, width * across) == pytest.approx(size)
    assert size[0] == canvas[0] or size[1] == canvas[1] or min(size) == 64 or max(size) == 96


def test_boxes_scaled_by_the_true_ratio_stay_on_the_object():
    image = np.zeros((333, 517, 3), np.uint8)
    image[100:180, 200:420] = 255
    padded, _, (down, across) = prepare(image, 96, 160, (96, 160))
    rows, columns = np.nonzero(padded[..., 0] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, [200 * across, 100 * down, 420 * across, 180 * down], atol=1)


def test_resize_averages_when_far_smaller_and_copies_nothing_when_equal():
    image = np.zeros((64, 64, 3), np.uint8)
    image[::4] = 200  # every fourth row: bilinear sampling would miss or double it
    assert np.abs(resize(image, (16, 16)).astype(int) - 50).max() <= 1
    noise = np.random.default_rng(0).integers(0, 255, (333, 517, 3), np.uint8)
    mean = cv2.resize(noise, (60, 40), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(resize(noise, (40, 60)) - mean).mean() < 15  # bilinear alone: 39
    assert resize(image, (64, 64)) is image
