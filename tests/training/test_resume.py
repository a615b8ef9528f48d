"""Trainings that end early go on to what they would have become."""

import dataclasses
import io
import os
import re
import signal

import numpy as np
import pytest
from rich.console import Console

import frcnn
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.training import checkpoint as checkpoint_module
from frcnn.training import train as module
from frcnn.training.callbacks import History, TrainingError
from frcnn.training.config import Config
from frcnn.training.state import Notes, read_state, write_state
from frcnn.training.train import resume, train
from interruptions import crash_after
from tiny import history_of, write_voc

EPOCHS, STEPS = 2, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    splits = {"train": range(8), "val": range(8, 12)}
    return write_voc(tmp_path_factory.mktemp("data") / "voc", 12, splits)


def config(data, out):
    return Config(
        str(data), out=str(out), batch=2, size=64, epochs=EPOCHS, weights="none", save_every=0.0
    )


def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    return train(config(data, tmp_path_factory.mktemp("runs") / "whole"), console())


def assert_same(run, other):
    """The same history and, bit for bit, the same state: weights, optimizer, draws, figures."""
    assert history_of(run) == history_of(other)
    arrays, notes = read_state(run.state)
    expected, others = read_state(other.state)
    assert (notes.epoch, notes.step, notes.best) == (others.epoch, others.step, others.best)
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)
    for one, two in ((run.best, other.best), (run.last, other.last)):
        first, second = (frcnn.load(each).model.network.get_weights() for each in (one, two))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.backend
@pytest.mark.timeout(900)  # compilers take minutes for the preset's network
@pytest.mark.parametrize("after", [STEPS - 1, STEPS])
def test_after_a_crash_at_any_step(data, uninterrupted, tmp_path, monkeypatch, after):
    crash_after(monkeypatch, after, lambda: train(config(data, tmp_path / "run"), console()))
    said = console()
    run = resume(tmp_path / "run", said)
    assert_same(run, uninterrupted)
    epoch, step = divmod(after, STEPS)
    assert f"Going on in epoch {epoch + 1} after step {step} of {STEPS}." in said.file.getvalue()


def test_after_sigterm(data, uninterrupted, tmp_path, monkeypatch):
    seen = []
    look = History.on_train_batch_end

    def stop(self, batch, logs=None):
        look(self, batch, logs)
        seen.append(batch)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    said = console()
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(History, "on_train_batch_end", stop)
        patch.chdir(data.parent)
        train(config(data.name, tmp_path / "run"), said)
    assert f"frcnn train --resume {tmp_path / 'run'}" in said.file.getvalue()
    assert ended.value.code == 0
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    # Going on is from another working folder, and the data were named relative to the first.
    assert_same(resume(tmp_path / "run", console()), uninterrupted)


def test_a_complete_training_is_left_as_it_is(uninterrupted):
    before = uninterrupted.state.read_bytes(), uninterrupted.last.read_bytes()
    said = console()
    resume(uninterrupted.folder, said)
    shown = said.file.getvalue()
    assert "is complete: 2 epochs. To train it further: frcnn train DATA --weights " in shown
    assert before == (uninterrupted.state.read_bytes(), uninterrupted.last.read_bytes())


