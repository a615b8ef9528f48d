import numpy as np
import pytest

from frcnn.apps.serve.server import warm_up
from frcnn.inference.predict import Detector
from serving import picture, serving
from tiny import tiny_detector

pytestmark = pytest.mark.backend


def test_a_detector_of_keras_is_served_from_another_thread():
    model = tiny_detector()
    model.canvases = ((64, 96), (96, 64))
    detector = Detector(model)
    warm_up(detector)
    files = [(f"{seed}.png", picture(64, 96, seed)) for seed in range(3)]
    files.append(("high.png", picture(96, 64, 3)))
    expected = detector.detect([data for _, data in files])
    with serving(detector, batch=2) as client:
        rows = client.send("/v1/detect?score=0", files).json()
    assert [row["image"] for row in rows] == [name for name, _ in files]
    for row, found in zip(rows, expected, strict=True):
        assert [each["label"] for each in row["detections"]] == found.labels.tolist()
        for name, values in (("box", found.boxes), ("score", found.scores)):
            given = [each[name] for each in row["detections"]]
            np.testing.assert_allclose(given, values, atol=0.05 if name == "box" else 1e-4)
