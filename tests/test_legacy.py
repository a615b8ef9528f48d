"""keras-frcnn's three commands, run as a user runs them."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from frcnn import legacy
from frcnn.errors import UserError
from frcnn.training.config import Config
from tiny import write_voc

ROOT = Path(__file__).parents[1]
# Of the tests' own environment: what the commands do without, and what would slow them.
LEFT_OUT = ("DISPLAY", "KERAS_BACKEND", "OMP_NUM_THREADS")


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """Call the training command; gives the configuration it would train with."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def train(config, console, finish, begin):
        seen.append(config)
        begin(None)

    monkeypatch.setattr("frcnn.training.train.train", train)

    def call(*arguments) -> Config:
        legacy.train_main([str(argument) for argument in arguments])
        return seen[-1]

    return call


def test_defaults_are_those_of_keras_frcnn(recorded, tmp_path):
    data = write_voc(tmp_path / "voc", 2, {"trainval": range(2)})
    config = recorded("-p", data, "--network", "vgg")
    assert (config.preset, config.epochs, config.rois) == ("vgg16", 2000, 32)
    assert (config.out, config.weights, config.train_split) == (
        "model_frcnn",
        "imagenet",
        "trainval",
    )
    assert not (config.horizontal_flip or config.vertical_flip or config.rotate)
    assert Config.from_toml(tmp_path / "config.toml") == config


def test_every_flag_arrives(recorded, tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text("a.png,0,0,1,1,x\n")
    config = recorded(
        "--path", file, "--parser", "simple", "--num_rois", 64, "--network", "vgg", "--hf", "--vf",
        "--rot_90", "--num_epochs", 3, "--config_filename", "mine.pickle", "--output_weight_path",
        "weights/mine.hdf5", "--input_weight_path", "in.h5", "--epoch_length", 100,
    )  # fmt: skip
    assert config == Config(
        data=str(file), preset="vgg16", weights="in.h5", epochs=3, batch=2, rois=64,
        vertical_flip=True, rotate=True, scale_jitter=0.0, photometric=0.0, out="weights/mine",
        overwrite=True,
        epoch_images=100,
    )  # fmt: skip
    assert (tmp_path / "mine.toml").is_file()


def test_no_pickle_is_written_or_read(recorded, tmp_path):
    data = write_voc(tmp_path / "voc", 2)
    recorded("-p", data, "--network", "vgg")
    assert not list(tmp_path.glob("*.pickle"))
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.pickle").write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match="config.pickle is a pickle.*Train again"):
        legacy.test_main(["-p", str(tmp_path)])


def test_mistakes_are_sentences(recorded, tmp_path):
    data = write_voc(tmp_path / "voc", 2)
    with pytest.raises(
        UserError, match="no trained model here: config.toml is missing.*Train first"
    ):
        legacy.test_main(["-p", str(tmp_path)])
    recorded("-p", data, "--network", "vgg")
    with pytest.raises(UserError, match="no trained model in model_frcnn: train first"):
        legacy.measure_main(["-p", str(data)])
    with pytest.raises(UserError, match="--network resnet50 disagrees with config.toml: vgg16"):
        legacy.test_main(["-p", str(tmp_path), "--network", "resnet50"])
    with pytest.raises(UserError, match="reads a CSV file"):
        recorded("-p", data, "-o", "simple", "--network", "vgg")
    (tmp_path / "boxes.csv").write_text("a.png,0,0,1,1,x\n")
    with pytest.raises(UserError, match="Add --parser simple"):
        recorded("-p", tmp_path / "boxes.csv", "--network", "vgg")


def test_a_training_that_is_refused_leaves_what_was_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_voc(tmp_path / "voc", 2)
    (tmp_path / "config.toml").write_text("of an earlier training")
    for bad in ("nothing.h5", "empty.h5"):
        (tmp_path / "empty.h5").touch()
        with pytest.raises(UserError, match="^--input_weight_path"):
            legacy.train_main(["-p", str(data), "--network", "vgg", "--input_weight_path", bad])
    with pytest.raises(UserError, match="--num_epochs must be at least 1"):
        legacy.train_main(["-p", str(data), "--network", "vgg", "--num_epochs", "0"])
    assert (tmp_path / "config.toml").read_text() == "of an earlier training"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("train", "resnet50 if left out"),
        ("test", "the one trained"),
        ("measure", "the one trained"),
    ],
)
def test_help_says_which_network(script, words, capsys):
    with pytest.raises(SystemExit):
        getattr(legacy, f"{script}_main")(["--help"])
    assert words in " ".join(capsys.readouterr().out.split())


def small_vgg16(path):
    """A file in the layout of the old Keras files, with the first block only."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, shape in {"block1_conv1": (3, 3, 3, 64), "block1_conv2": (3, 3, 64, 64)}.items():
            group = file.create_group(name)
            group[f"{name}_W_1:0"] = rng.normal(0, 0.05, shape).astype(np.float32)
            group[f"{name}_b_1:0"] = np.zeros(64, np.float32)
    return path


def test_the_three_commands_run_without_a_display(tmp_path):
    write_voc(tmp_path / "voc/VOC2007", 4, {"trainval": range(3), "test": range(3, 4)})
    small_vgg16(tmp_path / "vgg.h5")
    environment = {k: v for k, v in os.environ.items() if k not in LEFT_OUT}

    def run(*command):
        result = subprocess.run(
            [sys.executable, str(ROOT / command[0]), *command[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-2000:]
        return result.stdout

    shown = run(
        "train_frcnn.py", "--input_weight_path", "vgg.h5", "--network", "vgg",
        "--path", "voc", "--num_epochs", "1", "-n", "8", "--epoch_length", "2",
    )  # fmt: skip
    assert "2 layers matched" in shown and "missing" in shown
    run("test_frcnn.py", "--network", "vgg", "--path", "voc/VOC2007/JPEGImages")
    assert len(list((tmp_path / "results_imgs").iterdir())) == 4
    assert "VOC07 mAP" in run("measure_map.py", "--path", "voc")
