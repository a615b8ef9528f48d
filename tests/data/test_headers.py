import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from frcnn.data.headers import HeaderError, read_size
from frcnn.data.images import ImageError, image_size, read_image

SIZE = (37, 53)
# Each quadrant its own colour, so that a turned or mirrored picture is told from a sound one.
QUADRANTS = np.zeros((*SIZE, 3), np.uint8)
QUADRANTS[:18, :26] = (220, 30, 30)
QUADRANTS[:18, 26:] = (30, 220, 30)
QUADRANTS[18:, :26] = (30, 30, 220)
QUADRANTS[18:, 26:] = (220, 220, 220)


def saved(path, pixels=QUADRANTS, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_size_and_pixels_of_every_format(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", **options)
    assert image_size(path) == SIZE
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - QUADRANTS)[4:14, 4:20].max() < 20  # red, not blue
    assert np.abs(image.astype(int) - QUADRANTS)[24:, 4:20].max() < 20


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("exif", [True, False])
def test_every_kind_of_webp(tmp_path, lossless, exif):
    options = {"exif": Image.Exif().tobytes()} if exif else {}  # makes it an extended file
    path = saved(tmp_path / "a.webp", lossless=lossless, **options)
    assert image_size(path) == read_image(path).shape[:2] == SIZE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_orientation_is_applied_and_told_by_the_header(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        saved(path, tiffinfo={0x112: orientation})
    else:
        exif = Image.Exif()
        exif[0x112] = orientation
        saved(path, exif=exif.tobytes())
    assert image_size(path) == read_image(path).shape[:2]
    if suffix == "jpg":
        assert image_size(path) == (SIZE if orientation < 5 else SIZE[::-1])
    if suffix == "webp":
        with Image.open(path) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened))
        assert np.abs(read_image(path).astype(int) - expected).max() < 8


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "I;16"])
def test_any_depth_and_channels_become_three_of_eight_bits(tmp_path, mode):
    if mode == "I;16":
        pixels = Image.fromarray(np.full(SIZE, 0x8000, np.uint16))
    else:
        pixels = Image.fromarray(QUADRANTS).convert(mode)
    pixels.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    if mode == "I;16":
        assert np.all(image == 0x80)
    if mode in ("RGBA", "P"):
        assert np.abs(image.astype(int) - QUADRANTS).max() < 60


def test_cmyk_and_progressive_jpeg(tmp_path):
    Image.fromarray(QUADRANTS).convert("CMYK").save(tmp_path / "a.jpg")
    saved(tmp_path / "b.jpg", progressive=True)
    for name in "ab":
        assert image_size(tmp_path / f"{name}.jpg") == SIZE
        assert read_image(tmp_path / f"{name}.jpg").shape == (*SIZE, 3)


def test_palette_bmp_and_os2_header(tmp_path):
    Image.fromarray(QUADRANTS).convert("P").save(tmp_path / "a.bmp")
    assert image_size(tmp_path / "a.bmp") == SIZE
    core = b"BM" + (26 + 24).to_bytes(4, "little") + bytes(4) + (26).to_bytes(4, "little")
    core += (12).to_bytes(4, "little") + b"\x02\x00\x03\x00\x01\x00\x18\x00" + bytes(24)
    assert read_size(core) == (3, 2)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncation_is_found_without_decoding(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    whole = saved(tmp_path / f"a.{suffix}", noise).read_bytes()
    path = tmp_path / f"b.{suffix}"
    path.write_bytes(whole[: max(int(len(whole) * share), 20)])
    for read in (image_size, read_image):
        with pytest.raises(ImageError, match=r"b\.\w+: .*truncated"):
            read(path)


def test_truncated_jpeg_with_a_thumbnail_is_found(tmp_path):
    thumbnail = saved(tmp_path / "t.jpg").read_bytes()
    exif = b"Exif\0\0II*\0" + bytes(8) + thumbnail  # its end marker is not the picture's
    whole = saved(tmp_path / "a.jpg", exif=exif).read_bytes()
    assert read_size(whole) == SIZE
    with pytest.raises(HeaderError, match="no end marker"):
        read_size(whole[:-30])


def test_trailing_bytes_are_no_truncation(tmp_path):
    for suffix in ("jpg", "png"):
        whole = saved(tmp_path / f"a.{suffix}").read_bytes()
        assert read_size(whole + bytes(100_000)) == SIZE


def test_missing_empty_and_foreign_files(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture at all")
    (tmp_path / "folder.jpg").mkdir()
    for name, problem in {
        "none.jpg": "does not exist",
        "empty.jpg": r"is empty \(0 bytes\)",
        "text.jpg": "is not a JPEG, PNG",
        "folder.jpg": "is not a file",
    }.items():
        for read in (image_size, read_image):
            with pytest.raises(ImageError, match=f"{name}: {problem}"):
                read(tmp_path / name)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    path = saved(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4) * 2
    path.write_bytes(data)
    for read in (image_size, read_image):
        with pytest.raises(ImageError, match="60000x60000 pixels, more than the limit"):
            read(path)


def test_damaged_data_under_a_sound_header(tmp_path):
    path = saved(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[40:-20] = bytes(len(data) - 60)
    path.write_bytes(data)
    assert image_size(path) == SIZE
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(path)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([".jpg", ".png", ".bmp", ".tiff", ".webp"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12),
    st.integers(0, 2000),
)
def test_damaged_bytes_give_a_size_or_an_error(suffix, edits, length):
    _, encoded = cv2.imencode(suffix, QUADRANTS)
    data = bytearray(encoded.tobytes())
    for place, value in edits:
        data[place % len(data)] = value
    for damaged in (bytes(data), bytes(data[:length])):
        try:
            height, width = read_size(damaged)
        except HeaderError:
            continue
        assert height > 0 and width > 0


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b""]
    ),
    st.binary(max_size=200),
)
def test_random_bytes_give_a_size_or_an_error(head, tail):
    try:
        height, width = read_size(head + tail)
    except HeaderError:
        return
    assert height > 0 and width > 0


@pytest.mark.parametrize("kind, bits", [("f4", 32), ("f8", 64)])
@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)])
def test_a_tiff_of_floats_is_refused_by_its_header(tmp_path, kind, bits, shape):
    path = tmp_path / "a.tiff"
    assert cv2.imwrite(str(path), np.full(shape, 0.5, kind))
    for read in (image_size, read_image):
        with pytest.raises(ImageError, match=f"{bits}-bit float samples; convert it to 8 or 16"):
            read(path)
    assert cv2.imwrite(str(path), np.full(shape, 500, "u2"))
    assert image_size(path) == (48, 64) == read_image(path).shape[:2]
