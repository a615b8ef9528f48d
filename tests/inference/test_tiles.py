"""Tiles cover a picture, an object that a seam cuts is one object, and what is memory's is kept."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import frcnn
from exported import write_onnx
from frcnn.data.faults import ImageError
from frcnn.errors import UserError
from frcnn.inference import tiles as module
from frcnn.inference.pictures import PictureDetector
from frcnn.inference.preparation import Preparation
from frcnn.inference.seams import beyond_tiles, merge_tiles
from frcnn.inference.tiles import TiledDetector, plan_tiles
from frcnn.inference.views import Views
from frcnn.inference.wrapped import WrappedDetector
from frcnn.structures import Detections, pairwise_iou

CLASSES = ("disc", "square")


class Rectangles(PictureDetector):
    """Finds the rectangles of plain colour on black: 100 is a disc, 200 a square.

    It does so on a canvas of 64 x 64, so that it sees nothing below about two pixels there, and is
    the surer the larger a thing is.
    """

    def __init__(self, side=64):
        self.side = side
        self.batches = []

    classes = CLASSES
    fills_batches = True
    fixed_canvas = True

    @property
    def preparation(self):
        return Preparation(self.side, self.side, ((self.side, self.side),), "smooth")

    def infer(self, images, sizes):
        self.batches.append(images.shape)
        found = [list(self._of(image)) for image in images]
        most = max(1, *map(len, found))
        boxes = np.zeros((len(images), most, 4), np.float32)
        scores = np.zeros((len(images), most), np.float32)
        labels = np.full((len(images), most), -1)
        for row, each in enumerate(found):
            for place, (score, label, box) in enumerate(sorted(each, reverse=True)):
                boxes[row, place], scores[row, place], labels[row, place] = box, score, label
        count = np.array([len(each) for each in found])
        return {"boxes": boxes, "scores": scores, "labels": labels, "count": count}

    def _of(self, image):
        for label, value in enumerate((100, 200)):
            mask = (np.abs(image[..., 0].astype(int) - value) <= 40).astype(np.uint8)
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
            for x, y, width, height, area in stats[1:count]:
                if min(width, height) > 2 and area > 0.8 * width * height:
                    yield area / image[..., 0].size, label, (x, y, x + width, y + height)


def drawn(size, *rectangles):
    """A black picture with rectangles (label, x1, y1, x2, y2)."""
    image = np.zeros((*size, 3), np.uint8)
    for label, x1, y1, x2, y2 in rectangles:
        image[y1:y2, x1:x2] = (100, 200)[label]
    return image


def check(found, *rectangles, tolerance=3.0):
    """What was found is what was drawn."""
    assert len(found) == len(rectangles)
    for label, *box in rectangles:
        near = np.abs(found.boxes - box).max(axis=1) <= tolerance
        assert near.sum() == 1 and found.labels[near] == [label], (label, box, found)
    assert (np.diff(found.scores) <= 0).all()


@given(st.integers(1, 500), st.integers(1, 500), st.integers(32, 200), st.floats(0, 0.9))
@settings(max_examples=80, deadline=None)
def test_tiles_cover_the_picture_and_overlap(height, width, side, overlap):
    tiles = plan_tiles((height, width), side, overlap)
    seen = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in tiles:
        assert (x2 - x1, y2 - y1) == (min(side, width), min(side, height))
        seen[y1:y2, x1:x2] = True
    assert seen.all() and tiles.min() >= 0
    starts = sorted(set(tiles[:, 0]))
    gaps = np.diff(starts)
    if len(gaps):
        assert gaps.max() <= max(int(side * (1 - overlap)), 1) + 1  # a pixel of rounding
        assert gaps.max() - gaps.min() <= 1 and starts[-1] == width - side
    # With one tile less in a row they could not overlap so much.
    assert len(starts) == 1 or (len(starts) - 2) * int(side * (1 - overlap)) < width - side


def test_small_objects_are_found_in_tiles_alone():
    rectangles = [(n % 2, 20 + 90 * n, 30 + 60 * n, 26 + 90 * n, 37 + 60 * n) for n in range(6)]
    image = drawn((400, 600), *rectangles)
    detector = Rectangles()
    assert len(detector.detect(image)) == 0
    check(TiledDetector(detector, 64).detect(image), *rectangles, tolerance=0.5)


def test_objects_of_all_sizes_across_seams_are_found_once():
    rectangles = [
        (0, 90, 20, 110, 40),  # in the overlap of two tiles or cut by one seam
        (0, 120, 80, 135, 95),
        (1, 30, 100, 350, 130),  # through many tiles
        (1, 100, 180, 240, 390),  # larger than a tile
        (0, 255, 255, 262, 262),
        (0, 380, 380, 400, 400),  # at the border
        (1, 0, 0, 40, 30),
    ]
    image = drawn((400, 400), *rectangles)
    for overlap in (0.1, 0.2, 0.5):
        tiled = TiledDetector(Rectangles(128), 128, overlap)
        check(tiled.detect(image), *rectangles, tolerance=4)


def test_two_objects_side_by_side_stay_two():
    rectangles = [(0, 10 + 24 * n, 40, 30 + 24 * n, 60) for n in range(12)]
    image = drawn((100, 320), *rectangles)
    check(TiledDetector(Rectangles(100), 100, 0.3).detect(image), *rectangles)


def test_objects_that_are_one_from_afar_stay_apart():
    rectangles = [(0, x, y, x + 20, y + 20) for x in (150, 172) for y in (150, 172)]
    image = drawn((400, 400), *rectangles)
    check(Rectangles().detect(image), (0, 150, 150, 192, 192), tolerance=8)
    check(TiledDetector(Rectangles(), 64, 0.2).detect(image), *rectangles)


def test_an_object_that_every_tile_cuts_is_put_together():
    rectangles = [(1, 20, 50, 380, 70)]
    image = drawn((128, 400), *rectangles)
    alone = TiledDetector(Rectangles(128), 128, 0.2, whole=False).detect(image)
    check(alone, *rectangles)


def test_a_picture_no_larger_than_a_tile_is_looked_at_once():
    detector = Rectangles()
    image = drawn((60, 64), (0, 10, 10, 30, 30))
    check(TiledDetector(detector, 64).detect(image), (0, 10, 10, 30, 30))
    assert detector.batches == [(1, 64, 64, 3)]


def test_tiles_of_a_picture_share_batches_of_one_shape():
    detector = Rectangles()
    TiledDetector(detector, 64, 0).detect(drawn((256, 192)), batch=4)
    assert detector.batches == [(4, 64, 64, 3)] * 4  # 12 tiles, the whole, 3 blanks


def test_a_compiled_detector_sees_one_size_of_batches_whatever_comes():
    detector = Rectangles()
    for count in (69, 5, 2):
        assert len(detector.detect([drawn((64, 64))] * count)) == count
    for width in (100, 230, 350):
        TiledDetector(detector, 64).detect(drawn((64, width)))
    assert {shape[0] for shape in detector.batches} == {8}
    detector.detect(drawn((64, 64)))
    assert detector.batches[-1][0] == 1


class AnySize(Rectangles):
    """Pictures have canvases of their own."""

    fills_batches = fixed_canvas = False

    @property
    def preparation(self):
        return Preparation(64, 10_000, (), "smooth")


def test_few_pictures_wait_where_all_sizes_differ(monkeypatch):
    monkeypatch.setattr("frcnn.inference.pictures._MOST_WAITING", 8)
    detector = AnySize()
    images = [drawn((64, 64 + 32 * n), (n % 2, 8, 8, 40, 40)) for n in (*range(20), *range(20))]
    for found, n in zip(detector.detect(images), (*range(20), *range(20)), strict=True):
        check(found, (n % 2, 8, 8, 40, 40))
    assert [shape[0] for shape in detector.batches] == [1] * 40
    detector.batches.clear()
    detector.detect([*images[:4], *images[:4]])
    assert [shape[0] for shape in detector.batches] == [2] * 4


@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 4), (96,)])
def test_arrays_of_another_shape_are_named_as_they_were_given(shape):
    for detector in (Rectangles(), TiledDetector(Rectangles(), 32)):
        with pytest.raises(ValueError, match=rf"Received: uint8 of shape \({shape[0]},"):
            detector.detect(np.zeros(shape, np.uint8))


def test_files_lists_scores_and_progress(tmp_path):
    image = drawn((300, 200), (0, 10, 10, 40, 40), (1, 100, 200, 190, 290))
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    tiled = TiledDetector(Rectangles(), 128)
    done = []
    one, other = tiled.detect([tmp_path / "a.png", image], progress=lambda: done.append(1))
    check(one, (0, 10, 10, 40, 40), (1, 100, 200, 190, 290), tolerance=4)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    assert len(done) == 2 and tiled.detect([]) == [] and tiled.classes == CLASSES
    assert tiled.detect(image, score=float(one.scores[1]) + 1e-6).boxes.tolist() == [
        one.boxes[0].tolist()
    ]
    with pytest.raises(ImageError, match="does not exist"):
        tiled.detect(tmp_path / "none.png")


def test_a_picture_with_more_pixels_than_others_may_have(tmp_path, monkeypatch):
    for reader in ("read_image", "decode_image"):
        monkeypatch.setattr(f"frcnn.data.images.{reader}.__defaults__", (10_000,))
    cv2.imwrite(str(tmp_path / "a.png"), drawn((200, 200), (0, 10, 10, 40, 40)))
    with pytest.raises(ImageError, match="more than the limit of 10,000"):
        frcnn.data.images.read_image(tmp_path / "a.png")
    tiled = TiledDetector(Rectangles(), 100)
    check(tiled.detect(tmp_path / "a.png"), (0, 10, 10, 40, 40))
    check(tiled.detect((tmp_path / "a.png").read_bytes()), (0, 10, 10, 40, 40))
    monkeypatch.setattr(module, "MOST_PIXELS", 39_999)
    for image in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes()):
        with pytest.raises(ImageError, match="200x200 pixels, more than the limit of 39,999"):
            tiled.detect(image)


class Sharing(WrappedDetector):
    """Sees to it that what it is given are parts of one picture, not copies."""

    def __init__(self, detector, picture):
        super().__init__(detector)
        self.picture = picture

    def find(self, images, score, batch, progress=None):
        assert len(images) > 1
        assert all(np.shares_memory(image, self.picture) for image in images)
        return self.detector.find(images, score, batch, progress)


def test_a_long_picture_that_is_not_in_memory_is_cut_without_a_copy(tmp_path):
    picture = np.memmap(tmp_path / "long", np.uint8, "w+", shape=(20_000, 1_000, 3))
    picture[15_000:15_300, 300:700] = 200
    tiled = TiledDetector(Sharing(Rectangles(), picture), 1_000, 0.1)
    check(tiled.detect(picture), (1, 300, 15_000, 700, 15_300), tolerance=20)


@pytest.mark.parametrize("values", [{"size": 31}, {"overlap": -0.1}, {"overlap": 0.95}])
def test_values_out_of_range(values):
    with pytest.raises(ValueError, match="Expected tiles of at least 32"):
        TiledDetector(Rectangles(), **values)
    names = {"size": "tiles"}
    with pytest.raises(UserError, match="Received"):
        Views(**{names.get(name, name): value for name, value in values.items()})


def test_an_overlap_without_tiles_is_refused():
    with pytest.raises(UserError, match="--overlap is of neighbouring tiles: give --tiles too"):
        Views(overlap=0.2)


def test_exported_detectors_of_one_canvas_and_batch(tmp_path):
    exported = frcnn.load(write_onnx(tmp_path / "model.onnx", batch=2))
    image = np.full((300, 500, 3), 90, np.uint8)
    found = TiledDetector(exported, 200, 0.2).detect(image)
    # Its graph finds the middle half of what it is given, and all of it.
    middle = np.array([[125, 75, 375, 225], [0, 0, 500, 300]])
    assert (pairwise_iou(middle, found.boxes).max(axis=1) > 0.99).all()


def of(*rows):
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes), np.array(scores), np.array(labels, int), CLASSES)


def test_the_whole_picture_is_believed_in_what_no_tile_sees_all_of():
    whole = of(
        ([10, 10, 60, 60], 0.9, 0),  # all of it in the first tile
        ([10, 10, 99.5, 60], 0.8, 0),  # ends at its seam
        ([60, 10, 130, 60], 0.7, 1),  # across it
        ([85, 10, 95, 20], 0.6, 1),  # in both
        ([120, 10, 180, 100], 0.5, 1),  # up to the picture's own border
    )
    assert beyond_tiles(whole, TWO, (100, 180)).scores.tolist() == np.float32([0.8, 0.7]).tolist()
    assert len(beyond_tiles(of(), TWO, (100, 180))) == 0


TWO = np.array([[0, 0, 100, 100], [80, 0, 180, 100]])


def merged(first, second):
    return merge_tiles([first, second], TWO, (100, 180))


def test_the_most_confident_of_two_whole_objects_stands():
    found = merged(of(([82, 10, 97, 30], 0.6, 0)), of(([83, 11, 97, 30], 0.9, 0)))
    assert found.boxes.tolist() == [[83, 11, 97, 30]] and found.scores == np.float32([0.9])


def test_another_class_and_another_place_stay():
    found = merged(of(([84, 10, 97, 30], 0.6, 0)), of(([84, 10, 97, 30], 0.9, 1)))
    assert found.labels.tolist() == [1, 0]
    found = merged(of(([84, 10, 97, 30], 0.6, 0)), of(([84, 40, 97, 60], 0.9, 0)))
    assert len(found) == 2


def test_a_whole_object_stands_for_its_part_however_sure_that_is():
    # The second tile begins at 80, and sees the right end of what the first sees all of.
    found = merged(of(([40, 10, 95, 30], 0.5, 0)), of(([80, 10, 95, 30], 0.8, 0)))
    assert found.boxes.tolist() == [[40, 10, 95, 30]] and found.scores.tolist() == [0.5]


def test_what_is_like_a_part_but_not_like_the_object_stays():
    first = of(([82, 10, 97, 30], 0.9, 0), ([82, 20, 97, 40], 0.5, 0))
    found = merged(first, of(([82, 15, 97, 35], 0.7, 0)))
    assert found.scores.tolist() == np.float32([0.9, 0.5]).tolist()


def test_two_parts_become_one_object():
    found = merged(of(([40, 10, 100, 30], 0.7, 0)), of(([80, 11, 140, 31], 0.8, 0)))
    assert found.boxes.tolist() == [[40, 10, 140, 31]] and found.scores == np.float32([0.8])


def test_parts_of_two_objects_side_by_side_stay_apart():
    # Both reach into the overlap, one above the other.
    found = merged(of(([40, 10, 100, 30], 0.7, 0)), of(([80, 32, 140, 50], 0.8, 0)))
    assert len(found) == 2


def test_a_large_object_and_a_small_one_in_it_stay_two():
    found = merged(of(([10, 10, 97, 90], 0.7, 0)), of(([83, 20, 95, 40], 0.8, 0)))
    assert len(found) == 2


def test_nothing_found():
    assert len(merged(of(), of())) == 0
    assert merged(of(([1, 1, 9, 9], 0.5, 1)), of()).labels.tolist() == [1]
