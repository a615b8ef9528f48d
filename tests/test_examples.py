import importlib.util
import math
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def own_backbone():
    spec = importlib.util.spec_from_file_location("own_backbone", EXAMPLES / "own_backbone.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_detector_over_convnext_trains(own_backbone, capsys):
    keras.utils.set_random_seed(0)
    detector = own_backbone.main(["--side", "64"])
    network = detector.model.network
    assert network.extractor.name == "convnext_tiny"
    assert all(math.isfinite(mean.result()) and mean.result() > 0 for mean in network.loss_means)
    assert "detections in" in capsys.readouterr().out
