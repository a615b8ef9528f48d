"""VGG16's fully connected layers land in the RoI head, and say there what they say in Keras."""

import h5py
import keras
import numpy as np
from keras import ops

from frcnn.zoo.keras_h5 import load_vgg16
from frcnn.zoo.presets import build_network


def write_old_file(model: keras.Model, path) -> None:
    """The layout of the published file with the top: ``fc1/fc1_W_1:0``."""
    with h5py.File(path, "w") as file:
        for layer in model.layers:
            for name, values in zip("Wb", layer.get_weights(), strict=False):
                file.create_group(layer.name) if layer.name not in file else None
                file[layer.name][f"{layer.name}_{name}_1:0"] = values


def test_fc2_of_a_crop_is_that_of_keras_applications(tmp_path):
    keras.utils.set_random_seed(0)
    theirs = keras.applications.VGG16(weights=None)
    for name in ("fc1", "fc2"):  # else some of what is compared would be about 0
        layer = theirs.get_layer(name)
        layer.bias.assign(np.random.default_rng(0).normal(0, 0.01, layer.bias.shape))
    write_old_file(theirs, tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels.h5")
    network = build_network("vgg16", 2)
    report = load_vgg16(
        [network.extractor, network.roi_head],
        tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    )
    assert {"fc1", "fc2"} <= set(report.matched)
    assert report.left_over == ("predictions",)

    crop = np.random.default_rng(1).integers(0, 255, (1, 224, 224, 3)).astype(np.uint8)
    pixels = keras.applications.vgg16.preprocess_input(crop.astype(np.float32))
    wanted = keras.Model(theirs.input, theirs.get_layer("fc2").output)(pixels)

    features = network.features(crop, np.array([[224, 224]], np.int32))
    # VGG16's own pooling to 7x7 is RoIPool of all 14x14 cells.
    head = network.roi_head
    head.pooling = "pool"
    pooled = head._pool(features, np.array([[[0, 0, 208, 208]]], np.float32))
    ours = ops.convert_to_numpy(head._describe(pooled[0], training=False))
    wanted = ops.convert_to_numpy(wanted)
    assert wanted.max() > 0
    np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-3 * wanted.max())
