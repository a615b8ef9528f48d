"""The command: which file, which pictures, what becomes of an export that differs."""

import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch

import frcnn
from frcnn import cli
from frcnn.apps import exporting
from frcnn.cli import main
from frcnn.data.faults import DataError
from frcnn.errors import UserError
from frcnn.export import checked, onnx_winograd
from frcnn.export.torch_program import trace
from frcnn.export.wishes import Wishes
from frcnn.inference.predict import Detector
from frcnn.models.detector import DetectionModel
from tiny import damage, tiny_detector, tiny_network, write_voc


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "best.keras"
    return Detector(tiny_detector()).save(path)


@pytest.fixture
def data(tmp_path):
    return write_voc(tmp_path / "voc", images=4, splits={"train": range(2), "val": range(2, 4)})


def test_the_command_with_generated_pictures(file, capsys, monkeypatch):
    monkeypatch.setattr(exporting, "COMPARED", 3)
    main(["export", str(file), "--format", "onnx"])
    out, err = capsys.readouterr()
    path = file.with_name("best.onnx")
    assert f"writing {path}\n" in err
    assert "3 of 3 generated images" in out and f"Wrote {path}." in out and "of the time" in out
    parity = json.loads(path.with_name("best.onnx.parity.json").read_text())
    assert parity["passed"] and parity["images"] == 3 and parity["detections"] > 3
    assert {each.name for each in file.parent.iterdir()} == {
        "best.keras",
        "best.onnx",
        "best.onnx.parity.json",
    }
    picture = np.zeros((64, 96, 3), np.uint8)
    assert len(frcnn.load(path).detect(picture)) == len(frcnn.load(file).detect(picture))


def test_an_export_that_differs_is_not_left(file, data, tmp_path, monkeypatch):
    def write_another(model, artefact, path, kind, **options):
        other = tiny_detector(tiny_network(seed=5))
        return checked_write(other, artefact, path, kind, **options)

    checked_write = checked.write
    monkeypatch.setattr(checked, "write", write_another)
    out = tmp_path / "out" / "model.onnx"
    with pytest.raises(UserError, match="was not written.*All figures are in .*parity-failed.json"):
        exporting.export_run(str(file), Wishes("onnx"), str(out), str(data))
    (left,) = out.parent.iterdir()
    assert left.name == "model.onnx.parity-failed.json"
    assert not json.loads(left.read_text())["passed"]


def test_eight_bits_on_the_data_that_calibrates(file, data, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_winograd, "CHANNELS", 8)
    monkeypatch.setattr(onnx_winograd, "CELLS", 1)
    out = tmp_path / "small.onnx"
    path, report = exporting.export_run(str(file), Wishes("onnx", int8=str(data)), str(out))
    assert path == out and report.artefact.precision == "int8"
    assert "the 2 images of" in report.pictures and "int8" in str(report)
    weights = [each.name for each in onnx.load(path).graph.initializer]
    assert not any("pieces" in name for name in weights)  # whole convolutions are faster so


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["onnx"], {"winograd": True}),
        (["openvino", "--no-winograd"], {"winograd": False}),
        (["torch_export"], {}),
    ],
)
def test_convolutions_by_tiles_where_a_format_has_them(file, monkeypatch, words, options):
    given = []
    monkeypatch.setattr(exporting, "export_checked", lambda *_, **options: given.append(options))
    main(["export", str(file), "--format", *words])
    assert given == [options]


def test_damaged_pictures_are_left_out_and_named(file, data, tmp_path, capsys):
    out = str(tmp_path / "small.onnx")
    for name in ("000.png", "002.png"):  # of those to calibrate on, and of those to compare on
        damage(data / "JPEGImages" / name)
    _, report = exporting.export_run(str(file), Wishes("onnx", int8=str(data)), out)
    assert report.pictures.startswith("1 of the 2 images of")
    said = capsys.readouterr().out
    assert "000.png" in said and "002.png" in said
    damage(data / "JPEGImages/003.png")
    with pytest.raises(DataError, match="none of its 2 images can be read"):
        exporting.export_run(str(file), Wishes("onnx"), out, str(data))


def test_which_file_and_which_pictures(file, tmp_path):
    onnx = Wishes("onnx")
    assert exporting._target(str(file.parent), onnx, None) == file.with_name("best.onnx")
    assert str(exporting._target("torchvision:some_net", onnx, None)) == "some_net.onnx"
    assert str(exporting._target("hf://owner/name", onnx, None)) == "name.onnx"
    with pytest.raises(UserError, match="--out must end in .onnx.*model.xml"):
        exporting._target(str(file), onnx, "model.xml")
    assert exporting._validated_on(str(file)) is None


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"int8": "data"}, "best-int8.onnx"),
        ({"batch": "dynamic"}, "best-dynamic.onnx"),
        ({"size": "64x96", "batch": "8", "int8": "data"}, "best-64x96-batch8-int8.onnx"),
        ({"images": "float32"}, "best-float32-images.onnx"),
        ({"winograd": False}, "best-no-winograd.onnx"),
        ({"kind": "saved_model", "batch": "dynamic"}, "best-dynamic_saved_model"),
    ],
)
def test_variants_do_not_take_each_others_place(file, settings, name):
    wishes = Wishes(**{"kind": "onnx", **settings})
    assert exporting._target(str(file), wishes, None) == file.with_name(name)


