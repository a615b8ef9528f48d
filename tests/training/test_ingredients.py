"""Each ingredient of a recipe in a training: what it does, and that it goes on exactly."""

import io
import os
import signal

import keras
import numpy as np
import pytest
from rich.console import Console

import frcnn
from frcnn.training import fitting
from frcnn.training import train as module
from frcnn.training.callbacks import History, StopEarly, TrainingError
from frcnn.training.config import Config
from frcnn.training.evaluated import precision, show
from frcnn.training.freezing import Freezing
from frcnn.training.optimizer import build_optimizer
from frcnn.training.run import Run
from frcnn.training.state import read_state
from frcnn.training.train import resume, train
from interruptions import crash_after
from tiny import history_of, tiny_batch, tiny_network, write_voc

pytestmark = pytest.mark.backend

STEPS = 4
# Compilers take a while for each shape, and again once the extractor is thawed.
COMPILES = keras.config.backend() != "torch"
EVERYTHING = {
    "ema": 0.9,
    "backbone_lr": 0.1,
    "label_smoothing": 0.1,
    "freeze_epochs": 1,
    "multi_scale": 0.0 if COMPILES else 0.5,
    "mosaic": 0.5,
    "close_mosaic": 1,
    "rare": 0.9,
    "large_scale_jitter": True,
    "patience": 3,
    "parts": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    splits = {"train": range(8), "val": range(8, 12)}
    return write_voc(tmp_path_factory.mktemp("data") / "voc", 12, splits)


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch):
    """The network of the tests in place of the preset's, which takes a while to compile."""

    def build(name, classes, frozen, rois, seed):
        keras.utils.set_random_seed(seed)
        return tiny_network(classes, seed)

    monkeypatch.setattr(module, "build_network", build)


def config(data, out, **settings):
    settings = {"epochs": 2, "parts": 1, "samples_every": 0, "lr": 0.02, **settings}
    return Config(str(data), out=str(out), batch=2, size=64, weights="none", **settings)


def console():
    return Console(file=io.StringIO(), width=200)


def arrays_of(weights):
    return [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]


