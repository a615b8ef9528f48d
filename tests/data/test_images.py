import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frcnn.data.images import ImageError, read_image, read_reduced
from frcnn.data.resizing import prepare, reduction, scale_for

SIZE = (480, 640)
SIDES = st.integers(1, 3000)


@pytest.fixture
def photograph():
    """A smooth picture with fine detail, RGB."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    detail = rng.integers(0, 40, (SIZE[0] // 4, SIZE[1] // 4, 1)).astype(np.uint8)
    return cv2.add(smooth, cv2.resize(detail, SIZE[::-1])[..., None].repeat(3, 2))


def saved(path, pixels, orientation=1, **options):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(path, exif=exif.tobytes(), **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("by", [1, 2, 4, 8])
def test_a_reduced_picture_is_the_mean_of_the_whole(tmp_path, photograph, by, orientation):
    path = saved(tmp_path / "a.jpg", photograph, orientation, quality=90)
    whole = read_image(path)
    image, divided = read_reduced(path, SIZE[0] // by, 10_000)
    assert divided == by and image.dtype == np.uint8
    height, width = whole.shape[0] // by, whole.shape[1] // by
    means = whole.reshape(height, by, width, by, 3).mean(axis=(1, 3))
    assert image.shape == means.shape
    assert np.abs(image - means).mean() < 1 and np.abs(image - means).max() < 12


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"progressive": True}, {"mode": "L"}])
def test_resized_it_is_nearly_what_the_whole_picture_gives(tmp_path, photograph, options):
    mode = options.pop("mode", "RGB")
    pixels = np.asarray(Image.fromarray(photograph).convert(mode))
    path = saved(tmp_path / "a.jpg", pixels, quality=90, **options)
    image, by = read_reduced(path, 100, 150)
    small, size, scale = prepare(image, 100, 150, (128, 160))
    expected, expected_size, (down, across) = prepare(read_image(path), 100, 150, (128, 160))
    assert by == 4 and size == expected_size
    assert scale == pytest.approx((by * down, by * across))
    apart = np.abs(small.astype(int) - expected)
    assert apart.mean() < 1 and apart.max() < 25


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp"])
def test_other_formats_stay_whole(tmp_path, photograph, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(photograph).save(path)
    image, by = read_reduced(path, 60, 80)
    assert by == 1
    np.testing.assert_array_equal(image, read_image(path))


def test_a_broken_picture_is_no_better_reduced(tmp_path, photograph):
    path = saved(tmp_path / "a.jpg", photograph)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match="truncated"):
        read_reduced(path, 60, 80)


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.integers(1, 800), st.sampled_from([1.0, 1.25, 2.0]))
def test_no_more_is_left_out_than_resizing_would(height, width, short, zoom):
    long = short * 5 // 3
    by = reduction((height, width), short, long, zoom)
    assert by in (1, 2, 4, 8) and height % by == width % by == 0
    wanted = scale_for((height, width), short, long) * zoom
    assert by == 1 or by * wanted <= 1
    twice = 2 * by
    assert by == 8 or twice * wanted > 1 or height % twice or width % twice


def test_what_cannot_be_shown_in_parts_unknown_is_read_whole():
    assert reduction((4000, 4000), 100, 200, float("inf")) == 1