def test_what_is_left_is_reckoned_from_when_the_export_is_written(file, tmp_path, monkeypatch):
    began = []

    def note(name):
        original = getattr(checked, name)
        monkeypatch.setattr(checked, name, lambda *a, **b: began.append(name) or original(*a, **b))

    for name in ("write", "counting", "compare"):
        note(name)
    monkeypatch.setattr(exporting, "COMPARED", 2)
    exporting.export_run(str(file), Wishes("onnx"), str(tmp_path / "a.onnx"))
    assert began == ["write", "counting", "compare"]


def test_the_pictures_the_run_was_validated_on(file, data, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(frcnn.Config(str(data)).to_toml())
    dataset = exporting._validated_on(str(tmp_path))
    assert dataset is not None and [each.image.stem for each in dataset] == ["002", "003"]
    config.write_text(frcnn.Config(str(tmp_path / "gone")).to_toml())
    assert exporting._validated_on(str(tmp_path)) is None


def test_upright_pictures_that_a_broad_canvas_shows_smaller_are_told(file, tmp_path):
    model = Detector.load(file).model
    upright = DetectionModel(model.network, model.classes, 64, 96, ((64, 96), (96, 64)), model.rule)
    both = Detector(upright).save(tmp_path / "both.keras")
    data = write_voc(tmp_path / "voc", images=3, splits={"val": range(3)})
    for name, size in {"001": (144, 96), "002": (180, 120)}.items():
        cv2.imwrite(str(data / f"JPEGImages/{name}.png"), np.full((*size, 3), 90, np.uint8))
    out, report = exporting.export_run(str(both), Wishes("onnx"), None, str(data))
    assert report.artefact.canvas == (64, 96) and report.result.narrow.images == 2
    assert "The canvas of 64x96 shows 2 pictures smaller" in str(report)
    assert "--size 96x96 holds all in full" in str(report)
    parity = json.loads(out.with_name("both.onnx.parity.json").read_text())
    assert parity["narrow"]["canvas"] == [96, 96]
    _, report = exporting.export_run(str(both), Wishes("onnx", size="96x96"), None, str(data))
    assert report.result.narrow is None and "smaller" not in str(report)


@pytest.mark.parametrize("kind", ["onnx", "saved_model"])
def test_a_folder_with_other_things_is_not_replaced(kind, file, tmp_path):
    out = tmp_path / "mine.onnx"
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="mine.onnx is a folder.*Name another with --out"):
        exporting.export_run(str(file), Wishes(kind), str(out))
    assert (out / "thesis.txt").read_text() == "years"


def test_an_earlier_saved_model_and_an_empty_folder_may_be_replaced(tmp_path):
    saved_model = Wishes("saved_model").format
    exporting._check_free(tmp_path, saved_model)
    for name in ("saved_model.pb", "fingerprint.pb"):
        (tmp_path / name).touch()
    for name in ("assets", "assets.extra", "variables"):
        (tmp_path / name).mkdir()
    exporting._check_free(tmp_path, saved_model)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": "320"}, "--size is HEIGHTxWIDTH.*Received: 320"),
        ({"batch": "0"}, "--batch is a number of images or dynamic. Received: 0"),
        ({"batch": "many"}, "Received: many"),
        ({"kind": "torch_export", "int8": "data"}, "PyTorch is not written in 8 bits.*litert"),
        ({"kind": "litert", "winograd": False}, "of LiteRT do not go by tiles.*--no-winograd"),
        ({"int8": "data", "winograd": False}, "of 8 bits do not go by tiles.*--no-winograd"),
    ],
)
def test_settings_that_are_none(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Wishes(**{"kind": "onnx", **settings})


def test_pytorch_exports_on_the_processor(monkeypatch):
    monkeypatch.setenv("KERAS_TORCH_DEVICE", "none")  # so that it is as it was after this
    monkeypatch.delenv("KERAS_TORCH_DEVICE")
    monkeypatch.setattr(cli, "run_safely", lambda *arguments: None)
    main(["export", "none", "--format", "saved_model"])
    assert "KERAS_TORCH_DEVICE" not in os.environ
    main(["export", "none", "--format", "onnx"])
    assert os.environ["KERAS_TORCH_DEVICE"] == "cpu"
    elsewhere = SimpleNamespace(weights=[SimpleNamespace(value=torch.zeros(1, device="meta"))])
    with pytest.raises(UserError, match="Keras has this one on meta.*KERAS_TORCH_DEVICE to cpu"):
        trace(elsewhere, None, ())


def test_the_backend_follows_the_format(monkeypatch):
    from frcnn.backend import choose_backend

    monkeypatch.delenv("KERAS_BACKEND")
    assert choose_backend("tensorflow") == "Backend: tensorflow, which this needs."
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert choose_backend("torch") is None
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(UserError, match="backend torch, which is not installed"):
        choose_backend("torch")
