import csv
import io
import json
import os
import re
import signal
import threading

import numpy as np
import pytest
from rich.console import Console

import frcnn
from frcnn.apps.diagnosing import training_images
from frcnn.data.batching import DetectionBatches
from frcnn.data.faults import DataError
from frcnn.errors import UserError
from frcnn.models.faster_rcnn import LOSSES
from frcnn.training import train as module
from frcnn.training.callbacks import History, TrainingError
from frcnn.training.config import Config
from frcnn.training.run import Run
from frcnn.training.splits import open_splits
from tiny import CLASSES, damage, write_voc


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    splits = {"train": range(8), "val": range(8, 12), "trainval": range(12), "all": range(12)}
    return write_voc(tmp_path_factory.mktemp("data") / "voc", 12, splits)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def rows_of(run) -> list[dict[str, str]]:
    with run.history.open() as file:
        return list(csv.DictReader(file))


def config(data, out, **settings):
    return Config(str(data), out=str(out), batch=2, size=64, epochs=2, **settings)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    console = quiet()
    return frcnn.train(config(data, folder, samples_every=1), console), console.file.getvalue()


def test_the_run_folder_has_everything(trained):
    run, text = trained
    assert Config.from_toml(run.config_file).out == str(run.folder)
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        total = sum(float(row[name]) for name in LOSSES)
        assert float(row["loss"]) == pytest.approx(total, rel=1e-3)
        assert float(row["images_per_second"]) > 0 and 0 <= float(row["waited_for_data"]) < 1
        assert 0 <= float(row["val_VOC12"]) <= 1
    metrics = json.loads(run.metrics.read_text())
    best = max(float(row["val_AP"]) for row in rows)
    assert metrics["coco"]["AP"] == pytest.approx(best, abs=1e-6)
    assert {p.name for p in run.samples.iterdir()} == {
        "training-batch.jpg",
        "validation-epoch001.jpg",
        "validation-epoch002.jpg",
    }
    assert "Validation: 4 images of val." in text and "epoch 2/2" in text
    for name in LOSSES:
        assert name in text


def test_the_model_loads_and_detects(trained, data):
    detector = frcnn.load(trained[0].folder)
    assert detector.model.rule.score == 0.01  # average precision counts boxes of low score too
    assert detector.classes == CLASSES
    result = frcnn.evaluate(detector, frcnn.open_dataset(data, "val"))
    metrics = json.loads(trained[0].metrics.read_text())
    assert result.voc12["mAP"] == pytest.approx(metrics["voc12"]["mAP"], abs=1e-6)


def test_a_run_is_not_overwritten_unless_told(trained, data):
    run, _ = trained
    with pytest.raises(UserError, match="holds an earlier run.*--overwrite"):
        Run.create(config(data, run.folder))


def test_what_a_run_names_is_found_from_another_folder(data, tmp_path, monkeypatch):
    (tmp_path / "start.h5").touch()
    (tmp_path / "imagenet").touch()  # the name means no file
    for weights, kept in (
        ("start.h5", str(tmp_path / "start.h5")),
        ("imagenet", "imagenet"),
        ("none", "none"),
        ("torchvision:vgg16", "torchvision:vgg16"),
    ):
        monkeypatch.chdir(tmp_path)
        asked = Config(os.path.relpath(data), weights=weights, out="run")
        assert Run.create(asked)[1].weights == kept
        assert Run("run").read_config().data == str(tmp_path / os.path.relpath(data))
        monkeypatch.chdir(data)
        assert len(training_images(tmp_path / "run")) == 8
        assert Run(tmp_path / "run").read_config().weights == kept


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "holds an earlier run"), ({"overwrite": True, "weights": "x.h5"}, "no such file")],
)
def test_what_can_be_told_early_is_told_before_the_data_are_read(trained, settings, said):
    with pytest.raises(UserError, match=said):
        frcnn.train(config("nowhere", trained[0].folder, **settings), quiet())
    assert trained[0].last.exists()


