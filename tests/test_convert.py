"""The command `frcnn convert`, from a file of another project to detections."""

import numpy as np
import pytest
import torch

import torchvision_peer as peers
from frcnn.cli import main
from frcnn.inference.predict import Detector
from frcnn.models.detector import DetectionRule
from keras_frcnn_peer import Original

MOBILENET = "mobilenet_v3_large_320_fpn"
NAMES = ",".join(f"kind {number}" for number in range(peers.CLASSES))


def picture(size, seed=0) -> np.ndarray:
    """Blocks of colours, of three sizes."""
    rng = np.random.default_rng(seed)
    layers = [
        np.kron(rng.integers(0, 86, (-(-size[0] // s), -(-size[1] // s), 3)), np.ones((s, s, 1)))
        for s in (1, 8, 32)
    ]
    return sum(layer[: size[0], : size[1]] for layer in layers).astype(np.uint8)


@pytest.fixture(scope="module")
def peer():
    return peers.lively_peer(MOBILENET, [picture((240, 320))])


@pytest.fixture(scope="module")
def checkpoint(peer, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "mobilenet.pth"
    torch.save(peer.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(file, preset, out="m.keras", classes=None) -> None:
    names = ["--classes", classes] if classes else []
    main(["convert", str(file), "--preset", preset, "--out", out, *names])


def refusal(capsys, folder, *arguments, **options) -> str:
    """The sentence that a conversion ends with, after it left the folder as it was."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        convert(*arguments, **options)
    assert caught.value.code == 2
    assert sorted(folder.rglob("*")) == before
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1, shown.err
    return shown.err


def test_a_torchvision_file_detects_as_torchvision(peer, checkpoint, capsys):
    convert(checkpoint, MOBILENET, "models/m.keras", NAMES)
    assert capsys.readouterr().out == "Wrote models/m.keras: 7 classes.\n"
    image = picture((240, 320), seed=1)
    detector = Detector.load("models/m.keras")
    assert detector.classes == tuple(NAMES.split(","))
    assert detector.model.rule == DetectionRule(score=0.05, iou_threshold=0.5)  # torchvision's
    ours, theirs = detector.detect(image), peers.peer_detections(peer, image)
    assert len(ours) == len(theirs["scores"]) > 20
    far = np.abs(ours.boxes[None] - theirs["boxes"][:, None]).max(axis=2)
    far[theirs["labels"][:, None] != ours.labels[None]] = np.inf
    assert sorted(far.argmin(axis=1)) == list(range(len(ours)))  # one to one
    assert far.min(axis=1).max() < 0.05
    assert np.abs(ours.scores[far.argmin(axis=1)] - theirs["scores"]).max() < 1e-4


def test_classes_come_from_a_file_or_are_numbered(checkpoint, folder):
    (folder / "names.txt").write_text("\n".join(NAMES.split(",")) + "\n")
    for classes, expected in [("names.txt", NAMES), (None, "1,2,3,4,5,6,7")]:
        convert(checkpoint, MOBILENET, classes=classes)
        assert Detector.load("m.keras").classes == tuple(expected.split(","))
    assert sorted(path.name for path in folder.iterdir()) == ["m.keras", "names.txt"]


@pytest.mark.parametrize("network", ["vgg", "resnet50"])
def test_a_keras_frcnn_file_detects_as_keras_frcnn(network, folder, capsys):
    image = picture((600, 600), seed=2)
    small = image[:96, :128]
    original = Original(network, small, rois=12)
    path = original.save(folder / "model_frcnn.hdf5")
    preset = {"vgg": "vgg16", "resnet50": "resnet50_c4"}[network]
    convert(path, preset, classes="a,b,c")
    path.unlink()
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3 and shown[-1] == "Wrote m.keras: 3 classes."
    model = Detector.load("m.keras").model
    assert (model.short, model.long, model.classes) == (600, 6000, ("a", "b", "c"))
    # The original's rule but for 300 proposals, of which the best 12 are the same.
    rule = model.network.rpn.inference_rule
    model.network.rpn.inference_rule = type(rule)(rule.before_nms, 12)
    model.short = 96  # so that the small picture is neither resized nor padded
    found = Detector(model).detect(small, score=0.6)
    theirs = original.detect(small, threshold=0.6)
    assert len(found) == len(theirs) > 1
    assert found.labels.tolist() == [label for label, _, _ in theirs]
    assert np.abs(found.scores - [score for _, score, _ in theirs]).max() < 1e-3
    assert np.abs(found.boxes - [box for _, _, box in theirs]).max() < 0.05


def test_a_file_of_another_architecture_is_refused(checkpoint, folder, capsys):
    for preset, expected in [
        ("vgg16", "vgg16 is not one of torchvision's architectures"),
        ("yolo", "There is no preset 'yolo'"),
    ]:
        assert expected in refusal(capsys, folder, checkpoint, preset)


def test_a_file_of_another_architecture_of_torchvisions_is_one_sentence(checkpoint, folder, capsys):
    assert "another architecture" in refusal(capsys, folder, checkpoint, "resnet50_fpn")


def test_names_that_do_not_fit_are_refused(checkpoint, folder, capsys):
    (folder / "names.txt").write_bytes(b"\xff\xfe\x00")
    for classes, expected in [
        ("a,b", "7 classes, but 2 names"),
        ("a,b,a,c,d,e,f", "occur twice"),
        ("names.txt", "not a text file"),
    ]:
        assert expected in refusal(capsys, folder, checkpoint, MOBILENET, classes=classes)


class Harmful:
    """Unpickled, it writes a file."""

    def __reduce__(self):
        return open, ("harmed", "w")


def test_damaged_and_hostile_files_are_refused(checkpoint, folder, capsys):
    content = checkpoint.read_bytes()
    hostile = b"cos\nsystem\n(S'touch harmed'\ntR."
    for data in (b"", content[:1000], content[: len(content) // 2], content[:-100], hostile):
        (folder / "weights.pth").write_bytes(data)
        assert "weights.pth" in refusal(capsys, folder, "weights.pth", MOBILENET)
    torch.save({"model": Harmful()}, folder / "weights.pth")
    assert "weights.pth" in refusal(capsys, folder, "weights.pth", MOBILENET)
    for name, preset in (("weights.hdf5", "vgg16"), ("weights.safetensors", MOBILENET)):
        (folder / name).write_bytes(b"nothing")
        assert name in refusal(capsys, folder, name, preset)
    assert not (folder / "harmed").exists()


def test_what_is_no_weight_file_is_refused(folder, capsys):
    for name in ("nowhere.pth", "nowhere.hdf5", "nowhere.safetensors"):
        preset = "vgg16" if name.endswith("hdf5") else MOBILENET
        assert name in refusal(capsys, folder, name, preset)
    (folder / "weights.onnx").write_bytes(b"nothing")
    message = refusal(capsys, folder, "weights.onnx", MOBILENET)
    assert "weights.onnx is of no kind that is known here: .pth, .pt, .safetensors" in message
    (folder / "a.pth").mkdir()
    assert "a.pth" in refusal(capsys, folder, "a.pth", MOBILENET)


def test_the_model_goes_to_a_keras_file(checkpoint, folder, capsys):
    message = refusal(capsys, folder, checkpoint, MOBILENET, "model.h5")
    assert "--out must end in .keras. Received: model.h5." in message
    (folder / "taken").write_text("a file")
    assert "taken" in refusal(capsys, folder, checkpoint, MOBILENET, "taken/m.keras")


def test_a_folder_in_the_models_place_leaves_nothing_behind(checkpoint, folder, capsys):
    (folder / "m.keras").mkdir()
    assert "m.keras" in refusal(capsys, folder, checkpoint, MOBILENET, "m.keras")