@pytest.mark.parametrize("after", [STEPS] if COMPILES else [STEPS - 1, STEPS, STEPS + 2])
def test_everything_at_once_goes_on_exactly(data, tmp_path, monkeypatch, after, whole_runs):
    """The extractor is thawed after ``STEPS`` steps; mosaics end there too."""
    settings = config(data, tmp_path / "run", save_every=0.0, **EVERYTHING)
    crash_after(monkeypatch, after, lambda: train(settings, console()))
    run = resume(tmp_path / "run", console())
    whole = whole_runs(data)
    assert history_of(run) == history_of(whole)
    arrays, notes = read_state(run.state)
    expected, others = read_state(whole.state)
    assert (notes.epoch, notes.step, notes.best) == (others.epoch, others.step, others.best)
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)
    for file in ("best", "last"):
        models = [frcnn.load(getattr(each, file)).model.network for each in (run, whole)]
        for one, two in zip(*(arrays_of(each.weights) for each in models), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """The training with everything at once that nothing stopped, done when it is first wanted."""
    done = []

    def run(data):
        if not done:
            folder = tmp_path_factory.mktemp("whole") / "run"
            done.append(train(config(data, folder, save_every=0.0, **EVERYTHING), console()))
        return done[0]

    return run


def test_the_steps_of_an_epoch_follow_the_repeats(data, whole_runs):
    """Every picture has both classes, so none is repeated."""
    _, notes = read_state(whole_runs(data).state)
    assert notes.data["steps"] == STEPS and notes.epoch == 2


def test_averages_are_validated_and_saved_and_the_training_is_not_touched(data, tmp_path):
    plain = train(config(data, tmp_path / "plain"), console())
    averaged = train(config(data, tmp_path / "ema", ema=0.9), console())
    losses = [[row["loss"] for row in history_of(run)] for run in (plain, averaged)]
    assert losses[0] == losses[1]
    state, _ = read_state(averaged.state)
    weights = [
        state[f"network {place}"] for place in range(len(state)) if f"network {place}" in state
    ]
    kept = [value for name, value in state.items() if name.startswith("optimizer")]
    saved = arrays_of(frcnn.load(averaged.last).model.network.trainable_weights)
    raw = arrays_of(frcnn.load(plain.last).model.network.trainable_weights)
    for value, other in zip(saved, raw, strict=True):
        assert any(value.shape == each.shape and (value == each).all() for each in kept)
        assert any(other.shape == each.shape and (other == each).all() for each in weights)
    assert any((value != other).any() for value, other in zip(saved, raw, strict=True))
    result = frcnn.evaluate(frcnn.load(averaged.last), frcnn.open_dataset(data, "val"))
    last = float(history_of(averaged)[-1]["val_AP"])
    assert result.coco["AP"] == pytest.approx(last, abs=1e-6)


def test_the_extractor_is_frozen_and_thawed_but_for_its_frozen_stages():
    network = tiny_network()
    network.extractor.layers[1].trainable = False
    network.compile(build_optimizer(Config("x"), 0.02, 10))
    before = [id(each) for each in network.trainable_variables]
    network.optimizer.build(network.trainable_variables)
    seen, joined = [], []
    for span in Freezing(network, 3, lambda: joined.append(len(seen))).spans(1, 5):
        seen.append(span)
        weights = arrays_of(network.extractor.weights)
        for _ in range(2):  # the first is of the warm-up
            network.train_on_batch(*tiny_batch())
        pairs = zip(arrays_of(network.extractor.weights), weights, strict=True)
        changed = [bool((one != two).any()) for one, two in pairs]
        assert changed == ([False] * 6 if span[0] < 3 else [False] * 2 + [True] * 4)
    assert seen == [(1, 3), (3, 5)] and joined == [0, 1]
    assert [id(each) for each in network.trainable_variables] == before
    assert [*Freezing(network, 0, joined.clear).spans(2, 4)] == [(2, 4)] and joined
    assert [*Freezing(network, 9, joined.clear).spans(0, 4)] == [(0, 4)] and not joined


def test_early_stopping_counts_epochs_since_the_best(data, tmp_path):
    class Rows:
        rows: list = []

    def due(*scores):
        Rows.rows = [{"val_AP": score} for score in scores]
        return StopEarly(Rows, 2, int).due

    nan = float("nan")
    assert not due() and not due(0.1) and not due(0.3, 0.2)
    assert due(0.3, 0.2, 0.1) and due(nan, 0.3, nan, 0.2)
    assert not due(0.3, 0.2, 0.3) and not due(nan, nan, nan)
    assert not StopEarly(Rows, 0, int).due


def test_a_training_stopped_early_is_complete_and_what_was_frozen_is_saved_trainable(
    data, tmp_path, monkeypatch
):
    scores = iter([0.5, 0.4, 0.3])

    class Falling(fitting.Validate):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            logs["val_AP"] = next(scores)

    monkeypatch.setattr(fitting, "Validate", Falling)
    said = console()
    settings = config(data, tmp_path / "run", epochs=9, patience=2, freeze_epochs=9, lr=None)
    run = train(settings, said)
    assert "learning rate 0.005" in said.file.getvalue()  # the preset's, for two images a step
    assert len(history_of(run)) == 3
    assert "no better validation AP for 2 epochs" in said.file.getvalue()
    said = console()
    resume(run.folder, said)
    assert "is complete: 3 epochs" in said.file.getvalue()
    extractor = frcnn.load(run.last).model.network.extractor
    assert all(layer.trainable for layer in extractor.layers)
    weights = zip(extractor.weights, tiny_network().extractor.weights, strict=True)
    for one, two in map(arrays_of, weights):
        np.testing.assert_array_equal(one, two)


def test_waiting_ends_alike_after_an_epoch_that_was_resumed(data, tmp_path, monkeypatch):
    class Falling(fitting.Validate):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            logs["val_AP"] = 0.5 - 0.1 * epoch

    monkeypatch.setattr(fitting, "Validate", Falling)
    settings = config(data, tmp_path / "run", epochs=9, patience=2, save_every=0.0)
    crash_after(monkeypatch, 2 * 4 + 2, lambda: train(settings, console()))
    assert len(history_of(resume(tmp_path / "run", console()))) == 3


def test_an_epoch_that_was_stopped_within_has_no_row(data, tmp_path, monkeypatch):
    count, seen = History.on_train_batch_end, []

    def interrupt(self, batch, logs=None):
        count(self, batch, logs)
        seen.append(batch)
        if len(seen) == 4 + 2:
            os.kill(os.getpid(), signal.SIGINT)

    said = console()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(History, "on_train_batch_end", interrupt)
        train(config(data, tmp_path / "run", patience=1), said)
    assert [row["epoch"] for row in history_of(Run(tmp_path / "run"))] == ["1"]
    assert "epoch 2/2" not in said.file.getvalue()
    assert "no better" not in said.file.getvalue()


def test_the_loss_that_is_not_finite_is_named_in_a_step_of_parts(data, tmp_path, monkeypatch):
    def spoiled(name, classes, frozen, rois, seed):
        network = tiny_network(classes, seed)
        network.rpn.objectness.bias.assign(np.full(network.rpn.objectness.bias.shape, np.nan))
        return network

    monkeypatch.setattr(module, "build_network", spoiled)
    with pytest.raises(TrainingError, match=r"step 1: rpn_objectness\. Its images"):
        train(config(data, tmp_path / "run", parts=2), console())


def test_bfloat16_trains_and_saves_float32(data, tmp_path):
    before = keras.config.dtype_policy()
    run = train(config(data, tmp_path / "run", precision="bfloat16"), console())
    assert keras.config.dtype_policy() == before
    losses = [float(row["loss"]) for row in history_of(run)]
    assert losses[1] < losses[0]
    network = frcnn.load(run.last).model.network
    assert all(layer.compute_dtype == "float32" for layer in network._flatten_layers())
    assert all(weight.dtype == "float32" for weight in network.trainable_weights)


def kind_of(tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def test_boxes_and_losses_are_float32_in_bfloat16():
    """RoIs keep their place to a fraction of a pixel, and what is computed of them is float32."""
    with precision("bfloat16"):
        network = tiny_network()
    exact = tiny_network()
    network.compile(build_optimizer(Config("x"), 0.0, 10))
    show(network, exact)
    x, y = tiny_batch()
    given, pool = [], network.roi_head._pool

    def look(features, rois):
        given.append(rois)
        return pool(features, rois)

    network.roi_head._pool = look
    found = network(x, training=True)
    loss = network.compute_loss(x, y, found)
    float32 = [found[name] for name in ("rpn_logits", "rpn_deltas", "proposals")]
    assert {kind_of(each) for each in (*float32, *given, loss)} == {"float32"}
    assert {kind_of(each) for each in found["features"]} == {"bfloat16"}
    (rois,) = map(keras.ops.convert_to_numpy, given)
    assert (rois != np.round(rois)).any()
    wanted = exact.compute_loss(x, y, exact(x, training=True))
    one, two = (float(keras.ops.convert_to_numpy(each)) for each in (loss, wanted))
    assert one == pytest.approx(two, rel=0.05)


def test_pictures_are_not_rounded_before_they_are_normalised():
    with precision("bfloat16"):
        network = tiny_network()
    x, _ = tiny_batch()
    found = []
    for value in (200.4, 200.0):  # bfloat16 has neither 200.4 nor anything between 200 and 201
        images = np.full_like(x["images"], value, np.float32)
        features = network({**x, "images": images})["features"][0]
        found.append(keras.ops.convert_to_numpy(keras.ops.cast(features, "float32")))
    assert (found[0] != found[1]).any()


def test_label_smoothing_reaches_the_loss():
    network = tiny_network()
    x, y = tiny_batch()

    def class_loss():
        network.loss_means[2].reset_state()
        network.roi_draws.state.assign([0, 0])
        network.compute_loss(x, y, network(x, training=True))
        return float(network.loss_means[2].result())

    plain = class_loss()
    network.roi_head.classify.bias.assign([0.0, 0.0, 3.0])  # sure of the background
    sure = class_loss()
    network.label_smoothing = 0.3
    assert class_loss() > sure and plain > 0
    copy = type(network).from_config(network.get_config())
    assert copy.label_smoothing == 0.3
