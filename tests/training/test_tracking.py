"""What a training sends to the libraries that track it."""

import dataclasses
import importlib.util
import struct
import sys
import types

import cv2
import numpy as np
import pytest

from frcnn.errors import UserError
from frcnn.training.callbacks import History
from frcnn.training.config import Config
from frcnn.training.run import Run
from frcnn.training.tracking import TRACKERS, Track, check_tracker, open_tracking


class Rows:
    """Stands for the history."""

    row = History.row

    def __init__(self):
        self.rows = []


class Recorder(types.ModuleType):
    """A library that notes the calls of its functions, and of those of what they give."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            if name == "Image":
                return f"image of {arguments[0]}"
            if name == "start_run":
                run_id = named.get("run_id", "run of mlflow")
                return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))
            return self

        return call


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.samples.mkdir(parents=True)
    return run


def config(run, tracker):
    return Config("data", out=str(run.folder), track=tracker)


def picture(run, name):
    path = run.samples / f"{name}.jpg"
    cv2.imwrite(str(path), np.full((6, 9, 3), 100, np.uint8))
    return path


def two_epochs(run, tracker):
    """Track two epochs, of which the second has a picture and a figure that is not defined."""
    history = Rows()
    (track,) = open_tracking(config(run, tracker), run, history)
    history.rows.append({"epoch": 1, "loss": 2.0, "val_AP": 0.25})
    track.on_epoch_end(0)
    path = picture(run, "validation-epoch002")
    history.rows.append({"epoch": 2, "loss": 1.5, "val_AP": float("nan")})
    track.on_epoch_end(1)
    track.close()
    return path


def stand_in(monkeypatch, name):
    library = Recorder(name)
    monkeypatch.setitem(sys.modules, name, library)
    return library


def logged(path):
    """What two epochs, the second with a picture, ask of Weights & Biases or its like."""
    return [
        ("log", ({"loss": 2.0, "val_AP": 0.25},), {"step": 1}),
        ("log", ({"loss": 1.5},), {"step": 2}),
        ("Image", (str(path),), {}),
        ("log", ({"validation-epoch002": f"image of {path}"},), {"step": 2}),
        ("finish", (), {}),
    ]


def test_wandb_gets_figures_and_pictures(run, monkeypatch):
    library = stand_in(monkeypatch, "wandb")
    path = two_epochs(run, "wandb")
    (name, _, begun), *calls = library.calls
    assert (name, begun["project"], begun["name"]) == ("init", "frcnn", "run")
    assert begun["resume"] == "allow" and begun["dir"] == str(run.folder)
    assert begun["config"] == dataclasses.asdict(config(run, "wandb"))
    assert calls == logged(path)


def test_mlflow_gets_figures_and_pictures(run, monkeypatch):
    library = stand_in(monkeypatch, "mlflow")
    path = two_epochs(run, "mlflow")
    assert library.calls == [
        ("set_experiment", ("frcnn",), {}),
        ("start_run", (), {"run_name": "run"}),
        ("log_params", (dataclasses.asdict(config(run, "mlflow")),), {}),
        ("log_metrics", ({"loss": 2.0, "val_AP": 0.25},), {"step": 1}),
        ("log_metrics", ({"loss": 1.5},), {"step": 2}),
        ("log_artifact", (str(path), "samples"), {}),
        ("end_run", (), {}),
    ]


def test_trackio_gets_figures_and_pictures(run, monkeypatch):
    library = stand_in(monkeypatch, "trackio")
    path = two_epochs(run, "trackio")
    (name, _, begun), *calls = library.calls
    assert (name, begun["project"], begun["resume"]) == ("init", "frcnn", "allow")
    assert begun["name"].startswith("run-")
    assert calls == logged(path)


@pytest.mark.parametrize(
    ("name", "begin", "key"),
    [("wandb", "init", "id"), ("mlflow", "start_run", "run_id"), ("trackio", "init", "name")],
)
def test_a_training_that_goes_on_goes_on_there_too(run, monkeypatch, name, begin, key):
    library = stand_in(monkeypatch, name)
    for _ in range(2):
        open_tracking(config(run, name), run, Rows())
    known = [named.get(key, "run of mlflow") for call, _, named in library.calls if call == begin]
    assert len(known) == 2 and known[0] == known[1]
    run.tracked.unlink()  # as a new run in this folder does
    open_tracking(config(run, name), run, Rows())
    if name != "mlflow":
        assert library.calls[-1][2][key] != known[0]


def test_pictures_that_were_there_are_not_sent(run):
    sent = []
    tracker = types.SimpleNamespace(
        figures=lambda values, epoch: None, picture=lambda path, epoch: sent.append(path.stem)
    )
    picture(run, "old")
    history = Rows()
    history.rows.append({"epoch": 1, "loss": 1.0})
    track = Track(tracker, run, history)
    picture(run, "new")
    track.on_epoch_end(0)
    track.on_epoch_end(1)
    assert sent == ["new"]


def test_tensorboard_reads_the_events_back(run):
    path = two_epochs(run, "tensorboard")
    (file,) = (run.folder / "tensorboard").iterdir()
    from tensorboard.compat.proto.event_pb2 import Event

    events = [Event.FromString(record) for record in records(file.read_bytes())]
    found = [(event.step, value) for event in events for value in event.summary.value]
    scalars = [(step, v.tag, v.simple_value) for step, v in found if v.HasField("simple_value")]
    assert scalars == [(1, "loss", 2.0), (1, "val_AP", 0.25), (2, "loss", 1.5)]
    ((step, value),) = [(step, v) for step, v in found if v.HasField("image")]
    assert (step, value.tag) == (2, "validation-epoch002")
    assert (value.image.height, value.image.width) == (6, 9)
    assert value.image.encoded_image_string == path.read_bytes()


def records(data: bytes):
    """The records of a TFRecord file: length, its checksum, the bytes, theirs."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_a_missing_library_is_named(monkeypatch):
    found = importlib.util.find_spec

    def find(name, *rest):
        return None if name in TRACKERS else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    for name in TRACKERS:
        with pytest.raises(UserError, match=rf'pip install "frcnn\[{name}\]"'):
            check_tracker(name)
    check_tracker(None)
