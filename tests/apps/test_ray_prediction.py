"""The parts of prediction by Ray that do without Ray; ``benchmarks/ray_predict.py`` runs it."""

import importlib
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from frcnn.apps import ray_prediction
from frcnn.apps.predictions import write_predictions
from frcnn.apps.ray_prediction import Detecting, open_ray
from frcnn.data.images import decode_image, read_image
from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.inference.views import Views
from tiny import damage, tiny_detector


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("a", "ü", "c")]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 255, (60, 90, 3), np.uint8))
    return paths


def rows_of(worker, unread=None, **columns):
    """Rows as Ray hands them on."""
    made = worker({name: np.array(values, object) for name, values in columns.items()})
    rows = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    unread = [] if unread is None else unread
    table = SimpleNamespace(iter_rows=lambda: iter(rows))
    return ray_prediction._rows(table, lambda: None, unread)


def test_the_file_is_that_of_the_plain_command(tmp_path, pictures):
    model = Detector(tiny_detector()).save(tmp_path / "tiny.keras")
    worker = Detecting(str(model), 0.0)
    expected = write_predictions(worker._detector, pictures, 0.0, None)
    assert sum(len(row["detections"]) for row in expected) > 0
    names = [str(path) for path in pictures]
    file = tmp_path / "new" / "found.json"
    written = ray_prediction._write(file, rows_of(worker, path=names, name=names))
    assert written == (3, sum(len(row["detections"]) for row in expected))
    assert file.read_text("utf-8") == json.dumps(expected, indent=2) + "\n"
    # The bytes of the files give the same; without names they are numbered.
    data = [path.read_bytes() for path in pictures]
    ray_prediction._write(file, rows_of(worker, image=data))
    found = json.loads(file.read_text("utf-8"))
    assert [row["image"] for row in found] == ["0", "1", "2"]
    assert [row["detections"] for row in found] == [row["detections"] for row in expected]
    assert [each.name for each in file.parent.iterdir()] == ["found.json"]


def test_a_picture_that_cannot_be_read_has_an_error_as_of_the_plain_command(tmp_path, pictures):
    damage(pictures[1])
    worker = Detecting(str(Detector(tiny_detector()).save(tmp_path / "tiny.keras")), 0.0)
    expected = write_predictions(worker._detector, pictures, 0.0, None)
    names, unread = [str(path) for path in pictures], []
    file = tmp_path / "found.json"
    ray_prediction._write(file, rows_of(worker, unread, path=names, name=names))
    assert file.read_text("utf-8") == json.dumps(expected, indent=2) + "\n"
    assert unread == expected[1:2] and "detections" not in unread[0]
    data = [path.read_bytes() for path in pictures]
    ray_prediction._write(file, rows_of(worker, unread, image=data, name=names))
    assert file.read_text("utf-8") == json.dumps(expected, indent=2) + "\n"


def test_workers_look_as_they_are_told(tmp_path, pictures):
    model = Detector(tiny_detector()).save(tmp_path / "tiny.keras")
    views = Views(tiles=48, tta=True)
    worker = Detecting(str(model), 0.0, views)
    made = worker({"path": np.array([str(pictures[0])], object)})
    expected = views.of(Detector.load(model)).detect(pictures[0]).to_dict()
    assert json.loads(made["detections"][0]) == expected and len(expected) == made["objects"][0]


def test_no_pictures_are_an_empty_list(tmp_path):
    assert ray_prediction._write(tmp_path / "f.json", []) == (0, 0)
    assert (tmp_path / "f.json").read_text() == json.dumps([], indent=2) + "\n"


def test_a_file_that_is_not_finished_is_not_left(tmp_path):
    def rows():
        yield "{}", 0
        raise UserError("a picture is damaged")

    with pytest.raises(UserError):
        ray_prediction._write(tmp_path / "f.json", rows())
    assert not list(tmp_path.iterdir())


def test_tables_are_told_from_pictures(tmp_path):
    (tmp_path / "b.parquet").touch()
    (tmp_path / "a.parquet").touch()
    (tmp_path / "c.png").touch()
    tables = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert ray_prediction._parquet_files([tmp_path]) == tables
    assert ray_prediction._parquet_files([tables[1]]) == tables[1:]
    assert ray_prediction._parquet_files([tmp_path / "c.png"]) == []
    with pytest.raises(UserError, match="c.png is no Parquet file"):
        ray_prediction._parquet_files([tables[0], tmp_path / "c.png"])


def test_a_users_mistake_is_found_in_what_ray_raises():
    mistake = UserError("x.png is damaged")
    outer = RuntimeError("task failed")
    outer.cause = mistake  # as of ray.exceptions.RayTaskError
    try:
        raise ValueError("dataset failed") from outer
    except ValueError as error:
        assert ray_prediction._cause(error) is mistake
    assert ray_prediction._cause(RuntimeError()) is None


def test_ray_that_is_missing_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r'pip install "frcnn\[ray\]"'):
        open_ray()


def test_bytes_are_decoded_as_a_file_is(pictures):
    data = pictures[0].read_bytes()
    np.testing.assert_array_equal(decode_image(data, "x"), read_image(pictures[0]))
    with pytest.raises(UserError, match="x.png"):
        decode_image(data[:40], "x.png")
