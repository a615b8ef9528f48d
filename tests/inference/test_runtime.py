"""Exported detectors, by each library that runs them."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

import frcnn
from exported import CANVAS, CLASSES, artefact, write_onnx, write_openvino
from frcnn.cli import main
from frcnn.errors import UserError
from frcnn.inference.artefact import Artefact, is_artefact
from frcnn.inference.preparation import Preparation
from frcnn.inference.runtime import RuntimeDetector, open_artefact
from frcnn.threads import available_cores

WRITERS = {".onnx": write_onnx, ".xml": write_openvino}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Writes a detector of one kind: ``write(**changed artefact) -> path``."""
    return lambda **changed: WRITERS[request.param](tmp_path / f"model{request.param}", **changed)


def picture(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def check(found, image, canvas_share=1.0):
    """What the graph finds in a picture of one colour that fills a share of its canvas."""
    height, width = image.shape[:2]
    mean = image[0, 0, 0] / 255 * canvas_share
    middle = np.array([width, height, width, height]) * [0.25, 0.25, 0.75, 0.75]
    np.testing.assert_allclose(found.boxes, [middle, [0, 0, width, height]], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.scores, [mean, mean / 2], rtol=1e-4)
    assert found.names == ["disc", "square"] and found.classes == CLASSES


def test_pictures_paths_and_lists(write, tmp_path):
    detector = frcnn.load(write())
    assert isinstance(detector, RuntimeDetector) and detector.classes == CLASSES
    image = picture(128, 192, 100)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    check(detector.detect(image), image)
    check(detector.detect(tmp_path / "a.png"), image)
    check(detector.detect(str(tmp_path / "a.png")), image)
    for found in detector.detect([image, tmp_path / "a.png"]):
        check(found, image)
    assert detector.detect([]) == []
    check(detector.detect(picture(32, 48, 7)), picture(32, 48, 7))  # made larger


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_any_number_of_pictures_in_batches_fixed_or_not(write, batch):
    detector = open_artefact(write(batch=batch))
    images = [picture(64, 96, 10 * n + 10) for n in range(7)]
    images[4] = picture(64, 48, 200)  # half the canvas
    seen = []
    for count in (1, 2, 3, 7):
        for wanted in (1, 4, 8):
            seen.clear()
            results = detector.detect(images[:count], batch=wanted, progress=lambda: seen.append(1))
            assert len(results) == count == len(seen)
            for index, (found, image) in enumerate(zip(results, images, strict=False)):
                check(found, image, 0.5 if index == 4 else 1.0)


@pytest.mark.parametrize(
    ("fixed", "calls"), [(None, [3, 3, 1]), (2, [2, 2, 2, 2]), (1, [1] * 7), (8, [8])]
)
def test_a_fixed_batch_is_filled_up_another_is_not(fixed, calls):
    shapes = []

    def graph(given):
        images, sizes = given["images"], given["sizes"]
        assert images.shape[1:] == (*CANVAS, 3) and sizes.dtype == np.int32
        assert sizes.shape == (len(images), 2) and sizes.min() >= 1
        shapes.append(len(images))
        return {
            "boxes": np.zeros((len(images), 1, 4), np.float32),
            "scores": np.ones((len(images), 1), np.float32),
            "labels": np.zeros((len(images), 1), np.int32),
            "count": np.ones(len(images), np.int32),
        }

    detector = RuntimeDetector(artefact(batch=fixed), graph)
    found = detector.detect([picture(64, 96, 1)] * 7, batch=3)
    assert [len(each) for each in found] == [1] * 7 and shapes == calls


def test_a_score_cuts(write):
    image = picture(64, 96, 204)
    detector = open_artefact(write())
    assert detector.detect(image, score=0.5).names == ["disc"]
    assert len(detector.detect([image], score=0.9)[0]) == 0


@pytest.mark.parametrize(
    ("images", "resizing"), [("uint8", "smooth"), ("float32", "smooth"), ("float32", "plain")]
)
def test_types_of_images(write, images, resizing):
    image = picture(70, 110, 51)
    found = open_artefact(write(images=images, resizing=resizing)).detect(image)
    np.testing.assert_allclose(found.boxes[1], [0, 0, 110, 70], atol=1e-3)
    sides = (int(70 * 96 / 110) if resizing == "plain" else round(70 * 96 / 110)), 96
    np.testing.assert_allclose(found.scores[0], 0.2 * sides[0] / CANVAS[0], rtol=1e-3)


def test_pictures_are_prepared_as_for_keras():
    from frcnn.inference.predict import Detector
    from tiny import tiny_detector

    ours = RuntimeDetector(artefact(), lambda given: given).preparation
    assert ours == Detector(tiny_detector()).preparation == Preparation(64, 96, (CANVAS,), "smooth")


def test_all_cores_that_there_are(write):
    kept = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(kept)})
        assert available_cores() == 1
        check(open_artefact(write()).detect(picture(64, 96, 9)), picture(64, 96, 9))
    finally:
        os.sched_setaffinity(0, kept)
    assert available_cores() == len(kept)


