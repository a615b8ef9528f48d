import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.data.transforms import (
    HorizontalFlip,
    LargeScaleJitter,
    Photometric,
    RandomCrop,
    Rotate90,
    ScaleJitter,
    VerticalFlip,
    apply,
    crop,
    largest_zoom,
)

COLOURS = np.array([[255, 60, 60], [60, 255, 60], [60, 60, 255]], np.uint8)
GEOMETRIC = (HorizontalFlip(1), VerticalFlip(1), Rotate90(1), ScaleJitter(), RandomCrop(1))
ALL = (*GEOMETRIC, LargeScaleJitter(), Photometric())


def scene(height=60, width=90):
    """Three rectangles that do not touch, each in the colour of its label."""
    image = np.full((height, width, 3), 20, np.uint8)
    boxes = np.array([[5, 8, 25, 20], [30, 3, 48, 55], [60, 30, 89, 59]], np.float32)
    for (x1, y1, x2, y2), colour in zip(boxes.astype(int), COLOURS, strict=True):
        image[y1:y2, x1:x2] = colour
    return image, boxes, np.arange(3)


def found(image, label):
    """The tight box of the pixels in a label's colour."""
    rows, columns = np.nonzero((image == COLOURS[label]).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("transform", GEOMETRIC, ids=repr)
@pytest.mark.parametrize("seed", range(12))
def test_boxes_stay_on_their_objects(transform, seed):
    image, boxes, labels = transform(*scene(), np.random.default_rng(seed))
    assert boxes.dtype == np.float32 and boxes.shape == (len(labels), 4)
    assert image.dtype == np.uint8 and image.ndim == 3
    for box, label in zip(boxes, labels, strict=True):
        np.testing.assert_array_equal(box, found(image, label))


def test_two_of_them_after_another():
    image, boxes, labels = apply(GEOMETRIC[:3], *scene(), np.random.default_rng(5))
    assert image.shape in ((60, 90, 3), (90, 60, 3)) and len(labels) == 3
    for box, label in zip(boxes, labels, strict=True):
        np.testing.assert_array_equal(box, found(image, label))


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_inputs_are_never_changed(transform):
    given_arrays = scene()
    for array in given_arrays:
        array.flags.writeable = False
    for seed in range(5):
        transform(*given_arrays, np.random.default_rng(seed))
    for array, untouched in zip(given_arrays, scene(), strict=True):
        np.testing.assert_array_equal(array, untouched)


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_the_generator_alone_decides(transform):
    first, again, other = (transform(*scene(), np.random.default_rng(s)) for s in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    if not isinstance(transform, (HorizontalFlip, VerticalFlip)):
        assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_no_boxes_stay_none(transform):
    image, boxes, labels = scene()
    for seed in range(5):
        _, none, no_labels = transform(image, boxes[:0], labels[:0], np.random.default_rng(seed))
        assert none.shape == (0, 4) and none.dtype == np.float32 and no_labels.shape == (0,)


@pytest.mark.parametrize("kind", [HorizontalFlip, VerticalFlip, Rotate90, RandomCrop])
def test_probability_zero_changes_nothing_and_a_half_changes_half(kind):
    image, boxes, labels = scene()
    assert kind(0)(image, boxes, labels, np.random.default_rng(0))[0] is image
    rng = np.random.default_rng(0)
    changed = sum(kind(0.5)(image, boxes, labels, rng)[0] is not image for _ in range(400))
    assert 160 < changed < 240


BOXES = st.lists(
    st.tuples(*[st.floats(0, 90, width=32)] * 2, *[st.floats(0, 60, width=32)] * 2), max_size=5
).map(lambda rows: np.array(
    [[min(a, b), min(c, d), max(a, b), max(c, d)] for a, b, c, d in rows], np.float32
).reshape(-1, 4))  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(BOXES)
def test_flips_are_involutions(boxes):
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    labels, rng = np.arange(len(boxes)), np.random.default_rng(0)
    for flip in (HorizontalFlip(1), VerticalFlip(1)):
        back = apply((flip, flip), image, boxes, labels, rng)
        np.testing.assert_array_equal(back[0], image)
        np.testing.assert_allclose(back[1], boxes, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(BOXES, st.integers(0, 1000))
def test_four_equal_turns_are_none_and_area_is_kept(boxes, seed):
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    labels = np.arange(len(boxes))
    turned = image, boxes, labels
    for _ in range(4):
        turned = Rotate90(1)(*turned, np.random.default_rng(seed))
        width, height = turned[0].shape[1], turned[0].shape[0]
        assert (turned[1] >= 0).all() and (turned[1] <= [width, height] * 2).all()
    np.testing.assert_array_equal(turned[0], image)
    np.testing.assert_allclose(turned[1], boxes, atol=1e-4)


def test_every_quarter_turn_is_drawn():
    rng, shapes = np.random.default_rng(0), []
    image, boxes, labels = scene()
    for _ in range(60):
        turned = Rotate90(1)(image, boxes, labels, rng)[0]
        shapes += [next(q for q in range(4) if np.array_equal(turned, np.rot90(image, q)))]
    assert set(shapes) == {1, 2, 3}


@settings(max_examples=60, deadline=None)
@given(BOXES, st.integers(0, 1000), st.sampled_from([RandomCrop(1), ScaleJitter(0.4, 2.5)]))
def test_crops_keep_the_boxes_whose_centre_stays_inside_the_picture(boxes, seed, transform):
    labels = np.arange(len(boxes))
    image = np.zeros((60, 90, 3), np.uint8)
    changed, kept, names = transform(image, boxes, labels, np.random.default_rng(seed))
    height, width = changed.shape[:2]
    assert (kept >= 0).all() and (kept <= np.float32([width, height] * 2)).all()
    assert len(np.unique(names)) == len(names) <= len(boxes)
    assert (np.diff(names) > 0).all()


def test_crop_by_hand():
    image, labels = np.zeros((60, 90, 3), np.uint8), np.arange(3)
    boxes = np.array([[0, 0, 20, 20], [0, 0, 18, 20], [25, 15, 80, 50]], np.float32)
    cut, kept, names = crop(image, boxes, labels, (10, 5, 60, 45))
    assert cut.shape == (40, 50, 3)
    np.testing.assert_array_equal(kept, [[0, 0, 10, 15], [15, 10, 50, 40]])
    assert names.tolist() == [0, 2]  # the second one's centre, x = 9, is outside


def test_a_crop_keeps_an_object_where_it_can():
    image, labels = np.zeros((60, 90, 3), np.uint8), np.zeros(1, int)
    corner = np.array([[0, 0, 2, 2]], np.float32)
    for seed in range(30):
        _, kept, _ = RandomCrop(1)(image, corner, labels, np.random.default_rng(seed))
        assert len(kept) == 1


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_scale_jitter_changes_the_share_of_the_picture(factor):
    image, boxes, labels = scene()
    jittered = ScaleJitter(factor, factor)
    changed, kept, _ = jittered(image, boxes[:1], labels[:1], np.random.default_rng(1))
    assert changed.shape[:2] == (round(60 / factor), round(90 / factor))
    if len(kept) and factor <= 1:
        width = (kept[0, 2] - kept[0, 0]) / changed.shape[1]
        assert width == pytest.approx(20 / 90 * factor)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ScaleJitter(0, 1),
        lambda: ScaleJitter(2, 1),
        lambda: LargeScaleJitter(0, 1),
        lambda: RandomCrop(low=0),
        lambda: RandomCrop(low=1.1),
    ],
)
def test_values_that_make_no_sense(bad):
    with pytest.raises(ValueError, match="Expected 0 < low"):
        bad()


def drawn(transform, pixel, seed):
    image = np.full((2, 2, 3), pixel, np.uint8)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    changed = transform(image, *none, np.random.default_rng(seed))[0]
    return changed[0, 0].astype(int)


@pytest.mark.parametrize("seed", range(10))
def test_each_photometric_part_alone(seed):
    colour = np.array([180, 90, 60])
    nothing = Photometric(0, 0, 0, 0)
    np.testing.assert_array_equal(drawn(nothing, colour, seed), colour)
    brighter = drawn(Photometric(0.1, 0, 0, 0), colour, seed) - colour
    assert np.ptp(brighter) <= 1 and 0 < np.abs(brighter).max() <= 26
    grey = drawn(Photometric(0, 0.3, 0, 0), (127, 127, 127), seed)
    assert np.abs(grey - 127).max() <= 1  # contrast leaves mid-grey where it is
    for part in (Photometric(0, 0, 0.4, 0), Photometric(0, 0, 0, 30)):
        assert np.abs(drawn(part, (90, 90, 90), seed) - 90).max() <= 1  # and these any grey
    luma = [0.299, 0.587, 0.114]
    saturated = drawn(Photometric(0, 0, 0.4, 0), colour, seed)
    assert luma @ saturated == pytest.approx(luma @ colour, abs=1.5)
    assert (saturated != colour).any()
    turned = drawn(Photometric(0, 0, 0, 15), colour, seed)
    assert turned.sum() == pytest.approx(colour.sum(), abs=3) and (turned != colour).any()


def test_the_largest_zoom_is_that_of_all_together():
    assert largest_zoom(()) == 1
    assert largest_zoom((HorizontalFlip(), VerticalFlip(), Rotate90(), Photometric())) == 1
    assert largest_zoom((ScaleJitter(0.5, 0.8), HorizontalFlip())) == 1
    assert largest_zoom((ScaleJitter(0.5, 1.5), RandomCrop(1, low=0.5))) == 3
    assert largest_zoom((LargeScaleJitter(),)) == 2
    assert largest_zoom((lambda *given: given[:3],)) == float("inf")


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_large_scale_jitter_changes_sizes_by_its_factor(factor, seed):
    image, boxes, labels = scene()
    changed, moved, kept = LargeScaleJitter(factor, factor)(
        image, boxes, labels, np.random.default_rng(seed)
    )
    if factor < 1:
        assert changed.shape == image.shape and len(kept) == 3
        np.testing.assert_allclose(moved[:, 2:] - moved[:, :2], (boxes[:, 2:] - boxes[:, :2]) / 2)
        for (x1, y1, x2, y2), label in zip(moved, kept, strict=True):
            inside = changed[int(y1) + 1 : int(y2) - 1, int(x1) + 1 : int(x2) - 1]
            assert (inside == COLOURS[label]).all()
    else:  # a window, brought to the working size afterwards
        assert changed.shape == (round(60 / factor), round(90 / factor), 3)
        for box, label in zip(moved, kept, strict=True):
            np.testing.assert_array_equal(box, found(changed, label))


def test_large_scale_jitter_draws_evenly_from_a_tenth_to_two():
    image, boxes, labels = scene(300, 300)
    rng, areas = np.random.default_rng(0), []
    for _ in range(300):
        changed, moved, _ = LargeScaleJitter()(image, boxes, labels, rng)
        if changed.shape == image.shape and len(moved) == 3:
            areas.append((moved[0, 2] - moved[0, 0]) / (boxes[0, 2] - boxes[0, 0]))
    assert 100 < len(areas) < 180  # 0.9 of the range of 1.9 makes everything smaller
    assert min(areas) < 0.15 and np.mean(areas) == pytest.approx(0.55, abs=0.06)
