import dataclasses
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest

import frcnn
from frcnn.data.faults import ImageError
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.inference.preparation import Preparation
from frcnn.inference.sources import find_images
from tiny import CANVAS, CLASSES, tiny_batch, tiny_detector, tiny_network

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def detector():
    model = tiny_detector()
    model.canvases = ((64, 96), (96, 64))
    return Detector(model)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_one_picture_gives_detections_and_several_a_list(detector, tmp_path):
    image = picture(64, 96)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    one = detector.detect(image)
    assert isinstance(one, frcnn.Detections) and len(one) and one.classes == CLASSES
    for other in (detector.detect(tmp_path / "a.png"), detector.detect([image, image])[1]):
        np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)
    assert detector.detect([]) == []


def test_boxes_are_in_pixels_of_the_original(detector):
    """The same picture, twice as large, has boxes twice as large."""
    small = cv2.resize(picture(16, 24), (96, 64), interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(small, (192, 128), interpolation=cv2.INTER_NEAREST)
    expected, found = detector.detect(small), detector.detect(large)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, 2 * expected.boxes, atol=0.05)


def test_a_large_file_is_read_smaller_and_its_boxes_are_in_pixels_of_the_original(tmp_path):
    preparation = Preparation(64, 96, (CANVAS,), "smooth")
    picture = cv2.resize(tiny_batch()[0]["images"][0], (384, 256), interpolation=cv2.INTER_CUBIC)
    file = tmp_path / "large.jpg"
    cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
    pixels, by = preparation.read(file)
    assert (by, pixels.shape) == (4, (64, 96, 3))
    assert preparation.read(picture)[1] == 1
    assert dataclasses.replace(preparation, resizing="plain").read(file)[1] == 1
    for each in (preparation, dataclasses.replace(preparation, resizing="plain")):
        of_bytes, of_file = each.read(file.read_bytes()), each.read(file)
        assert of_bytes[1] == of_file[1] and np.array_equal(of_bytes[0], of_file[0])
    detector = Detector(tiny_detector())
    found = detector.detect(file)
    assert detector.detect(file.read_bytes()).to_dict() == found.to_dict()
    expected = detector.detect(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB))
    assert found.boxes.max() > 96  # not of the file as it was read
    # The pixels differ by a few levels.
    assert abs(len(found) - len(expected)) <= 2
    np.testing.assert_allclose(found.boxes[0], expected.boxes[0], atol=2.0)


def test_boxes_stay_inside_the_original(detector):
    for height, width in [(50, 120), (31, 17), (200, 64), (3, 90)]:
        found = detector.detect(picture(height, width))
        assert found.boxes.min(initial=0) >= 0
        assert found.boxes[:, 2].max(initial=0) <= width
        assert found.boxes[:, 3].max(initial=0) <= height


def test_results_do_not_depend_on_batch_or_company(detector):
    images = [picture(64, 96, 0), picture(96, 64, 1), picture(40, 60, 2), picture(64, 90, 3)]
    alone = [detector.detect(image) for image in images]
    for batch in (1, 3, 8):
        for found, expected in zip(detector.detect(images, batch=batch), alone, strict=True):
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)


def test_score_and_progress(detector):
    image, seen = picture(64, 96), []
    everything = detector.detect(image)
    middle = float(np.median(everything.scores))
    some = detector.detect([image], score=middle, progress=lambda: seen.append(1))[0]
    assert 0 < len(some) < len(everything) and (some.scores >= middle).all()
    assert len(seen) == 1


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(detector, image):
    with pytest.raises(ValueError, match="uint8 array of shape"):
        detector.detect([image])


def test_unreadable_pictures_are_named(detector, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nonsense")
    for name in ("broken.jpg", "missing.jpg"):
        with pytest.raises(ImageError, match=name):
            detector.detect(tmp_path / name)


def test_saving_leaves_the_optimizer_out_and_in_place(tmp_path):
    network = tiny_network()
    x, y = tiny_batch()
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    network.train_on_batch(x, y)
    Detector(tiny_detector(network)).save(tmp_path / "trained.keras")
    Detector(tiny_detector()).save(tmp_path / "fresh.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("trained", "fresh")]
    assert sizes[0] < 1.05 * sizes[1]
    network.train_on_batch(x, y)  # still compiled
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh.keras", "trained.keras"]


def test_saved_and_loaded_it_finds_the_same(detector, tmp_path):
    found = frcnn.load(detector.save(tmp_path / "model.keras")).detect(picture(64, 96))
    np.testing.assert_allclose(found.boxes, detector.detect(picture(64, 96)).boxes, atol=0.01)


def test_a_new_process_loads_a_model(detector, tmp_path):
    detector.save(tmp_path / "model.keras")
    code = f"import frcnn; print(frcnn.load({str(tmp_path / 'model.keras')!r}).classes)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == str(CLASSES), shown.stderr


def test_load_takes_the_best_of_a_run_folder(tmp_path):
    with pytest.raises(UserError, match="neither best.keras nor last.keras"):
        frcnn.load(tmp_path)
    Detector(tiny_detector()).save(tmp_path / "last.keras")
    assert frcnn.load(tmp_path).classes == CLASSES
    (tmp_path / "best.keras").write_bytes(b"")
    with pytest.raises(UserError, match="best.keras"):
        frcnn.load(tmp_path)
    with pytest.raises(UserError, match="no file or folder .*an exported .onnx"):
        frcnn.load(tmp_path / "nothing")


def test_sources(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "._a.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_images([tmp_path])] == ["a.png", "b.JPG"]
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    for paths, message in [
        ([], "No pictures were named"),
        ([tmp_path / "missing"], "no file or folder"),
    ]:
        with pytest.raises(UserError, match=message):
            find_images(paths)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        find_images([tmp_path / "empty"])
