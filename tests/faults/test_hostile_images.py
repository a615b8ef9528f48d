"""Pictures that mean harm: left out and counted in a data set, one sentence where one is named."""

import cv2
import numpy as np
import pytest

from faults import only_fault
from frcnn.data import images
from frcnn.data.faults import ImageError
from frcnn.data.images import image_size, read_image, read_reduced
from frcnn.data.resizing import canvas_for, fit, fit_plain
from hostile import (
    NO_FILES,
    animated_png,
    assert_sentence,
    chunk,
    fenced,
    jpeg_of_scans,
    png,
    tiff,
    two_pictures,
)

COMMENT = b"\xff\xfe\x00\x02"  # of a JPEG, without a letter
ORIENTED = tiff([(0x112, 3, 6)])  # as an EXIF block: turned by a quarter


def huge_tiff(*, twice: bool) -> bytes:
    """States 60000 x 60000 pixels, and then perhaps 4 x 4 as well."""
    tags = [(256, 4, 60_000), (257, 4, 60_000)]
    tags += [(256, 4, 4), (257, 4, 4)] if twice else []
    rest = [(258, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 60_000), (279, 4, 16)]
    return tiff([*tags, *rest])


# What a picture's file may hold -> what is said of it.
BYTES = {
    "many parts, JPEG": (b"\xff\xd8" + 20_000 * COMMENT, "has more than 10,000 parts before its"),
    "many parts, PNG": (png(64, 48, 20_000 * chunk(b"teXt", b"")), "has more than 10,000 parts"),
    "fill bytes without end": (b"\xff\xd8" + b"\xff" * (1 << 25), "ends inside its header"),
    "many scans": (jpeg_of_scans(1000), "is a JPEG of more than 200 scans"),
    "bomb, PNG": (
        png(60_000, 1).replace(b"\xea\x60\0\0\0\1", b"\xea\x60\0\0\xea\x60"),
        "has 60000x",
    ),
    "bomb, TIFF": (huge_tiff(twice=False), "has 60000x60000 pixels, more than the limit"),
    "bomb, TIFF of two sizes": (huge_tiff(twice=True), "has 60000x60000 pixels, more than"),
    "no side": (png(0, 48), "states a size of 0x48 pixels"),
    "GIF": (b"GIF89a" + bytes(99), "is not a JPEG, PNG, BMP, TIFF or WebP picture"),
    "SVG": (b"<svg onload='alert(1)'/>", "is not a JPEG, PNG"),
    "pickle": (b"cos\nsystem\n(S'true'\ntR.", "is not a JPEG, PNG"),
}


def check(root, problem):
    """The picture b is left out for this, whoever reads it."""
    picture = root / "JPEGImages" / "b.png"
    with fenced():
        dataset, fault = only_fault(root)
        assert len(dataset) == 1 and fault.images == 1
        assert assert_sentence(fault.problem).startswith(problem)
        for read in (image_size, read_image, lambda path: read_reduced(path, 32, 64)):
            with pytest.raises(ImageError) as caught:
                read(picture)
            assert assert_sentence(caught.value).startswith(f"{picture}: {problem}")


@pytest.mark.parametrize("kind", BYTES)
def test_content(tmp_path, kind):
    root = two_pictures(tmp_path, "voc")
    content, problem = BYTES[kind]
    (root / "JPEGImages" / "b.png").write_bytes(content)
    check(root, problem)


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    root = two_pictures(tmp_path, "voc")
    picture = root / "JPEGImages" / "b.png"
    picture.unlink()
    NO_FILES[kind](picture)
    problem = {
        "loop": "does not exist",
        "sparse": "cannot be read (it has 8,796,093,022,208 bytes, more than the limit of",
    }
    check(root, problem.get(kind, "is not a file"))


def test_a_file_that_says_that_it_is_empty_is_not_read_to_its_end(tmp_path):
    """The system's own files have no length; some of them never end."""
    (tmp_path / "a.png").symlink_to("/proc/self/status")
    with fenced(), pytest.raises(ImageError, match=r"is empty \(0 bytes\)"):
        read_image(tmp_path / "a.png")


def test_a_wrong_suffix_does_not_matter(tmp_path):
    for suffix in (".jpg", ".webp", ".tif", ".bmp"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(png(64, 48))
        assert image_size(path) == (48, 64) == read_image(path).shape[:2]


def test_of_animations_the_first_frame_is_the_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(animated_png(1000))
    with fenced():
        assert read_image(path).shape == (48, 64, 3) and read_image(path).max() == 0
    animation = cv2.Animation()
    animation.frames = [np.full((48, 64, 4), value, np.uint8) for value in (90, 200)]
    animation.durations = np.array([10, 10])
    assert cv2.imwriteanimation(str(tmp_path / "a.webp"), animation)
    assert image_size(tmp_path / "a.webp") == (48, 64)
    assert abs(int(read_image(tmp_path / "a.webp").mean()) - 90) < 4


def test_scans_of_cameras_are_few_enough(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg_of_scans(150))
    assert read_image(tmp_path / "a.jpg").shape == (48, 64, 3)


def test_an_orientation_behind_the_pixels_turns_the_size_too(tmp_path):
    """Or boxes would be checked against the other side."""
    path = tmp_path / "a.png"
    path.write_bytes(png(64, 48, after=chunk(b"eXIf", ORIENTED)))
    assert read_image(path).shape[:2] == image_size(path) == (64, 48)
    damaged = path.read_bytes()
    path.write_bytes(damaged[:-20] + b"\xff" + damaged[-19:])  # the chunk's checksum
    assert image_size(path) == (48, 64)


def test_a_header_that_lies_about_the_size_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(64, 48))
    monkeypatch.setattr(images, "read_size", lambda data: (48, 32))
    with pytest.raises(ImageError, match="decodes to 64x48 pixels where its header says 32x48"):
        read_image(path)


def test_a_part_of_four_gigabytes_in_a_small_png_takes_no_memory(tmp_path):
    """Its decoder would make room for them. In its first and last forms found by fuzzing."""
    path = tmp_path / "a.png"
    for part in (b"IDAT", b"teXt"):
        data = png(64, 48, after=chunk(b"teXt", b"words"))
        place = data.index(part) - 4
        path.write_bytes(data[:place] + b"\xf9\xff\x0c\x3b" + data[place + 4 :])
        with fenced(megabytes=1000), pytest.raises(ImageError, match="ends behind its 1.. bytes"):
            read_image(path)
    path.write_bytes(png(64, 48)[:33] + b"\xff\xffATIENDD")  # a length, a kind, and hardly more
    with fenced(megabytes=1000), pytest.raises(ImageError, match="ends behind its 42 bytes"):
        read_image(path)
    path.write_bytes(png(64, 48, after=1000 * chunk(b"teXt", b"")))
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
@pytest.mark.parametrize("way", [fit, fit_plain])
def test_the_thinnest_pictures_are_resized_to_a_pixel_at_least(tmp_path, size, way):
    path = tmp_path / "a.png"
    path.write_bytes(png(size[1], size[0]))
    pixels, by = read_reduced(path, 600, 1000)
    for canvas in ((64, 96), canvas_for(size, 600, 1000, (), way is fit_plain)):
        picture, scale = way(pixels, 600, 1000, canvas)
        assert min(picture.shape[:2]) >= 1 and min(scale) > 0
        assert all(side <= most for side, most in zip(picture.shape[:2], canvas, strict=True))
