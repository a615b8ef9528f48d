"""Models, weights, states and settings that mean harm: one sentence, and nothing is run."""

import hashlib
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch

import frcnn
from exported import artefact, write_onnx, write_openvino
from frcnn.errors import UserError
from frcnn.inference.artefact import Artefact
from frcnn.inference.runtime import RuntimeDetector, open_artefact
from frcnn.training.config import Config
from frcnn.training.state import Notes, read_state, write_state
from frcnn.zoo import trial
from frcnn.zoo.converting import class_names
from frcnn.zoo.keras_applications import build_extractor
from frcnn.zoo.keras_h5 import read_keras_h5
from frcnn.zoo.matching import MatchReport
from frcnn.zoo.references import convert_torch
from frcnn.zoo.torch_pickle import read_torch_pickle
from hostile import NAME, NO_FILES, assert_sentence, fenced
from tiny import tiny_detector

MOBILENET = "mobilenet_v3_large_fpn"
READERS = {
    "a.keras": frcnn.load,
    "a.onnx": open_artefact,
    "a.xml": open_artefact,
    "a.pth": lambda path: convert_torch(path, MOBILENET),
    "a.safetensors": lambda path: convert_torch(path, MOBILENET),
    "a.h5": lambda path: build_extractor("MobileNetV3Small", path),
    "config.toml": Config.from_toml,
    "training.state": read_state,
    "names.txt": lambda path: class_names(str(path)),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_opened(tmp_path, name, kind):
    path = tmp_path / name
    NO_FILES[kind](path)
    (tmp_path / "a.bin").touch()
    if name == "names.txt" and kind != "sparse":
        assert class_names(str(path)) == (str(path),)  # it is taken for a name
        return
    with fenced(), pytest.raises(UserError) as caught:
        READERS[name](path)
    assert assert_sentence(caught.value).startswith((str(path), "There is no", "--weights"))


def test_weights_of_openvino_that_are_a_pipe_are_not_waited_for(tmp_path):
    path = write_openvino(tmp_path / "a.xml")
    path.with_suffix(".bin").unlink()
    NO_FILES["pipe"](path.with_suffix(".bin"))
    with fenced(), pytest.raises(UserError, match="a.bin beside it, which is missing"):
        frcnn.load(path)


# Exported detectors.

METADATA = {
    "deep": "[" * 100_000,
    "digits": '{"version": 1, "batch": ' + "9" * 5000 + "}",
    "canvas": artefact().to_json().replace("[64, 96]", "[1000000000, 1000000000]"),
    "canvas without end": artefact().to_json().replace("[64, 96]", "[Infinity, 64]"),
    "canvas of nothing": artefact().to_json().replace("[64, 96]", "[0, 64]"),
    "canvas of text": artefact().to_json().replace("[64, 96]", '["a", 64]'),
    "batch": artefact(batch=7).to_json().replace('"batch": 7', '"batch": 1000000000'),
    "classes": artefact().to_json().replace('["disc", "square"]', "3"),
}


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_that_ask_for_too_much(kind):
    with fenced(), pytest.raises(UserError, match="a.onnx has ") as caught:
        Artefact.from_json(METADATA[kind], "a.onnx")
    assert_sentence(caught.value)


def test_names_in_metadata_do_not_steer_the_terminal():
    for name in Artefact.from_json(artefact(classes=(NAME,)).to_json(), "a.onnx").classes:
        assert_sentence(name)


SOUND = {
    "boxes": np.zeros((1, 2, 4), np.float32),
    "scores": np.ones((1, 2), np.float32),
    "labels": np.zeros((1, 2), np.int32),
    "count": np.ones(1, np.int32),
}
ANSWERS = {
    "boxes that are no numbers": {"boxes": np.full((1, 2, 4), np.nan, np.float32)},
    "boxes without end": {"boxes": np.full((1, 2, 4), np.inf, np.float32)},
    "scores that are no numbers": {"scores": np.full((1, 2), np.nan, np.float32)},
    "more than there are": {"count": np.full(1, 3, np.int32)},
    "fewer than none": {"count": np.full(1, -1, np.int32)},
    "another class": {"labels": np.full((1, 2), 2, np.int32)},
    "no class": {"labels": np.full((1, 2), -1, np.int32)},
    "another shape": {"boxes": np.zeros((1, 4), np.float32)},
    "other pictures": {"count": np.ones(5, np.int32)},
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_graph_that_gives_no_detections(kind):
    picture = np.zeros((64, 96, 3), np.uint8)
    assert len(RuntimeDetector(artefact(batch=1), lambda given: SOUND).detect(picture)) == 1
    detector = RuntimeDetector(artefact(batch=1), lambda given: SOUND | ANSWERS[kind])
    with pytest.raises(UserError, match="gives something else than detections") as caught:
        detector.detect(picture)
    assert_sentence(caught.value)


@pytest.mark.parametrize("write", [write_onnx, write_openvino])
def test_a_graph_that_its_metadata_do_not_fit(tmp_path, write):
    suffix = ".onnx" if write is write_onnx else ".xml"
    path = write(tmp_path / f"a{suffix}", metadata=artefact(canvas=(32, 32)).to_json())
    with pytest.raises(UserError, match="cannot be run") as caught:
        frcnn.load(path).detect(np.zeros((64, 96, 3), np.uint8))
    assert_sentence(caught.value, 3000)


@pytest.mark.parametrize("place", ["../outside.bin", "/etc/hostname", "/dev/zero", "pipe"])
def test_a_graph_with_weights_in_other_folders_is_refused(tmp_path, place):
    folder = tmp_path / "in"
    folder.mkdir()
    NO_FILES["pipe"](folder / "pipe")
    (tmp_path / "outside.bin").write_bytes(np.ones(16, np.float32).tobytes())
    path = write_onnx(folder / "a.onnx")
    model = onnx.load(path)
    (corners,) = (each for each in model.graph.initializer if each.name == "corners")
    corners.ClearField("raw_data")
    corners.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": "64"}.items():
        corners.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with fenced(), pytest.raises(UserError, match="cannot be opened by ONNX Runtime") as caught:
        frcnn.load(path)
    assert_sentence(caught.value, 3000)


@pytest.mark.parametrize("write", [write_onnx, write_openvino])
def test_names_that_are_no_text(tmp_path, write):
    """In the graph and in the metadata."""
    path = write(tmp_path / ("a.onnx" if write is write_onnx else "a.xml"))
    content = path.read_bytes()
    for name in (b"boxes", b"images", b"disc"):
        path.write_bytes(content.replace(name, b"\xff" * len(name)))
        with fenced(), pytest.raises(UserError) as caught:
            frcnn.load(path)
        assert_sentence(caught.value, 3000)


def test_entities_in_the_xml_of_openvino_stay_as_they_are(tmp_path):
    path = write_openvino(tmp_path / "a.xml")
    entities = "".join(
        f'<!ENTITY {new} "{10 * f"&{old};"}">'
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    text = path.read_text()
    body = text[text.index("<net") :].replace("disc", "&i;")
    path.write_text(f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{entities}]>{body}')
    with fenced():
        try:
            assert len(frcnn.load(path).classes[0]) < 10
        except UserError as error:
            assert_sentence(error, 3000)


# Models of Keras.

CHANGES = {
    "canvases": ({"canvases": [[10**9, 10**9]]}, "canvas 1 cannot be used"),
    "a canvas of one side": ({"canvases": [[64]]}, "canvas 1 cannot be used"),
    "sides": ({"short": 10**7, "long": 10**7}, "short and long cannot be used"),
    "sides below one": ({"short": -1}, "short and long cannot be used"),
    "sides of text": ({"short": "600"}, "short and long cannot be used"),
    "multiple": ({"multiple": 0}, "multiple cannot be used"),
    "boxes": ({"rule": {"count": 10**10}}, "count of boxes cannot be used"),
    "score of text": ({"rule": {"score": "high"}}, "thresholds cannot be used"),
    "score that is no number": ({"rule": {"score": float("nan")}}, "thresholds cannot be used"),
    "candidates of text": ({"rule": {"candidates": "all"}}, "candidates cannot be used"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A sound model's file."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    tiny_detector().save(path)
    return path


def changed(path, model, **fields):
    """The model with other fields in its configuration."""
    with zipfile.ZipFile(model) as archive, zipfile.ZipFile(path, "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"].update(fields)
                content = json.dumps(config)
            other.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", CHANGES)
def test_a_model_that_asks_for_too_much(tmp_path, model, kind):
    fields, message = CHANGES[kind]
    path = changed(tmp_path / "a.keras", model, **fields)
    with fenced(), pytest.raises(UserError, match=f"a.keras holds a detector whose {message}") as e:
        frcnn.load(path)
    assert_sentence(e.value)


def test_names_in_a_model_do_not_steer_the_terminal(tmp_path, model):
    for name in frcnn.load(changed(tmp_path / "a.keras", model, classes=[NAME, "b"])).classes:
        assert_sentence(name)


# Files of weights.


def overlapping(path):
    """A zip archive whose many entries are the same bytes: each as large as the file."""
    storage = np.zeros(1 << 20, np.uint8).tobytes()
    count = 500
    names = {f"{index}": torch.zeros(1) for index in range(count)}
    torch.save(names, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(name for name in members if name.endswith("data.pkl")).removesuffix("data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}data.pkl", members[f"{root}data.pkl"])
        first = f"{root}data/0"
        archive.writestr(first, storage)
        for index in range(1, count):
            entry = zipfile.ZipInfo(f"{root}data/{index}")
            sound = archive.getinfo(first)
            entry.header_offset, entry.CRC = sound.header_offset, sound.CRC
            entry.file_size = entry.compress_size = sound.file_size
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
    return path


def test_entries_of_an_archive_that_lie_upon_each_other(tmp_path):
    path = overlapping(tmp_path / "a.pth")
    assert path.stat().st_size < 3 << 20
    with fenced(megabytes=300), pytest.raises(ValueError, match="has 1,048,576 bytes instead of 4"):
        read_torch_pickle(path)


def test_a_chunk_far_larger_than_its_array(tmp_path):
    """A chunk is unpacked whole, though two of its numbers alone may be wanted."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "a/a/kernel:0", (2,), "f4", maxshape=(None,), chunks=(1 << 28,), compression=9
        )
    with fenced(), pytest.raises(ValueError, match="declares arrays of 1,073,741,824 bytes"):
        read_keras_h5(path)


FOUND = Path(__file__).parent / "found"  # by fuzzing


def test_a_file_that_crashes_hdf5_ends_another_process():
    """Its name is of variable length, and lies where there is nothing."""
    with fenced(), pytest.raises(ValueError, match="it crashes the library that reads such files"):
        read_keras_h5(FOUND / "attribute.h5")


def test_a_file_that_is_read_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(trial, "_SECONDS", 4)
    with fenced(), pytest.raises(ValueError, match="reading it takes more than 4 s"):
        read_keras_h5(FOUND / "attribute_for_ever.h5")


def test_weights_for_keras_itself_are_looked_through_first(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["conv/conv/kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
    with pytest.raises(UserError, match="is a link to another place"):
        build_extractor("MobileNetV3Small", tmp_path / "a.h5")


def test_names_of_layers_do_not_steer_the_terminal():
    report = MatchReport(NAME, {}, {NAME: NAME}, (NAME,), (NAME,))
    for line in str(report).splitlines():
        assert_sentence(line)


# States of trainings.

NOTES = Notes(0, 0, 1, None, [], {})


def forged(path, *lines: bytes):
    """A state of these lines behind its first, with the checksum that they have."""
    write_state(path, [], NOTES)
    body = path.read_bytes().split(b"\n")[0] + b"\n" + b"".join(lines)
    path.write_bytes(body + hashlib.sha256(body).digest())
    return path


def notes(**changed) -> bytes:
    said = {"epoch": 0, "step": 0, "parts": 1, "best": None, "rows": [], "data": {}, **changed}
    return json.dumps(said).encode() + b"\n"


def array(**changed) -> bytes:
    said = {"name": "a", "dtype": "<f4", "shape": [2], **changed}
    return json.dumps(said).encode() + b"\n" + bytes(8)


STATES = {
    "a trillion numbers": (notes(), array(shape=[10**12]), b"\n"),
    "more than there are": (notes(), array(shape=[10**5, 10**5]), b"\n"),
    "fewer than none": (notes(), array(shape=[-2]), b"\n"),
    "no number of them": (notes(), array(shape=["a"]), b"\n"),
    "objects": (notes(), array(dtype="O", shape=[1]), b"\n"),
    "texts": (notes(), array(dtype="U2", shape=[1]), b"\n"),
    "records": (notes(), array(dtype="V8", shape=[1]), b"\n"),
    "records of a trillion": (notes(), array(dtype="(1000000,1000000)f4"), b"\n"),
    "a type that is parsed as Python": (notes(), array(dtype=",f4"), b"\n"),
    "a type of parts": (notes(), array(dtype=[["a", "<f4"]]), b"\n"),
    "no type": (notes(), array(dtype="import os"), b"\n"),
    "no name": (notes(), b'{"dtype": "<f4", "shape": []}\n', b"\n"),
    "a list": (notes(), b"[1]\n", b"\n"),
    "depth": (notes(), b"[" * 200_000 + b"\n", b"\n"),
    "depth of notes": (b"[" * 200_000 + b"\n", b"\n"),
    "no end": (notes(), array()),
    "no line": (notes(), b"x" * (1 << 20)),
    "notes of text": (notes(epoch="many"), b"\n"),
    "notes below zero": (notes(step=-1), b"\n"),
    "no parts": (notes(parts=0), b"\n"),
    "rows of text": (notes(rows=["a"]), b"\n"),
    "best of text": (notes(best="a"), b"\n"),
    "other notes": (notes(more=1), b"\n"),
    "few notes": (b"{}\n", b"\n"),
}


@pytest.mark.parametrize("kind", STATES)
def test_a_forged_state(tmp_path, kind):
    path = forged(tmp_path / "training.state", *STATES[kind])
    with fenced(), pytest.raises(UserError, match="is not the state of a training") as caught:
        read_state(path)
    assert_sentence(caught.value)


def test_a_state_forged_soundly_is_read(tmp_path):
    path = forged(tmp_path / "training.state", notes(), array(), b"\n")
    assert read_state(path)[0]["a"].tolist() == [0, 0] and read_state(path)[1] == NOTES


# Settings.

SETTINGS = {
    "depth": ("data = " + "[" * 50_000, "nested too deeply"),
    "depth of tables": ("data = " + "{a=" * 50_000, "nested too deeply|not a TOML"),
    "digits": ("data = 'x'\nepochs = " + "9" * 5000, "is not a TOML configuration"),
    "size": ("data = '" + "x" * (1 << 20) + "'", "more than the limit of 1,048,576"),
    "text": ("data = " + "[" + "'x', " * 1000 + "]", "data has a value of the wrong type"),
    "memory": ("data = 'x'\nbatch = 1000000000000", "--batch must be at most 10,000"),
    "threads": ("data = 'x'\nworkers = 1000000", "--workers must be at most 1,000"),
    "pixels": ("data = 'x'\nsize = 1000000000", "--size must be at most 10,000"),
    "no seed": ("data = 'x'\nseed = -1", "--seed must be at least 0"),
    "endless": ("data = 'x'\nscale_jitter = inf", "--scale-jitter must be at most 100"),
    "no number": ("data = 'x'\nphotometric = nan", "--photometric must be at least 0"),
    "name": ('data = "x"\n"\\u001b[2J" = 1', "unknown setting"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings(tmp_path, kind):
    text, message = SETTINGS[kind]
    path = tmp_path / "config.toml"
    path.write_text(text)
    with fenced(), pytest.raises(UserError, match=message) as caught:
        Config.from_toml(path)
    assert_sentence(caught.value)


def test_a_folder_whose_name_is_no_text(tmp_path):
    from frcnn.training.run import Run

    with pytest.raises(UserError, match="cannot be written"):
        Run.create(Config("\udcff", out=str(tmp_path / "run")))


def test_a_list_of_names_that_steer_the_terminal(tmp_path):
    (tmp_path / "names.txt").write_bytes(f"cat\n{NAME.strip()}".encode())
    for name in class_names(str(tmp_path / "names.txt")):
        assert_sentence(name)