def test_what_is_an_artefact(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    assert is_artefact("a.onnx") and is_artefact(tmp_path / "a.XML")
    for other in ("run", "a.keras", "torchvision:fasterrcnn_resnet50_fpn", "hf://a/b"):
        assert not is_artefact(other)
    assert not is_artefact(tmp_path / "folder.onnx")


@pytest.mark.parametrize("suffix", WRITERS)
def test_no_such_file(tmp_path, suffix):
    for name in ("missing", 5000 * "n"):
        with pytest.raises(UserError, match=f"There is no file .*{name}{suffix}"):
            frcnn.load(tmp_path / f"{name}{suffix}")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("content", [b"", b"nonsense", b"<annotation>1</annotation>"])
def test_another_file(tmp_path, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(UserError, match=f"model{suffix} cannot be opened by O.*Export the"):
        frcnn.load(path)


def test_half_a_file(write):
    path = write()
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="cannot be opened by"):
        frcnn.load(path)


def test_openvino_without_its_weights(tmp_path):
    path = write_openvino(tmp_path / "model.xml")
    path.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match=r"model.xml has its weights in model.bin beside it"):
        frcnn.load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("", "does not say what its classes are"),
        ("{", "no metadata of `frcnn export` that can be read"),
        ('{"version": 1}', "no metadata of `frcnn export` that can be read"),
        (artefact().to_json().replace(": 1,", ": 2,", 1), "another version of frcnn.*version 2"),
    ],
)
def test_metadata_that_is_not_ours(write, metadata, message):
    with pytest.raises(UserError, match=f"model.(onnx|xml) .*{message}"):
        frcnn.load(write(metadata=metadata))


def test_metadata_of_earlier_exports_have_no_description(write):
    of = artefact()
    values = json.loads(of.to_json())
    assert values.pop("description")["sizes"].startswith("int32 (batch, 2)")
    assert frcnn.load(write(metadata=json.dumps(values))).artefact == of
    assert Artefact.from_json(of.to_json(), "it") == of


def test_a_graph_of_something_else(write):
    with pytest.raises(UserError, match="gives boxes, scores, not images, sizes and "):
        frcnn.load(write(outputs=("boxes", "scores")))


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [(".onnx", "onnxruntime", "runtime"), (".xml", "openvino", "openvino")],
)
def test_the_library_is_not_installed(tmp_path, monkeypatch, suffix, module, extra):
    path = WRITERS[suffix](tmp_path / f"model{suffix}")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"not installed. Install it with `pip .*frcnn\[{extra}\]"):
        frcnn.load(path)


def test_pictures_resized_plainly_are_not_rounded():
    with pytest.raises(ValueError, match='Expected `images` to be "float32"'):
        artefact(images="uint8", resizing="plain")


@pytest.mark.parametrize("changed", [{"batch": 0}, {"short": 0}, {"long": "9"}])
def test_numbers_of_an_artefact(changed):
    (name,) = changed
    with pytest.raises(ValueError, match=f"`{name}` of at least 1"):
        artefact(**changed)


NO_BACKEND = """
import importlib.util, sys, time
began = time.perf_counter()
import frcnn
assert time.perf_counter() - began < 1
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: (
    None if name in ("torch", "jax", "tensorflow") else real(name, *more)
)
HEAVY = {"keras", "torch", "torchvision", "jax", "tensorflow", "onnx"}
"""


def run_without_backend(code, **more):
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    code = f"{NO_BACKEND}{code}\nprint(sorted(HEAVY & {{n.split('.')[0] for n in sys.modules}}))"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, **more
    )


def test_the_library_needs_no_keras(write):
    path = write()
    result = run_without_backend(
        "import numpy as np\n"
        f"detector = frcnn.load({str(path)!r})\n"
        "assert len(detector.detect(np.ones((9, 9, 3), np.uint8))) == 2"
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_the_command_line_needs_no_keras(write, tmp_path):
    write_voc(tmp_path / "voc")
    path = write()
    result = run_without_backend(
        "from frcnn.cli import main\n"
        f"main(['predict', {path.name!r}, 'voc/JPEGImages', '--score', '0'])\n"
        f"main(['evaluate', {path.name!r}, 'voc', '--json', 'scores.json'])",
        cwd=tmp_path,
    )
    assert result.stdout.strip().splitlines()[-1] == "[]", result.stdout + result.stderr
    assert "2 pictures, 4 objects" in result.stdout and "VOC07 mAP" in result.stdout
    assert "Backend:" not in result.stderr and (tmp_path / "scores.json").is_file()
    assert len(list((tmp_path / "predictions").iterdir())) == 2


def test_a_model_of_keras_still_needs_a_backend(tmp_path):
    result = run_without_backend("from frcnn.cli import main\nmain(['evaluate', 'run', 'voc'])")
    assert result.returncode == 2 and "No Keras backend is installed" in result.stderr


def test_a_mistake_is_one_sentence_and_status_2(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    cv2.imwrite(str(tmp_path / "a.png"), picture(8, 8, 1))
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(tmp_path / "model.onnx"), str(tmp_path / "a.png")])
    shown = capsys.readouterr().err
    assert caught.value.code == 2 and shown.startswith("Error: ") and shown.count("\n") == 1


def write_voc(folder):
    """Two pictures whose "square" fills them."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(folder / f"JPEGImages/{index}.png"), picture(64, 96, 150))
        (folder / f"Annotations/{index}.xml").write_text(
            f"<annotation><filename>{index}.png</filename><object><name>square</name>"
            "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>96</xmax>"
            "<ymax>64</ymax></bndbox></object></annotation>"
        )