def test_the_same_seed_repeats_a_run(data, tmp_path):
    histories = []
    for name in "ab":
        settings = config(data, tmp_path / name, val_split="none", photometric=1.0, crop=0.6)
        run = frcnn.train(settings, quiet())
        histories.append([row["loss"] for row in rows_of(run)])
    assert histories[0] == histories[1]
    assert not (tmp_path / "a" / "metrics.json").exists()
    assert frcnn.load(tmp_path / "a").classes == CLASSES


def test_starting_from_a_trained_model(trained, data, tmp_path):
    settings = config(data, tmp_path / "more", weights=str(trained[0].last), val_split="none")
    console = quiet()
    run = frcnn.train(settings, console)
    assert "0 mismatched, 0 missing" in console.file.getvalue()
    assert float(rows_of(run)[0]["loss"]) < float(rows_of(trained[0])[0]["loss"])


def test_a_damaged_validation_image_is_left_out_in_each_epoch_and_named_once(tmp_path, caplog):
    data = write_voc(tmp_path / "voc", 6, {"train": range(4), "val": range(4, 6)})
    damage(data / "JPEGImages/004.png")
    console = quiet()
    run = frcnn.train(config(data, tmp_path / "run", samples_every=1), console)
    assert [row["val_AP"] != "" for row in rows_of(run)] == [True, True]
    metrics = json.loads(run.metrics.read_text())
    assert (metrics["images"], metrics["boxes"]) == (1, 2)
    assert run.best.exists() and run.report.exists()
    assert caplog.text.count("004.png") == 1
    said = console.file.getvalue()
    assert said.count("Left out of validation:") == said.count("004.png") == 1
    with pytest.raises(DataError, match="004.png"):
        frcnn.train(config(data, tmp_path / "strict", strict=True), quiet())
    assert Run(tmp_path / "strict").last.exists()  # the epoch is not lost


def test_without_a_terminal_lines_tell_how_far_it_is(data, tmp_path, monkeypatch):
    monkeypatch.setattr("frcnn.training.display.EVERY", 0.0)
    console = quiet()
    frcnn.train(config(data, tmp_path / "run", val_split="none"), console)
    assert "epoch 1, step 2/4  rpn_objectness" in console.file.getvalue()


def test_without_validation_the_last_epoch_is_the_best(data, tmp_path):
    run = frcnn.train(config(data, tmp_path / "run", val_split="none"), quiet())
    best, last = (frcnn.load(each).model.network.get_weights() for each in (run.best, run.last))
    for one, two in zip(best, last, strict=True):
        np.testing.assert_array_equal(one, two)


def test_names_of_classes_are_no_markup(tmp_path):
    root = write_voc(tmp_path / "voc", 6, {"train": range(4), "val": range(4, 6)})
    file = root / "Annotations/004.xml"
    file.write_text(re.sub(r"<name>\w+<", "<name>car [/parked]<", file.read_text()))
    console = quiet()
    frcnn.train(config(root, tmp_path / "run"), console)
    assert "car [/parked]" in console.file.getvalue()


