"""Pictures that show the same are found, others are not, and the search is that of brute force."""

import time

import cv2
import numpy as np
import pytest

from frcnn.data import duplicates
from frcnn.data.duplicates import DISTANCE, Looks, like_groups, look_at, picture_hash
from frcnn.data.faults import Kind
from frcnn.data.scenes import draw_scene


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng((5, n)), (240, 320))[0] for n in range(40)]


def reencoded(image):
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


CHANGES = {
    "encoded again": reencoded,
    "smaller": lambda image: cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
    "larger": lambda image: cv2.resize(image, None, fx=1.7, fy=1.7),
    "brighter": lambda image: np.clip(image * 1.1 + 20, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.6).astype(np.uint8),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None], 3, 2),
    "noisy": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255
    ).astype(np.uint8),
}


def written(folder, images, suffix=".jpg"):
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number:03d}{suffix}")
        cv2.imwrite(str(paths[-1]), image)
    return paths


@pytest.mark.parametrize("change", CHANGES)
def test_each_picture_is_found_with_its_changed_copy_alone(change, scenes, tmp_path):
    images = [*scenes, *map(CHANGES[change], scenes)]
    groups = like_groups(look_at(written(tmp_path, images), workers=2))
    assert [group.tolist() for group in groups] == [[n, n + 40] for n in range(40)]


def test_what_cannot_be_decoded_is_a_fault_and_like_nothing(tmp_path, scenes):
    paths = written(tmp_path, [scenes[0]] * 3)
    paths[1].write_bytes(b"nothing of a picture")
    paths.append(tmp_path / "none.jpg")
    counted = []
    looks = look_at(paths, progress=lambda: counted.append(1))
    assert [(fault.file, fault.kind) for fault in looks.faults] == [
        (paths[1], Kind.PICTURE),
        (paths[3], Kind.MISSING_PICTURE),
    ]
    assert looks.readable.tolist() == [True, False, True, False] and len(counted) == 4
    assert [group.tolist() for group in like_groups(looks)] == [[0, 2]]


def test_no_pictures():
    looks = look_at([])
    assert looks.hashes.shape == (0,) and like_groups(looks) == []


def test_plain_pictures_are_alike_by_their_brightness(tmp_path):
    shades = [np.full((80, 90, 3), level, np.uint8) for level in (10, 11, 200)]
    groups = like_groups(look_at(written(tmp_path, shades, ".png")))
    assert [group.tolist() for group in groups] == [[0, 1]]


def test_neither_brightness_nor_contrast_changes_a_hash():
    thumbnail = np.random.default_rng(0).integers(60, 120, (32, 32)).astype(np.uint8)
    assert picture_hash(thumbnail) == picture_hash(2 * thumbnail + 5)
    assert picture_hash(thumbnail) != picture_hash(thumbnail[::-1].copy())


def near_hashes(rng, count):
    """Random hashes, each with one that differs in a few bits."""
    first = rng.integers(0, 2**64, count, np.uint64)
    second = first.copy()
    for row, bits in enumerate(rng.integers(0, DISTANCE + 5, count)):
        for bit in rng.choice(64, bits, replace=False):
            second[row] ^= np.uint64(1) << np.uint64(bit)
    return np.concatenate([first, second])


def test_the_search_finds_what_comparing_all_pairs_finds():
    hashes = near_hashes(np.random.default_rng(1), 300)
    thumbnails = np.tile(np.arange(32, dtype=np.uint8) * 7, (600, 32, 1))
    found = like_groups(Looks(hashes, thumbnails, np.ones(600, bool)))
    bits = np.unpackbits((hashes[:, None] ^ hashes[None]).view(np.uint8), axis=1)
    near = bits.reshape(600, 600, 64).sum(axis=2) <= DISTANCE
    expected = [[n, n + 300] for n in range(300) if near[n, n + 300]]
    assert near.sum() == 600 + 2 * len(expected) and 100 < len(expected) < 250
    assert [group.tolist() for group in found] == expected


def test_thumbnails_decide_where_hashes_agree():
    thumbnails = np.random.default_rng(0).integers(0, 255, (4, 32, 32)).astype(np.uint8)
    thumbnails[3] = thumbnails[1] // 2 + 30
    looks = Looks(np.full(4, 77, np.uint64), thumbnails, np.ones(4, bool))
    assert [group.tolist() for group in like_groups(looks)] == [[1, 3]]


@pytest.mark.parametrize("same", [False, True])
def test_many_pictures_take_seconds(same):
    count = 30_000
    rng = np.random.default_rng(2)
    hashes = rng.integers(0, 2**64, count, np.uint64)
    if same:  # the pictures of one camera that stands still
        hashes = np.uint64(0x1234) ^ (np.uint64(1) << rng.integers(0, 64, count, np.uint64))
    thumbnails = np.zeros((count, 32, 32), np.uint8)
    began = time.perf_counter()
    groups = like_groups(Looks(hashes, thumbnails, np.ones(count, bool)))
    assert time.perf_counter() - began < 20
    assert len(groups) == (1 if same else 0)


def test_groups_are_joined_by_way_of_others():
    union = duplicates._Union(7)
    union.join(np.array([5, 1, 3]), np.array([3, 2, 6]))
    assert [group.tolist() for group in union.groups()] == [[1, 2], [3, 5, 6]]
    union.join(np.array([6]), np.array([2]))
    assert [group.tolist() for group in union.groups()] == [[1, 2, 3, 5, 6]]
