"""The report on a run: one page that needs nothing else, looked at in a real browser."""

import base64
import csv
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

import frcnn
from browser import console_errors, open_browser
from frcnn.apps import training
from frcnn.apps.report import write
from frcnn.cli import main
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.training.config import Config
from frcnn.training.run import Run
from tiny import tiny_batch, tiny_detector, write_voc

# What would run, or fetch, if it were put into a page as it is.
HOSTILE = "</script><img src=x onerror=window.hacked=1>"
CLASSES = ("disc" + HOSTILE, "'square\"&amp;")
SHOWN = 8


@dataclass
class Made:
    """A run folder, the data set that it belongs to, and the page."""

    run: Path
    data: Path
    page: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("report")
    data, run = folder / "data", Run(folder / "run")
    data.mkdir()
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        write_split(data, split, seed)
    model = tiny_detector(score=0.05)
    model.classes = CLASSES
    Detector(model).save(run.best)
    config = Config(str(data), train_split="train", val_split="val", size=64, out=str(run.folder))
    run.config_file.write_text(config.to_toml())
    run.write_history([history_row(epoch) for epoch in (1, 2, 3)])
    page, seconds = write.report_run(run.folder)
    assert 0 < seconds < 120
    return Made(run.folder, data, page)


def write_split(data: Path, split: str, seed: int) -> None:
    x, y = tiny_batch(SHOWN, 3, 4, seed)
    with (data / f"{split}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        for index, (image, boxes) in enumerate(zip(x["images"], y["boxes"], strict=True)):
            name = f"{split}-{index} <b onclick='x'>&.png"
            cv2.imwrite(str(data / name), np.ascontiguousarray(image[..., ::-1]))
            for box, label in zip(boxes, y["labels"][index], strict=True):
                if label >= 0:
                    rows.writerow([name, *(f"{value:g}" for value in box), CLASSES[label]])


def history_row(epoch: int) -> dict[str, float]:
    losses = {"loss": 2 / epoch, "rpn_objectness": 0.5 / epoch, "roi_class": float("nan")}
    return {
        "epoch": epoch,
        **losses,
        "learning_rate": 0.01,
        "images_per_second": 3.0,
        "waited_for_data": 0.01,
        "seconds": 10.0,
        "val_AP": 0.1 * epoch,
        "val_AP50": 0.2 * epoch,
    }


def embedded(page: Path) -> dict:
    found = re.search(
        r'<script type="application/json" id="gallery-data">(.*?)</script>', page.read_text()
    )
    return json.loads(found[1])


def test_the_page_needs_nothing_else(made):
    text = made.page.read_text()
    assert made.page == made.run / "report.html" and text.startswith("<!doctype html>")
    sources = re.findall(r'\b(?:src|href|action|data)="([^"]*)"', text)
    assert len(sources) == SHOWN and all(each.startswith("data:image/jpeg;") for each in sources)
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text
    for heading in ("What limits this detector", "Losses", "Errors (TIDE)", "Confusion", "Timing"):
        assert heading in text
    assert len(text) < 2_000_000


def test_the_page_has_what_the_detector_finds(made):
    dataset = frcnn.open_dataset(made.data, "val", CLASSES)
    found = frcnn.load(made.run).detect([sample.image for sample in dataset])
    values = embedded(made.page)
    pictures, names = values["pictures"], values["classes"]
    assert len(pictures) == SHOWN
    for picture in pictures:
        truth = [item["box"] for item in picture["truth"]]
        index = next(i for i, s in enumerate(dataset) if s.boxes.tolist() == truth)
        shown = [names[item["label"]] for item in picture["truth"]]
        assert shown == [CLASSES[label] for label in dataset[index].labels]
        scores = [item["score"] for item in picture["found"]]
        np.testing.assert_allclose(scores, found[index].scores, atol=1e-4)
        boxes = [item["box"] for item in picture["found"]]
        np.testing.assert_allclose(boxes, found[index].boxes, atol=0.06)
    kinds = {item["kind"] for picture in pictures for item in picture["found"]}
    assert len(kinds) > 1 and kinds <= {
        "right",
        "classification",
        "localisation",
        "both",
        "duplicate",
        "background",
    }


def test_pictures_are_bounded_and_show_what_they_should(made, tmp_path):
    wide = np.zeros((400, 3000, 3), np.uint8)
    wide[:, 1500:] = (250, 20, 20)
    data = tmp_path / "wide"
    data.mkdir()
    cv2.imwrite(str(data / "wide.png"), wide[..., ::-1])
    rows = [f'wide.png,10,10,390,390,"{CLASSES[0]}"', f'wide.png,500,10,900,390,"{CLASSES[1]}"']
    (data / "all.csv").write_text("\n".join(rows).replace('"&', '""&') + "\n")
    page, _ = write.report_run(made.run, str(data / "all.csv"), out=tmp_path / "page.html")
    source = re.search(r'src="data:image/jpeg;base64,([^"]*)"', page.read_text())[1]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(source), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (85, 640, 3)
    np.testing.assert_allclose(picture[40, 600, ::-1], (250, 20, 20), atol=12)
    assert embedded(page)["pictures"][0]["width"] == 3000


def visible(driver, selector: str) -> int:
    return sum(each.is_displayed() for each in driver.find_elements("css selector", selector))


def move(driver, control: str, value) -> None:
    driver.execute_script(
        "const control = document.getElementById(arguments[0]);"
        "if (control.type === 'checkbox') control.checked = arguments[1];"
        "else control.value = arguments[1];"
        "control.dispatchEvent(new Event('input'))",
        control,
        value,
    )


def test_in_a_browser(made):
    pictures = embedded(made.page)["pictures"]
    with open_browser() as driver:
        driver.get(made.page.as_uri())
        assert visible(driver, "section") == 1 and visible(driver, "#summary") == 1
        for tab in driver.find_elements("css selector", "[role=tab]"):
            tab.click()
            assert visible(driver, "section") == 1
            assert driver.find_element("id", tab.get_attribute("data-panel")).is_displayed()
        driver.find_element("id", "tab-pictures").click()

        def shown() -> int:
            return len(driver.find_elements("css selector", ".frame rect:not(.truth)"))

        for least in (0.0, 0.3, 0.6, 1.0):
            move(driver, "score", least)
            expected = sum(item["score"] >= least for p in pictures for item in p["found"])
            assert shown() == expected == int(driver.find_element("id", "total").text)
        move(driver, "score", 0)
        everything = shown()
        move(driver, "class", "1")
        assert shown() == sum(item["label"] == 1 for p in pictures for item in p["found"])
        move(driver, "class", "")
        move(driver, "kind", "right")
        right = shown()
        move(driver, "kind", "wrong")
        assert right + shown() == everything and 0 < right < everything
        assert visible(driver, ".frame rect.truth") == sum(len(p["truth"]) for p in pictures)
        move(driver, "truth", False)
        assert not driver.find_elements("css selector", ".frame rect.truth")
        assert console_errors(driver) == []

        # Names are texts, whatever is in them.
        names = [each.text for each in driver.find_elements("css selector", "#class option")]
        assert names == ["all", *sorted(CLASSES)]
        captions = driver.find_elements("css selector", "figcaption")
        assert any("<b onclick='x'>&.png" in caption.text for caption in captions)
        assert driver.execute_script("return window.hacked") is None

        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert visible(driver, "section") == len(driver.find_elements("css selector", "section"))
        assert not visible(driver, "nav") and not visible(driver, ".controls")


def test_light_and_dark(made):
    page = Path(os.environ.get("FRCNN_REPORT", made.page)).resolve()
    grounds = []
    for dark in (False, True):
        with open_browser(dark=dark) as driver:
            driver.get(page.as_uri() + "#pictures")
            assert visible(driver, "#pictures") == 1  # the address names the tab
            ground = driver.find_element("tag name", "body").value_of_css_property(
                "background-color"
            )
            grounds.append([int(part) for part in re.findall(r"\d+", ground)[:3]])
            assert driver.execute_script("return document.body.scrollWidth <= innerWidth")
            keep_screenshot(driver, "report-dark" if dark else "report-light")
    assert min(grounds[0]) > 200 and max(grounds[1]) < 60


def keep_screenshot(driver, name: str) -> None:
    """For the documents: the variables name a folder for pictures, and a report to be shown."""
    folder = os.environ.get("FRCNN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_the_command_takes_other_images_and_another_file(made, tmp_path, capsys):
    out = tmp_path / "pages" / "other.html"
    main(["report", str(made.run), str(made.data), "--split", "test", "--out", str(out)])
    assert f"Wrote {out} in " in capsys.readouterr().out
    assert "measured on 8 images of" in out.read_text() and "[test]" in out.read_text()
    main(["report", str(made.run), "--split", "train", "--out", str(out)])
    assert "were trained on" in out.read_text()
    with pytest.raises(SystemExit) as caught:
        main(["report", str(tmp_path / "nowhere")])
    assert caught.value.code == 2 and "no run" in capsys.readouterr().err


def test_a_run_without_validation_or_whose_data_are_gone(made, tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    (run.folder / "best.keras").symlink_to(made.run / "best.keras")
    config = Config(str(made.data), train_split="train", val_split="none", out=str(run.folder))
    run.config_file.write_text(config.to_toml())
    page, _ = write.report_run(run.folder)
    assert "There are no validation images" in page.read_text()
    assert 'id="training"' not in page.read_text()  # without a history
    run.config_file.write_text(Config(str(tmp_path / "gone"), out=str(run.folder)).to_toml())
    with pytest.raises(UserError, match="gone"):
        write.report_run(run.folder)
    page, _ = write.report_run(run.folder, str(made.data), "test")
    assert "Errors (TIDE)" in page.read_text() and 'id="data"' not in page.read_text()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"epoch,loss\n1,many\n", b"epoch\n1,2,3\n"])
def test_a_damaged_history_is_a_sentence(tmp_path, content):
    file = tmp_path / "history.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is no history of a training"):
        write.read_history(file)
    assert write.read_history(tmp_path / "none.csv") == []


