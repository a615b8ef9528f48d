"""Model files from elsewhere: whatever is in them, nothing runs and the fault is one sentence."""

import io
import json
import os
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn.errors import UserError
from frcnn.models.detector import DetectionModel, read_model
from hostile import fenced
from tiny import CLASSES, tiny_detector

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound model's file."""
    path = tmp_path_factory.mktemp("sound") / "model.keras"
    tiny_detector().save(path)
    return path


def members_of(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def altered(path, sound, change):
    """The sound model with another config: ``change`` is given it, and may return a new one."""
    members = members_of(sound)
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(change(config) or config).encode()
    return write(path, members)


def assert_refused(path, message=None):
    with pytest.raises(UserError, match=message) as error:
        read_model(path)
    assert str(error.value).startswith(f"{path} ") and len(str(error.value)) < 600
    assert "\n" not in str(error.value)


def test_the_sound_file_is_read_also_when_it_was_packed_again(sound, tmp_path):
    assert read_model(sound).classes == CLASSES
    path = write(tmp_path / "packed.keras", members_of(sound), zipfile.ZIP_DEFLATED)
    assert isinstance(read_model(path), DetectionModel)


def code_that_makes(folder):
    """A layer of Keras with Python code in it, serialised."""
    layer = keras.layers.Lambda(eval(f"lambda x: __import__('os').mkdir({str(folder)!r})"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras.saving.serialize_keras_object(layer)


PLACES = {
    "whole": lambda config, part: part,
    "whole, under our name": lambda config, part: {
        **part,
        "registered_name": config["registered_name"],
    },
    "network": lambda config, part: config["config"].update(network=part),
    "preprocessing": lambda config, part: network(config).update(preprocessing=part),
    "neck": lambda config, part: network(config).update(neck=part),
    "layer": lambda config, part: layers(config)[1].update(part),
    "thresholds": lambda config, part: config["config"].update(rule=part),
    "loss to compile": lambda config, part: config.update(compile_config={"loss": part}),
}


def network(config):
    return config["config"]["network"]["config"]


def layers(config):
    return network(config)["extractor"]["config"]["layers"]


@pytest.mark.parametrize("place", PLACES)
def test_code_in_a_lambda_is_never_run(sound, tmp_path, place):
    trace = tmp_path / "ran"
    layer = code_that_makes(trace)
    path = altered(tmp_path / "bad.keras", sound, lambda config: PLACES[place](config, layer))
    try:
        read_model(path)
    except UserError as error:
        assert str(error).startswith(f"{path} ") and "\n" not in str(error)
    else:
        assert place == "loss to compile"  # which is not even looked at
    assert not trace.exists()
    keras.saving.deserialize_keras_object(layer, safe_mode=False)(np.zeros(1))
    assert trace.exists()  # the attack itself is sound


FOREIGN = {
    "os.system": {"module": "os", "class_name": "system", "config": {"command": "true"}},
    "eval": {"module": "builtins", "class_name": "eval", "config": {"source": "1"}},
    "function eval": {"module": "builtins", "class_name": "function", "config": "eval"},
    "function os.system": {"module": "os", "class_name": "function", "config": "system"},
    "get_file": {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:/"}},
    "load_model": {
        "module": "keras.saving",
        "class_name": "load_model",
        "config": {"filepath": ""},
    },
    "unsafe": {
        "module": "keras.config",
        "class_name": "enable_unsafe_deserialization",
        "config": {},
    },
    "inside Keras": {
        "module": "keras.src.utils.file_utils",
        "class_name": "makedirs",
        "config": {"path": "x"},
    },
    "this package": {"module": "frcnn.cli", "class_name": "main", "config": {}},
    "file as a vocabulary": {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"vocabulary": "/etc/passwd"},
    },
    "SavedModel": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": ""}},
    "module of PyTorch": {
        "module": "keras.layers",
        "class_name": "TorchModuleWrapper",
        "config": {"module": "gAJ9Lg=="},
    },
}


REFUSALS = {
    "os.system": "Could not locate class 'system'",
    "eval": "Could not locate class 'eval'",
    "function eval": "Could not locate function 'eval'",
    "function os.system": "Could not locate function 'system'",
    "get_file": "not a modeling function",
    "load_model": "not a modeling function",
    "unsafe": "not a modeling function",
    "inside Keras": "not a KerasSaveable",
    "this package": "Could not locate class 'main'",
    "file as a vocabulary": "vocabulary file outside of the model",
    "SavedModel": "loads an external SavedModel",
    "module of PyTorch": "potential risk",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_functions_and_foreign_classes_are_refused(sound, tmp_path, monkeypatch, kind):
    def ran(*_):
        raise AssertionError("it ran")

    monkeypatch.setattr(os, "system", ran)
    foreign = {"registered_name": None, **FOREIGN[kind]}
    for place in ("network", "neck", "layer"):
        path = altered(tmp_path / "bad.keras", sound, lambda c, p=place: PLACES[p](c, foreign))
        assert_refused(path, f"is not a readable model file: .*{REFUSALS[kind]}")
    place = PLACES["whole, under our name"]
    assert_refused(altered(tmp_path / "bad.keras", sound, lambda config: place(config, foreign)))
    assert keras.src.saving.serialization_lib.in_safe_mode() is not False


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "assets/a.txt", "model.weights.npz", "config.json"]
)
def test_members_that_no_detector_has_are_refused(sound, tmp_path, name):
    path = write(tmp_path / "bad.keras", members_of(sound))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # a name that is there
        archive.writestr(name, b"x")
    before = sorted(tmp_path.parent.rglob("*"))
    assert_refused(path, "has a member .*which no detector has")
    assert sorted(tmp_path.parent.rglob("*")) == before


MORE = "its layers have .* weights, and it has .* bytes"


def test_no_weights_are_drawn_that_are_read_next(sound):
    np.random.seed(3)
    expected = np.random.uniform()
    np.random.seed(3)
    read_model(sound)
    assert np.random.uniform() == expected


WIDTHS = {
    "a convolution": ("filters", 10**9, "incompatible with the layer"),  # the next one
    "a window": ("kernel_size", [30_000, 30_000], MORE),
    "a dense layer": ("units", [10**5, 10**5], MORE),
}


@pytest.mark.parametrize("kind", WIDTHS)
def test_layers_larger_than_their_weights_are_refused(sound, tmp_path, kind):
    """They would take their memory before Keras finds that the file has fewer."""
    key, value, message = WIDTHS[kind]

    def widen(item):
        for name, inner in item.items() if isinstance(item, dict) else enumerate(item):
            if name == key:
                item[name] = value
            elif isinstance(inner, (dict, list)):
                widen(inner)

    path = altered(tmp_path / "wide.keras", sound, widen)
    with fenced():
        assert_refused(path, message)
    read_model(sound)  # nothing is left of it that Keras would make now


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(sound, tmp_path, name):
    members = members_of(sound) | {name: bytes(64 << 20)}
    path = write(tmp_path / "bomb.keras", members, zipfile.ZIP_DEFLATED)
    assert_refused(path, "unpacks to 67,.*times its size")


def change(**fields):
    return lambda config: config["config"].update(fields)


CONFIGS = {
    "a list": lambda config: [1],
    "nothing": lambda config: {"registered_name": config["registered_name"]},
    "no network": lambda config: config["config"].pop("network") and None,
    "a number for a network": change(network=3),
    "another layer for a network": lambda config: config["config"].update(
        network=network(config)["rpn"]
    ),
    "unknown thresholds": change(rule={"nonsense": 1}),
    "no canvases": change(canvases=3),
    "other classes": change(classes=["one"]),
    "text for a number": lambda config: network(config)["rpn"]["config"].update(channels="eight"),
    "negative number": lambda config: network(config)["rpn"]["config"].update(channels=-8),
    "other number": lambda config: network(config)["rpn"]["config"].update(channels=16),
    "layer that is not there": lambda config: network(config)["extractor"]["config"].update(
        output_layers=[["absent", 0, 0]]
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_fits_nothing_is_one_sentence(sound, tmp_path, kind):
    assert_refused(altered(tmp_path / "bad.keras", sound, CONFIGS[kind]))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_config_that_is_no_json_is_one_sentence(sound, tmp_path, content):
    members = members_of(sound) | {"config.json": content}
    assert_refused(write(tmp_path / "bad.keras", members), "is not a readable model file")


def relinked(content: bytes, other) -> bytes:
    """The weights with one array replaced by a link to another file."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        arrays = []
        file.visititems(
            lambda n, item: arrays.append(n) if isinstance(item, h5py.Dataset) else None
        )
        del file[arrays[0]]
        file[arrays[0]] = h5py.ExternalLink(str(other), "/secret")
    return buffer.getvalue()


# Which containers of layers have no weights, Keras finds out only by looking.
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_that_link_to_another_file_are_refused(sound, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(8, "f4")
    members = members_of(sound)
    members["model.weights.h5"] = relinked(members["model.weights.h5"], tmp_path / "other.h5")
    assert_refused(write(tmp_path / "bad.keras", members), "could not be loaded")


@pytest.mark.parametrize("lost", ["config.json", "model.weights.h5"])
def test_a_lost_member_is_one_sentence(sound, tmp_path, lost):
    members = members_of(sound)
    del members[lost]
    assert_refused(write(tmp_path / "bad.keras", members), "is not a readable model file")


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_one_sentence_or_the_model(sound, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "model.keras"
    content = bytearray(sound.read_bytes())
    for _ in range(data.draw(st.integers(0, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        assert isinstance(read_model(path), DetectionModel)
    except UserError as error:
        assert str(error).startswith(f"{path} ") and "\n" not in str(error)
