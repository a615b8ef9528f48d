"""Images that only decoding finds damaged are left out of what is measured."""

import json
from dataclasses import replace

import pytest

import frcnn
from frcnn.apps import scoring
from frcnn.apps.scoring import detect_dataset, too_few_boxes
from frcnn.cli import main
from frcnn.data.faults import DataError, ImageError
from frcnn.inference.predict import Detector
from frcnn.inference.views import Views
from tiny import damage, tiny_detector, write_voc


@pytest.fixture
def data(tmp_path):
    folder = write_voc(tmp_path / "voc", 6)
    for index in (1, 4):
        damage(folder / f"JPEGImages/00{index}.png")
    return folder


def test_a_detector_that_returns_too_few_boxes_says_so(data):
    model, dataset = tiny_detector(), frcnn.open_dataset(data)
    assert too_few_boxes(Detector(model), dataset) is None
    model.rule = replace(model.rule, count=1)
    sentence = too_few_boxes(Detector(model), dataset)
    assert sentence is not None and "at most 1 boxes" in sentence and "up to 2: 6." in sentence
    assert too_few_boxes(Views(tiles=48).of(Detector(model)), dataset) is None


@pytest.mark.parametrize("views", [Views(), Views(tta=True), Views(tiles=48)])
def test_damaged_images_and_their_boxes_are_left_out(data, views, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "CHUNK", 4)  # the second is in another chunk
    detector, dataset = views.of(Detector(tiny_detector())), frcnn.open_dataset(data)
    (read, found, faults), _ = detect_dataset(detector, dataset)
    assert [sample.image.name for sample in read] == ["000.png", "002.png", "003.png", "005.png"]
    assert [fault.file.name for fault in faults] == ["001.png", "004.png"]
    expected, _ = detect_dataset(detector, dataset.subset([0, 2, 3, 5]))
    for one, other in zip(found, expected.found, strict=True):
        assert len(one) == len(other) > 0
    said = capsys.readouterr().out
    assert said.count("Left out: 2 images") == said.count("001.png") == said.count("004.png") == 1
    with pytest.raises(ImageError, match="001.png"):
        detect_dataset(detector, dataset, strict=True)
    with pytest.raises(DataError, match="none of its 1 image can be read"):
        detect_dataset(detector, dataset.subset([4]))


def test_the_commands_measure_what_can_be_read(data, tmp_path, capsys):
    model = str(Detector(tiny_detector()).save(tmp_path / "tiny.keras"))
    figures = tmp_path / "figures.json"
    main(["evaluate", model, str(data), "--json", str(figures), "--diagnose"])
    measured = json.loads(figures.read_text())
    assert (measured["images"], measured["boxes"]) == (4, 8)
    assert [line.partition(":")[0][-7:] for line in measured["left_out"]] == ["001.png", "004.png"]
    main(["compare", model, model, str(data), "--json", str(figures)])
    assert json.loads(figures.read_text())["left_out"] == measured["left_out"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", model, str(data), "--strict"])
    assert ended.value.code == 2 and "001.png" in capsys.readouterr().err