@pytest.fixture
def small(tmp_path):
    data = write_voc(tmp_path / "voc", 6, {"train": range(4), "val": range(4, 6)})
    return Config(str(data), out=str(tmp_path / "run"), batch=2, size=64, epochs=2)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=500)


def test_a_training_ends_with_a_report_and_measures_nothing_twice(small, monkeypatch):
    detected = []
    detect = Detector.detect

    def counting(self, images, *arguments, **options):
        detected.extend(image for image in images if isinstance(image, Path))
        return detect(self, images, *arguments, **options)

    monkeypatch.setattr(Detector, "detect", counting)
    console = quiet()
    run = frcnn.train(small, console)
    assert f"Report: {run.report} (written in" in console.file.getvalue()
    assert len(detected) == 2 * 2  # two epochs of two images
    text = run.report.read_text()
    metrics = json.loads(run.metrics.read_text())
    assert f"<dt>AP</dt><dd>{metrics['coco']['AP']:.3f}</dd>" in text
    assert "for this report" not in text
    again, _ = write.report_run(run.folder)
    assert len(detected) == 2 * 2 + 2 and "ms an image, for this report" in again.read_text()


def test_a_report_that_fails_loses_no_training(small, monkeypatch):
    def fail(_):
        raise UserError("no room.")

    monkeypatch.setattr(write, "report_training", fail)
    console = quiet()
    run = training.train(small, console)
    assert run.best.exists() and not run.report.exists()
    told = f"The report was not written: no room. Try again: frcnn report {run.folder}"
    assert told in console.file.getvalue()