def test_ctrl_c_ends_cleanly_with_everything_saved(data, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    steps, count = [], History.on_train_batch_end

    def interrupt_soon(self, batch, logs=None):
        count(self, batch, logs)
        steps.append(batch)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(History, "on_train_batch_end", interrupt_soon)
    with pytest.raises(KeyboardInterrupt):
        frcnn.train(config(data, tmp_path / "run"), quiet())
    assert len(steps) <= 3
    assert frcnn.load(tmp_path / "run").classes == CLASSES
    assert not Run(tmp_path / "run").history.exists()  # no epoch came to its end
    assert signal.getsignal(signal.SIGINT) is before


def test_training_works_outside_the_main_thread(data, tmp_path):
    found = []

    def work():
        found.append(
            frcnn.train(
                config(data, tmp_path / "run", val_split="none", epoch_images=2),
                quiet(),
            )
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].last.is_file()


def spoil(monkeypatch, when):
    """Make the targets of a batch of the first epoch such that a loss is NaN."""
    load = DetectionBatches.load

    def spoiled(self, epoch, index):
        x, y = load(self, epoch, index)
        if (epoch, index) == when:
            y["boxes"][:, 0] = (0, 0, np.nan, np.nan)
        return x, y

    monkeypatch.setattr(DetectionBatches, "load", spoiled)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(data, tmp_path, monkeypatch):
    spoil(monkeypatch, (1, 2))
    with pytest.raises(TrainingError) as stopped:
        frcnn.train(config(data, tmp_path / "run"), quiet())
    text = str(stopped.value)
    assert "epoch 2, step 3: rpn_box. Its images: 00" in text
    assert str(tmp_path / "run" / "last.keras") in text and "--on-nan skip" in text
    assert text.count(".png") == 2
    network = frcnn.load(tmp_path / "run" / "last.keras").model.network
    assert all(np.isfinite(weights).all() for weights in network.get_weights())


def test_steps_that_are_not_finite_can_be_left_out(data, tmp_path, monkeypatch):
    spoil(monkeypatch, (0, 1))
    console = quiet()
    run = frcnn.train(config(data, tmp_path / "run", on_nan="skip"), console)
    assert "left out, as a loss was not finite: 1." in console.file.getvalue()
    for row in rows_of(run):
        assert all(0 < float(row[name]) < 10 for name in ("loss", *LOSSES))
    network = frcnn.load(run.last).model.network
    assert all(np.isfinite(weights).all() for weights in network.get_weights())


def test_a_training_that_goes_astray_ends(data, tmp_path):
    settings = config(data, tmp_path / "run", lr=1e12, warmup=0, clip=1e30)
    with pytest.raises(TrainingError, match=r"not finite in epoch \d, step \d+: .*--lr"):
        frcnn.train(settings, quiet())


def test_images_without_objects_are_trained_on(data, tmp_path):
    xml = "<annotation><filename>x.png</filename></annotation>"
    root = write_voc(tmp_path / "voc", 4, {"train": range(4)})
    for index in range(2):
        (root / f"Annotations/{index:03d}.xml").write_text(xml)
    run = frcnn.train(config(root, tmp_path / "run", val_split="none"), quiet())
    rows = rows_of(run)
    assert np.isfinite([float(row["loss"]) for row in rows]).all()


@pytest.mark.parametrize(
    ("settings", "train", "validation", "note"),
    [
        ({}, 8, 4, "4 images of val"),
        ({"train_split": "all"}, 11, 1, "1 of the 12 images, held out"),
        ({"train_split": "trainval", "val_split": "val"}, 12, 4, "4 of them are trained on"),
        ({"val_split": "none"}, 8, None, "No validation"),
    ],
)
def test_splits(data, settings, train, validation, note):
    splits = open_splits(Config(str(data), **settings))
    assert len(splits.train) == train
    assert (None if splits.validation is None else len(splits.validation)) == validation
    assert note in splits.note
    if validation and "val_split" not in settings:
        names = [{sample.image for sample in part} for part in splits[:2]]
        assert not names[0] & names[1]


def test_data_without_objects_is_refused(tmp_path):
    root = write_voc(tmp_path / "voc", 2)
    for file in (root / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    with pytest.raises(UserError, match=r"has an object.*: all boxes \(.*are difficult"):
        open_splits(Config(str(root), val_split="none"))


def test_canvases_hold_every_picture():
    canvases = module.canvases_in_use(((320, 448),), 320, module.long_side(320))
    assert canvases == ((320, 448), (320, 544), (544, 320))
    assert module.canvases_in_use(canvases, 320, 533) == canvases
