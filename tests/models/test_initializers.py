import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.initializers import Normal, Uniform
from frcnn.models.layers import Conv2D, DepthwiseConv2D
from frcnn.models.resnet import IMAGENET_PREPROCESSING, KERAS, TORCHVISION, resnet50
from frcnn.models.vgg import VGG_PREPROCESSING, vgg16

pytestmark = pytest.mark.backend


def draw(initializer, shape):
    return ops.convert_to_numpy(initializer(shape, "float32"))


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [(Normal(0.01), 0.01), (Uniform(), np.sqrt(2 / 90)), (Uniform(1.0), np.sqrt(1 / 90))],
)
def test_deviation_and_repetition(initializer, deviation):
    keras.utils.set_random_seed(1)
    values = draw(initializer, (3, 3, 10, 500))
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert abs(values.mean()) < deviation / 50
    assert not np.array_equal(draw(initializer, (3, 3, 10, 500)), values)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(draw(initializer, (3, 3, 10, 500)), values)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(initializer))
    assert copy.get_config() == initializer.get_config()


def test_the_numbers_come_from_numpy_and_so_are_the_same_on_every_backend():
    keras.utils.set_random_seed(1)
    limit = np.sqrt(6 / 18)
    expected = np.random.RandomState(1).uniform(-limit, limit, (3, 3, 2, 4))
    np.testing.assert_allclose(draw(Uniform(), (3, 3, 2, 4)), expected, rtol=1e-6)


def test_convolutions_keep_the_variance_through_a_relu():
    for layer in (Conv2D(64, 3, activation="relu"), DepthwiseConv2D(3, activation="relu")):
        keras.utils.set_random_seed(0)
        x = np.random.default_rng(0).normal(size=(4, 16, 16, 64)).astype(np.float32)
        y = ops.convert_to_numpy(layer(np.maximum(x, 0) * np.sqrt(2)))
        assert 0.6 < (y**2).mean() * 2 / 2 < 1.7


@pytest.mark.parametrize(
    ("build", "preprocessing"),
    [
        (lambda: resnet50(TORCHVISION), IMAGENET_PREPROCESSING),
        (lambda: resnet50(KERAS), VGG_PREPROCESSING),
        (vgg16, VGG_PREPROCESSING),
    ],
    ids=["torchvision's resnet50", "keras's resnet50", "vgg16"],
)
def test_deep_networks_of_random_weights_neither_amplify_nor_fade(build, preprocessing):
    keras.utils.set_random_seed(0)
    network = build()
    pixels = np.random.default_rng(0).normal(120, 58, (1, 64, 96, 3)).clip(0, 255)
    x = (pixels - preprocessing["mean"]) / np.array(preprocessing["std"])
    maps = network(x.astype(np.float32))
    for each in maps if isinstance(maps, list) else [maps]:
        assert 0.1 < ops.convert_to_numpy(each).std() < 10
