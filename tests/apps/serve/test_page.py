"""The page in a browser, as a person uses it."""

import base64
import json
import os
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import frcnn
from browser import console_errors, open_browser
from exported import write_onnx
from frcnn.inference.load import load
from serving import picture, serving

TAKE_PICTURE = os.environ.get("FRCNN_SCREENSHOT")  # a file that the docs show

DROP = """
const [name, kind, data] = arguments;
const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
const moved = new DataTransfer();
moved.items.add(new File([bytes], name, { type: kind }));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
"""
PASTE = (
    DROP.replace("DragEvent", "ClipboardEvent")
    .replace('"drop", {', '"paste", {')
    .replace("dataTransfer:", "clipboardData:")
)
SLIDE = """
const slider = document.getElementById("score");
slider.value = arguments[0];
slider.dispatchEvent(new Event("input"));
"""


class Page:
    """What a person sees and does."""

    def __init__(self, driver, port, folder):
        self.driver = driver
        self.folder = folder
        allow = {"behavior": "allow", "downloadPath": str(folder)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
        driver.get(f"http://127.0.0.1:{port}/")

    def element(self, id):
        return self.driver.find_element(By.ID, id)

    def wait(self, condition):
        return WebDriverWait(self.driver, 15, 0.05).until(lambda _: condition())

    def ready(self):
        self.wait(lambda: self.element("status").text.startswith("Ready"))

    def put(self, name, data, script=DROP, kind="image/png"):
        self.driver.execute_script(script, name, kind, base64.b64encode(data).decode())

    def rows(self):
        code = "return [...document.querySelectorAll('#found tr')]"
        rows = self.driver.execute_script(
            f"{code}.map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        return [tuple(row) for row in rows]

    def found(self, count):
        self.wait(lambda: self.element("count").text == str(count))
        return self.rows()

    def pixel(self, x, y):
        code = "return [...document.getElementById('canvas').getContext('2d')"
        return self.driver.execute_script(f"{code}.getImageData({x}, {y}, 1, 1).data]")[:3]

    def download(self, format, name):
        self.driver.find_element(By.CSS_SELECTOR, f"#download button[value={format}]").click()
        file = self.folder / name
        self.wait(file.exists)
        return file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def driver():
    with open_browser() as driver:
        yield driver


def test_a_picture_is_detected_on_filtered_and_labelled(model, driver, tmp_path):
    data = picture(128, 192, 1)
    expected = load(model).detect(data).to_dict()
    with serving(load(model)) as client:
        page = Page(driver, client.port, tmp_path)
        page.ready()
        names = driver.find_elements(By.CSS_SELECTOR, "#classes label span:first-of-type")
        assert [name.text for name in names] == ["disc", "square"]
        driver.execute_script(SLIDE, 0.9)
        page.put("a b.png", data)
        assert page.found(0) == []
        page.wait(lambda: page.element("status").text == "a b.png: done.")
        before = client.ask("GET", "/metrics").body.decode()

        driver.execute_script(SLIDE, 0.1)
        disc, square = page.found(2)
        assert disc == ("disc", f"{expected[0]['score']:.2f}", "48, 32, 144, 96")
        assert square[0] == "square" and page.element("least").text == "0.10"
        # The square's frame, in its colour, along the edge of the picture.
        assert page.pixel(100, 1) == page.pixel(1, 100) == [86, 180, 233]
        boxes = driver.find_elements(By.CSS_SELECTOR, "#classes input")
        boxes[1].click()
        assert page.found(1) == [disc] and page.pixel(1, 100) != [86, 180, 233]
        page.element("none").click()
        assert page.found(0) == []
        page.element("all").click()
        page.found(2)
        page.element("score").send_keys(Keys.HOME)  # the keyboard does
        assert page.element("least").text == "0.00"
        # None of this was a request.
        after = client.ask("GET", "/metrics").body.decode()
        line = 'frcnn_requests_total{path="/v1/detect",status="200"} 1.0'
        assert line in before and line in after

        rows = json.loads(page.download("json", "detections.json").read_text())
        assert rows == [{"image": "a b.png", "detections": expected}]
        for format in ("voc", "yolo", "coco"):
            with zipfile.ZipFile(page.download(format, f"labels-{format}.zip")) as archive:
                archive.extractall(tmp_path / format)
            (sample,) = frcnn.open_dataset(tmp_path / format)
            boxes = [each["box"] for each in expected]
            np.testing.assert_allclose(sample.boxes, boxes, atol=0.01)
            assert sample.image.read_bytes() == data
    assert console_errors(driver) == []


def test_several_pictures_pasted_chosen_and_removed(model, driver, tmp_path):
    with serving(load(model)) as client:
        page = Page(driver, client.port, tmp_path)
        page.ready()
        hostile = "<img src=x onerror=alert(1)>.png"
        page.put(hostile, picture(64, 96, 2), PASTE)
        (tmp_path / "chosen.png").write_bytes(picture(96, 64, 3))
        page.element("files").send_keys(str(tmp_path / "chosen.png"))
        driver.execute_script(SLIDE, 0)
        page.wait(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#pictures button")) == 2)
        first, second = driver.find_elements(By.CSS_SELECTOR, "#pictures button")
        assert first.text == hostile and second.text == "chosen.png"
        assert page.found(2)[1][2] == "0, 0, 96, 64"
        second.send_keys(Keys.ENTER)
        page.wait(lambda: len(page.rows()) == 2 and page.rows()[1][2] == "0, 0, 64, 96")
        assert second.get_attribute("aria-current") == "true"
        assert len(json.loads(page.download("json", "detections.json").read_text())) == 2
        page.element("remove").click()
        page.wait(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#pictures button")) == 1)
        page.put("broken.png", b"nonsense")
        page.wait(lambda: "cannot show it" in page.element("status").text)
        page.element("remove").click()
        page.wait(lambda: not page.element("viewer").is_displayed())
    assert console_errors(driver) == []


def video(folder: Path) -> bytes:
    """Two seconds that grow brighter, as a browser plays them."""
    file = folder / "film.webm"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"VP80"), 10, (192, 128))
    assert writer.isOpened()
    for level in range(20):
        writer.write(np.full((128, 192, 3), 100 + 6 * level, np.uint8))
    writer.release()
    return file.read_bytes()


def test_a_video_is_detected_on_as_it_plays(model, driver, tmp_path):
    with serving(load(model)) as client:
        page = Page(driver, client.port, tmp_path)
        page.ready()
        driver.execute_script(SLIDE, 0.1)
        page.put("film.webm", video(tmp_path), kind="video/webm")
        page.wait(lambda: [row[2] for row in page.rows()][1:] == ["0, 0, 192, 128"])
        scores = set()
        page.wait(lambda: scores.add(page.rows()[0][1]) or len(scores) > 3)  # of several frames
        page.element("play").click()
        page.wait(lambda: page.element("play").text == "Play")
        page.element("keep").click()
        page.wait(lambda: driver.find_elements(By.CSS_SELECTOR, "#pictures button"))
        page.element("end").click()
        page.wait(lambda: not page.element("live").is_displayed())
        assert page.found(2)[1][2] == "0, 0, 192, 128"  # of the frame that was kept
        assert driver.find_element(By.CSS_SELECTOR, "#pictures span").text.startswith("frame-")
    assert console_errors(driver) == []


def test_a_token_is_asked_for(model, driver, tmp_path):
    with serving(load(model), token="open sesame") as client:
        page = Page(driver, client.port, tmp_path)
        page.wait(page.element("access").is_displayed)
        page.element("token").send_keys("wrong" + Keys.ENTER)
        page.wait(page.element("access").is_displayed)
        page.element("token").clear()
        page.element("token").send_keys("open sesame" + Keys.ENTER)
        page.ready()
        page.put("a.png", picture(64, 96, 2))
        page.wait(lambda: page.element("status").text == "a.png: done.")
    errors = console_errors(driver)
    assert errors and all("401" in each for each in errors)  # no others


def test_dark_and_narrow(model, tmp_path):
    with serving(load(model)) as client, open_browser((420, 800), dark=True) as driver:
        page = Page(driver, client.port, tmp_path)
        page.ready()
        page.put("a.png", picture(600, 900, 2))
        page.wait(lambda: page.element("status").text == "a.png: done.")
        ground = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        assert ground == "rgba(20, 23, 27, 1)"
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 420
        assert console_errors(driver) == []


@pytest.mark.skipif(TAKE_PICTURE is None, reason="Set FRCNN_SCREENSHOT to a file to make it.")
def test_the_picture_of_the_docs(driver, tmp_path):
    """With FRCNN_SCREENSHOT the file, FRCNN_MODEL a detector, FRCNN_PICTURES its pictures."""
    folder = Path(os.environ["FRCNN_PICTURES"])
    with serving(load(os.environ["FRCNN_MODEL"])) as client:
        page = Page(driver, client.port, tmp_path)
        page.ready()
        for file in sorted(folder.iterdir())[:3]:
            page.put(file.name, file.read_bytes(), kind="image/jpeg")
        page.wait(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#pictures button")) == 3)
        time.sleep(3)
        assert page.rows()
        driver.save_screenshot(TAKE_PICTURE)
