"""The command: its exit status, its JSON, what it prints and what a training says beforehand."""

import json

import pytest

from frcnn.cli import main
from frcnn.data.resizing import long_side
from frcnn.training.auditing import few_steps, warnings_of, working_of
from frcnn.training.config import Config
from frcnn.training.splits import open_splits
from frcnn.zoo.presets import PRESETS, build_network
from tiny import write_voc


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Sound, but of noise: pictures of 64 x 96."""
    root = tmp_path_factory.mktemp("audit") / "set"
    return write_voc(root, 12, {"train": range(8), "val": range(8, 12)})


def run(*arguments):
    try:
        main(["audit", *map(str, arguments)])
    except SystemExit as error:
        return error.code
    return 0


def test_without_faults_the_exit_status_is_0(small, tmp_path, capsys):
    file = tmp_path / "new" / "audit.json"
    assert run(small, "--strict", "--json", file) == 0
    values = json.loads(file.read_text())
    assert values["findings"] == [] and len(values["splits"]) == 2
    assert values["training"]["short"] == 320 and values["training"]["anchors"]["strides"][0] == 8
    printed = capsys.readouterr().out
    assert "Nothing is wrong with the data." in printed and "disc" in printed


def test_faults_give_status_1_with_strict_alone(small, tmp_path, capsys):
    root = write_voc(tmp_path / "set", 4, {"train": range(4), "val": range(2)})
    assert run(root) == 0
    assert "Fault: picture in two splits: 2 pictures in two splits" in capsys.readouterr().out
    assert run(root, "--strict", "--size", 600, "--split", "train") == 0
    assert run(root, "--strict") == 1


def test_data_of_difficult_objects_alone_are_at_fault(tmp_path, capsys):
    root = write_voc(tmp_path / "set", 2)
    for file in (root / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    assert run(root, "--strict") == 1
    printed = capsys.readouterr().out
    assert "Fault: nothing to train on: No object to train on" in printed
    assert "Nothing is wrong" not in printed


def test_what_cannot_be_audited_is_one_sentence(small, capsys):
    assert run(small, "--preset", "vgg61") == 2
    assert run(small, "--split", "nowhere") == 2
    assert run(small / "nowhere") == 2
    errors = capsys.readouterr().err
    assert "There is no preset 'vgg61'" in errors and "has no split 'nowhere'" in errors
    assert run(small, "--size", 8) == 2
    assert "--size must be in 32..10,000. Received: 8." in capsys.readouterr().err


def test_names_from_files_do_not_steer_the_terminal(tmp_path, capsys):
    root = write_voc(tmp_path / "set", 4, {"train": range(3), "[red]val": range(3, 4)})
    annotation = root / "Annotations" / "000.xml"
    annotation.write_text(annotation.read_text().replace("disc", "[bold]\u202edisc"))
    assert run(root) == 0
    printed = capsys.readouterr().out
    assert "[red]val" in printed and "[bold]\\u202edisc" in printed and "\u202e" not in printed


@pytest.mark.parametrize("name", ["efficientnet_lite0_fpn", "mobilenet_v3_large_fpn"])
def test_the_anchors_are_those_of_the_preset(name):
    working = working_of(name, None)
    grid = build_network(name, 3).rpn.anchors
    assert (working.anchors.strides, working.anchors.sizes) == (grid.strides, grid.sizes)
    assert (working.short, working.long) == (PRESETS[name].size, long_side(PRESETS[name].size))


def test_a_training_says_what_is_amiss(small, tmp_path):
    config = Config(str(small), out=str(tmp_path / "run"))
    assert warnings_of(open_splits(config), working_of(config.preset, None)) == []
    root = write_voc(tmp_path / "set", 12, {"train": range(8), "val": range(8, 12)})
    for number in range(8):
        file = root / "Annotations" / f"{number:03d}.xml"
        text = file.read_text()
        item = text[text.index("<object>") : text.index("</object>") + len("</object>")]
        file.write_text(text.replace("</annotation>", f"{item}</annotation>"))
    config = Config(str(root), size=32)
    first, *_, last = warnings_of(open_splits(config), working_of(config.preset, config.size))
    assert "are below 16 pixels at the training size (32)" in first
    assert last.startswith("8 boxes drawn twice")


def test_a_training_of_few_steps_is_told_how_many_epochs_make_enough():
    assert few_steps(10, 20) is None
    assert few_steps(10, 6).startswith("10 epochs of 6 are 60 steps")
    assert "--epochs 84 makes 504" in few_steps(10, 6)
