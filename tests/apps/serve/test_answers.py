"""What the server answers to those who ask as they should."""

import base64
import http.client
import io
import json
import threading
import time
import zipfile

import cv2
import numpy as np
import pytest

import frcnn
from exported import write_onnx
from frcnn.cli import main
from frcnn.inference.load import load
from serving import Sizes, form, picture, serving, written

NAMED = {"first": picture(64, 96, 1), "second": picture(96, 64, 2), "third": picture(200, 90, 3)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported detector of two classes."""
    return write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def server(model):
    with serving(load(model)) as client:
        yield client


def predicted(model, folder, score):
    """What ``frcnn predict`` writes of the same pictures, by their names."""
    paths = written(folder, **NAMED)
    file = folder / "found.json"
    main(["predict", str(model), *map(str, paths), "--score", str(score), "--json", str(file)])
    rows = json.loads(file.read_text())
    return [row | {"image": row["image"].rsplit("/")[-1]} for row in rows]


def as_json(pictures):
    rows = [
        {"image": f"{name}.png", "data": base64.b64encode(data).decode()}
        for name, data in pictures.items()
    ]
    return json.dumps({"images": rows})


@pytest.mark.parametrize(("score", "objects"), [(0.0, 6), (0.3, 1)])
def test_answers_are_the_rows_that_predict_writes(server, model, tmp_path, score, objects):
    expected = predicted(model, tmp_path, score)
    assert sum(len(row["detections"]) for row in expected) == objects
    files = [(f"{name}.png", data) for name, data in NAMED.items()]
    assert server.send(f"/v1/detect?score={score}", files).json() == expected
    kind = {"Content-Type": "application/json"}
    answer = server.ask("POST", f"/v1/detect?score={score}", as_json(NAMED), kind)
    assert (answer.status, answer.json()) == (200, expected)
    for file, row in zip(files, expected, strict=True):
        assert server.send(f"/v1/detect?score={score}", [file]).json() == [row]


def test_a_large_jpeg_is_read_as_predict_reads_it(server, model, tmp_path):
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8), (768, 512))
    cv2.imwrite(str(tmp_path / "large.jpg"), pixels)
    expected = load(model).detect(tmp_path / "large.jpg").to_dict()
    answer = server.send(
        "/v1/detect?score=0", [("large.jpg", (tmp_path / "large.jpg").read_bytes())]
    )
    assert answer.json() == [{"image": "large.jpg", "detections": expected}]


def test_detections_below_a_half_are_left_out_unless_asked_for(server):
    (row,) = server.send("/v1/detect", [("a.png", NAMED["first"])]).json()
    assert all(each["score"] >= 0.5 for each in row["detections"])
    assert "score: Input should be less than or equal to 1" in (
        server.send("/v1/detect?score=7", [("a.png", NAMED["first"])]).detail()
    )


def test_many_clients_at_once_get_each_their_own(model):
    detector = load(model)
    pictures = [picture(64, 96, seed) for seed in range(16)]
    expected = [detector.detect(each).to_dict() for each in pictures]
    found: dict[int, list] = {}

    def ask(client, number):
        answer = client.send("/v1/detect?score=0", [("a.png", pictures[number])])
        found[number] = answer.json()[0]["detections"]

    with serving(detector) as client:
        threads = [threading.Thread(target=ask, args=(client, each)) for each in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[number] for number in range(16)] == expected


def test_a_busy_server_says_when_to_ask_again():
    detector = Sizes()
    with serving(detector, queue=1) as client:
        detector.free.clear()
        first = threading.Thread(target=client.send, args=("/v1/detect", [("a.png", picture())]))
        first.start()
        while not detector.batches:
            time.sleep(0.01)
        answer = client.send("/v1/detect", [("a.png", picture())])
        assert answer.status == 503 and answer.headers["retry-after"] == "1"
        assert "ask again" in answer.detail()
        assert client.ask("GET", "/health").json() == {"status": "ok"}
        detector.free.set()
        first.join()
        assert client.send("/v1/detect", [("a.png", picture())]).status == 200


def test_a_client_that_has_gone_is_not_worked_for():
    detector = Sizes()
    with serving(detector, batch=1, queue=40) as client:
        detector.free.clear()
        first = threading.Thread(target=client.send, args=("/v1/detect", [("a.png", picture())]))
        first.start()
        while not detector.batches:
            time.sleep(0.01)
        body, kind = form([("a.png", picture())] * 20)
        gone = http.client.HTTPConnection("127.0.0.1", client.port)
        gone.request("POST", "/v1/detect", body, {"Content-Type": kind})
        time.sleep(0.5)
        assert "frcnn_pictures_waiting 21.0" in client.ask("GET", "/metrics").body.decode()
        gone.close()
        time.sleep(0.5)
        assert "frcnn_pictures_waiting 1.0" in client.ask("GET", "/metrics").body.decode()
        detector.free.set()
        first.join()
        assert client.send("/v1/detect", [("a.png", picture())]).status == 200
    assert len(detector.batches) == 2


def test_a_fault_of_the_server_is_json_and_one_line_of_its_log(caplog, capfd):
    class Failing(Sizes):
        def infer(self, images, sizes):
            raise RuntimeError("It has\nburnt down.")

    with serving(Failing()) as client:
        answer = client.send("/v1/detect", [("a.png", picture())])
        assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
        assert answer.detail() == "The server has failed. Its log says how."
        assert 'status="500"' in client.ask("GET", "/metrics").body.decode()
    (record,) = caplog.records
    assert record.getMessage().startswith("RuntimeError: It has\\nburnt down. (")
    assert record.exc_info is None and "Traceback" not in capfd.readouterr().err


def test_the_interface_is_described(server):
    described = server.ask("GET", "/openapi.json").json()
    detect = described["paths"]["/v1/detect"]["post"]
    assert set(detect["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"200", "401", "408", "413", "422", "429", "503"} <= set(detect["responses"])
    assert described["components"]["securitySchemes"]
    assert {"/v1/labels", "/v1/model", "/health", "/metrics"} <= set(described["paths"])


def test_what_is_counted(model):
    with serving(load(model)) as client:
        client.send("/v1/detect", [("a.png", NAMED["first"]), ("b.png", NAMED["second"])])
        client.send("/v1/detect", [("a.png", b"nonsense")])
        client.ask("GET", "/no/such/path")
        answer = client.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    for line in (
        'frcnn_requests_total{path="/v1/detect",status="200"} 1.0',
        'frcnn_requests_total{path="/v1/detect",status="422"} 1.0',
        'frcnn_requests_total{path="other",status="404"} 1.0',
        "frcnn_pictures_total 2.0",
        "frcnn_pictures_waiting 0.0",
    ):
        assert line in lines, line


def test_the_model_is_described(server):
    model = server.ask("GET", "/v1/model").json()
    assert model["classes"] == ["disc", "square"] and len(model["colours"]) == 2
    assert model["limits"] == {"bytes": 32 << 20, "pictures": 32}


def unpacked(answer, folder):
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("format", ["voc", "yolo", "coco", "csv"])
@pytest.mark.parametrize("with_pictures", [True, False])
def test_labels_are_read_again_as_the_boxes_they_were(server, tmp_path, format, with_pictures):
    files = [(f"{name}.png", data) for name, data in NAMED.items()]
    rows = server.send("/v1/detect?score=0", files).json()
    for row, (height, width) in zip(rows, [(64, 96), (96, 64), (200, 90)], strict=True):
        row |= {"width": width, "height": height}
    fields = [("format", format), ("labels", json.dumps(rows))]
    answer = server.send("/v1/labels", files if with_pictures else [], fields)
    folder = unpacked(answer, tmp_path)
    if not with_pictures:
        assert not list(folder.rglob("*.png"))
        where = {"voc": "JPEGImages", "yolo": "images/train"}.get(format, "images")
        (folder / where).mkdir(parents=True, exist_ok=True)
        written(folder / where, **NAMED)
    dataset = frcnn.open_dataset(folder)
    assert not dataset.faults and set(dataset.classes) == {"disc", "square"}
    found = {sample.image.name: sample for sample in dataset}
    for row in rows:
        sample = found[row["image"]]
        boxes = [each["box"] for each in row["detections"]]
        np.testing.assert_allclose(sample.boxes, boxes, atol=0.01)
        names = [dataset.classes[label] for label in sample.labels]
        assert names == [each["name"] for each in row["detections"]]


def test_labels_that_a_format_has_no_place_for_are_said(server):
    row = {"image": "a.png", "width": 9, "height": 9}
    thin = row | {"detections": [{"box": [2, 2, 2.5, 6], "label": 0}]}
    fields = [("format", "voc"), ("labels", json.dumps([thin]))]
    notes = server.send("/v1/labels", [], fields).headers["frcnn-notes"]
    assert "1%20box%20left%20out" in notes


@pytest.mark.parametrize(
    "name", ["../../up.png", "/etc/passwd", "..", "a\\b.png", "x" * 400, "é" * 300]
)
def test_names_from_outside_stay_inside(server, tmp_path, name):
    row = {"image": name, "detections": [{"box": [1, 1, 9, 9], "label": 1}]}
    fields = [("format", "yolo"), ("labels", json.dumps([row]))]
    folder = unpacked(server.send("/v1/labels", [("x.png", picture())], fields), tmp_path / "in")
    (sample,) = frcnn.open_dataset(folder)
    assert sample.image.resolve().is_relative_to(folder / "images" / "train")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("fields", "files", "message"),
    [
        ({"format": "word"}, 0, "format: must be one of voc"),
        ({"labels": "[]"}, 0, "at least 1 item"),
        ({"labels": "{"}, 0, "Invalid JSON"),
        ({"box": [1, 1, 1e39, 9]}, 0, "less than or equal to 1000000000"),
        ({"labels": "[" * 5000}, 0, "Invalid JSON"),
        ({}, 0, "a.png: send its file, or state its width and height"),
        ({}, 2, "There are 2 pictures for 1 rows"),
        ({"box": [1, 1, float("nan"), 2]}, 1, "box.2: Input should be a finite number"),
        ({"box": [5, 5, 1, 1]}, 1, "a box ends before it begins"),
        ({"label": 2}, 1, "label 2 is none of 2 classes"),
        ({"label": -1}, 1, "greater than or equal to 0"),
    ],
)
def test_labels_that_cannot_be_written_are_a_sentence(server, fields, files, message):
    found = {"box": fields.pop("box", [1, 1, 9, 9]), "label": fields.pop("label", 1)}
    rows = json.dumps([{"image": "a.png", "detections": [found]}])
    sent = {"format": "voc", "labels": rows} | fields
    answer = server.send("/v1/labels", [("a.png", picture())] * files, sent.items())
    assert answer.status == 422 and message in answer.detail()
    assert "/tmp" not in answer.detail()


def test_labels_of_a_file_that_is_no_picture(server):
    rows = json.dumps([{"image": "a.png", "detections": []}])
    fields = [("format", "voc"), ("labels", rows)]
    answer = server.send("/v1/labels", [("a.png", b"nonsense")], fields)
    assert answer.status == 422 and "is not a JPEG" in answer.detail()


@pytest.mark.parametrize("format", ["voc", "coco"])
def test_where_the_server_keeps_files_is_not_told(server, format):
    row = {"image": "a.png", "detections": [{"box": [1, 1, 9, 9], "label": 0}]}
    fields = [("format", format), ("labels", json.dumps([row]))]
    answer = server.send("/v1/labels", [("a.png", b"nonsense")], fields)
    assert answer.status == 422 and answer.detail().startswith("a.png: ")
    assert "given" not in answer.detail() and "/" not in answer.detail()