def test_what_cannot_be_resumed_is_said(data, uninterrupted, tmp_path):
    with pytest.raises(UserError, match="is no run folder: it has no config.toml"):
        resume(tmp_path)
    write_voc(tmp_path / "other", 10, {"train": range(6), "val": range(6, 10)})
    moved = config(tmp_path / "other", tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(moved.to_toml())
    state = tmp_path / "run" / "training.state"
    state.write_bytes(uninterrupted.state.read_bytes())
    with pytest.raises(UserError, match="other data"):
        resume(tmp_path / "run", console())
    damaged = bytearray(state.read_bytes())
    damaged[-100] ^= 1
    state.write_bytes(damaged)
    with pytest.raises(UserError, match="checksum"):
        resume(tmp_path / "run", console())


def test_a_state_from_beyond_the_end_of_an_epoch_is_refused(data, uninterrupted, tmp_path):
    arrays, notes = read_state(uninterrupted.state)
    (tmp_path / "config.toml").write_text(config(data, tmp_path).to_toml())
    beyond = dataclasses.replace(notes, epoch=0, step=STEPS)
    write_state(tmp_path / "training.state", arrays.items(), beyond)
    with pytest.raises(UserError, match="after step 4 of an epoch of 4"):
        resume(tmp_path, console())


def test_a_run_without_a_state_starts_again(data, tmp_path, monkeypatch):
    wanted = config(data, tmp_path)
    (tmp_path / "config.toml").write_text(wanted.to_toml())
    asked = []

    def begin(config, *_):
        asked.append(config)
        return module.Finished(None, None, None)

    monkeypatch.setattr(module, "_train", begin)
    said = console()
    resume(tmp_path, said)
    assert "starts again" in said.file.getvalue()
    assert asked == [dataclasses.replace(wanted, overwrite=True)]


@pytest.mark.parametrize("kept", ["best.keras", "last.keras"])
def test_models_are_kept_where_the_state_is_lost(data, tmp_path, kept):
    (tmp_path / "config.toml").write_text(config(data, tmp_path).to_toml())
    (tmp_path / kept).write_bytes(b"trained")
    with pytest.raises(UserError, match="a trained model but no training.state"):
        resume(tmp_path, console())
    assert (tmp_path / kept).read_bytes() == b"trained"


@pytest.mark.parametrize("what", ["classes", "files or labels"])
def test_data_that_have_changed_are_refused(data, uninterrupted, tmp_path, what):
    changed = write_voc(tmp_path / "voc", 12, {"train": range(8), "val": range(8, 12)})
    if what == "classes":
        for file in (changed / "Annotations").iterdir():
            file.write_text(file.read_text().replace("<name>disc<", "<name>zebra<"))
    else:
        file = changed / "Annotations/009.xml"  # of the validation images
        file.write_text(
            re.sub(r"<xmin>(\d+)", lambda m: f"<xmin>{int(m[1]) + 1}", file.read_text())
        )
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text(config(changed, run).to_toml())
    (run / "training.state").write_bytes(uninterrupted.state.read_bytes())
    with pytest.raises(UserError, match=f"other data: its {what} have changed since"):
        resume(run, console())


def test_a_full_disk_is_reported_and_nothing_is_lost(data, uninterrupted, tmp_path, monkeypatch):
    writes = []

    def full(path, *rest):
        writes.append(path)
        if len(writes) % 2 == 0:
            raise OSError(28, "No space left on device")
        write_state(path, *rest)

    monkeypatch.setattr(checkpoint_module, "write_state", full)
    said = console()
    run = train(config(data, tmp_path / "run"), said)
    assert "could not be saved: No space left on device" in said.file.getvalue()
    assert history_of(run) == history_of(uninterrupted)


def test_a_model_that_cannot_be_written_is_a_sentence(data, uninterrupted, tmp_path, monkeypatch):
    save, saved = Detector.save, []

    def full(self, path):
        saved.append(path.name)
        if saved.count("last.keras") == EPOCHS:
            raise OSError(28, "No space left on device")
        return save(self, path)

    monkeypatch.setattr(Detector, "save", full)
    with pytest.raises(
        TrainingError, match="go on: No space left on device. .*train --resume .*run"
    ):
        train(config(data, tmp_path / "run"), console())
    monkeypatch.undo()
    assert_same(resume(tmp_path / "run", console()), uninterrupted)


NOTES = Notes(1, 2, 1, None, [{"epoch": 1, "loss": float("nan")}], {"images": 3})


def test_a_state_is_read_as_it_was_written(tmp_path):
    arrays = {
        "a b": np.arange(6, dtype=np.int32).reshape(2, 3).T,
        "c": np.float32(2.5),
        "none": np.zeros((0, 4), np.float32),
    }
    write_state(tmp_path / "s", arrays.items(), NOTES)
    back, notes = read_state(tmp_path / "s")
    assert list(back) == list(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)
    assert notes.rows[0]["epoch"] == 1 and np.isnan(notes.rows[0]["loss"])
    assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("keep", [0, 10, 60, 200])
def test_a_state_cut_short_is_refused(tmp_path, keep):
    write_state(tmp_path / "s", [("a", np.zeros(100))], NOTES)
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:keep])
    with pytest.raises(UserError, match="s cannot be read"):
        read_state(tmp_path / "s")


def test_what_is_written_badly_does_not_replace_the_last_state(tmp_path, monkeypatch):
    write_state(tmp_path / "s", [("a", np.zeros(3))], NOTES)
    before = (tmp_path / "s").read_bytes()

    def lose(number):
        for partial in tmp_path.glob(".*"):
            partial.write_bytes(partial.read_bytes()[:-1])

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(OSError, match="checksum"):
        write_state(tmp_path / "s", [("a", np.ones(3))], NOTES)
    assert (tmp_path / "s").read_bytes() == before
    assert os.listdir(tmp_path) == ["s"]
