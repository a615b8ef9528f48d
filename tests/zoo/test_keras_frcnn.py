import re
import shutil

import h5py
import numpy as np
import pytest
from keras import ops

from frcnn.errors import UserError
from frcnn.models.rpn import ProposalRule
from frcnn.zoo.keras_frcnn import _todays_names, convert_keras_frcnn
from frcnn.zoo.keras_h5 import read_keras_h5
from keras_frcnn_peer import Original

SIZE = (128, 192)  # multiples of 32, so that nothing is padded
PRESETS = {"vgg": "vgg16", "resnet50": "resnet50_c4"}
NAMES = ("cat", "dog", "horse")


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def vgg():
    return Original("vgg", picture())


@pytest.fixture(scope="module")
def vgg_file(vgg, tmp_path_factory):
    return vgg.save(tmp_path_factory.mktemp("vgg") / "model_frcnn.hdf5")


@pytest.fixture(scope="module", params=["vgg", "resnet50"])
def pair(request, tmp_path_factory):
    """The original, and ours with its weights."""
    # The last stage of ResNet is slow, so it sees fewer RoIs.
    rois = 300 if request.param == "vgg" else 12
    original = Original(request.param, picture(), rois=rois)
    path = original.save(tmp_path_factory.mktemp("weights") / "model_frcnn.hdf5")
    model, _ = convert_keras_frcnn(path, PRESETS[request.param], NAMES)
    path.unlink()
    model.network.rpn.inference_rule = ProposalRule(10**6, rois)
    return original, model


def batch(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"images": image[None], "sizes": np.array([image.shape[:2]], np.int32)}


@pytest.mark.backend
def test_every_stage_equals_the_originals(pair):
    original, model = pair
    image = picture(1)  # not the one that the weights were made for
    found = model.network(batch(image))
    features = original.features(image)
    ours = ops.convert_to_numpy(found["features"][0])[0]
    assert ours.shape == features.shape
    assert np.abs(ours - features).max() < 1e-4 * np.abs(features).max()

    scores, deltas = original.rpn(features)
    proposals = original.proposals(scores, deltas)
    valid = ops.convert_to_numpy(found["valid"])[0]
    ours = ops.convert_to_numpy(found["proposals"])[0][valid]
    np.testing.assert_array_equal(ours, 16 * proposals)
    assert len(ours) >= 12 and len(np.unique(ours, axis=0)) == len(ours)

    logits, deltas = original.classify(features, proposals)
    boxes = 16 * proposals[None].astype(np.float32)
    mine, moves = map(ops.convert_to_numpy, model.network.roi_head(found["features"], boxes))
    assert np.abs(mine[0] - logits).max() < 1e-3
    # Ours are in units of (10, 10, 5, 5), its (8, 8, 4, 4).
    assert np.abs(moves[0].reshape(len(moves[0]), -1) - 1.25 * deltas).max() < 1e-3


def test_detections_equal_the_originals(pair):
    original, model = pair
    image = picture(2)
    theirs = original.detect(image, threshold=0.6)
    found = {name: ops.convert_to_numpy(x)[0] for name, x in model(batch(image)).items()}
    # Above a half only the likeliest class of a RoI can score, the one that the original shows.
    rows = np.flatnonzero(found["scores"] >= 0.6)
    assert len(rows) == len(theirs) > 3
    assert found["labels"][rows].tolist() == [label for label, _, _ in theirs]
    assert np.abs(found["scores"][rows] - [score for _, score, _ in theirs]).max() < 1e-3
    assert np.abs(found["boxes"][rows] - [box for _, _, box in theirs]).max() < 0.05


def test_files_of_every_keras_give_the_same_weights(vgg, vgg_file, tmp_path):
    expected, _ = convert_keras_frcnn(vgg_file, "vgg16")
    for scheme in ("keras 1", "tf.keras"):
        path = vgg.save(tmp_path / "model.h5", scheme)
        for ours, theirs in zip(
            convert_keras_frcnn(path, "vgg16")[0].network.weights,
            expected.network.weights,
            strict=True,
        ):
            np.testing.assert_array_equal(*map(ops.convert_to_numpy, (ours, theirs)))
        path.unlink()


def test_wrapped_normalisations_of_keras_1_are_understood(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for name in ("gamma", "beta", "running_mean", "running_std"):
            file[f"bn5a_branch2a/fixed_batch_normalization_7_{name}_1:0"] = np.ones(2)
            file[f"bn_conv1/bn_conv1_{name}:0"] = np.ones(2)
    layers = _todays_names(read_keras_h5(tmp_path / "weights.h5"))
    norm = {"gamma", "beta", "moving_mean", "moving_variance"}
    assert {name: set(weights) for name, weights in layers.items()} == {
        "bn5a_branch2a": norm,
        "bn_conv1": norm,
    }


def test_what_is_not_exact_is_said_and_missing_names_are_asked_for(vgg_file):
    model, remarks = convert_keras_frcnn(vgg_file, "vgg16", NAMES)
    assert model.classes == NAMES and len(remarks) == 2
    assert "--score 0.8" in " ".join(remarks)
    model, remarks = convert_keras_frcnn(vgg_file, "vgg16")
    assert model.classes == ("1", "2", "3")
    assert "--classes" in remarks[-1] and "config.pickle" not in remarks[-1]


def test_a_pickle_beside_the_file_is_named_and_not_read(vgg_file):
    pickle = vgg_file.with_name("config.pickle")
    pickle.write_bytes(b"cos\nabort\n(tR.")  # would end the process
    try:
        _, remarks = convert_keras_frcnn(vgg_file, "vgg16")
    finally:
        pickle.unlink()
    assert f"{pickle}, which is not read" in remarks[-1]


def test_training_goes_on_in_the_units_of_the_preset(vgg_file):
    network = convert_keras_frcnn(vgg_file, "vgg16")[0].network
    assert network.roi_rule.weights == (10.0, 10.0, 5.0, 5.0)
    assert network.rpn.anchors.ratios == (0.5, 1.0, 2.0)


def replace(file: h5py.File, layer: str, kernel: tuple, bias: int | None = None) -> None:
    """Give a layer, perhaps a new one, other shapes."""
    file.pop(layer, None)
    file[f"{layer}/{layer}/kernel:0"] = np.zeros(kernel, np.float32)
    file[f"{layer}/{layer}/bias:0"] = np.zeros(bias or kernel[-1], np.float32)


def rename(file: h5py.File, layer: str, name: str) -> None:
    file.move(layer, name)


# What was done to a file -> what is said of it.
EDITS = {
    "no rpn": (
        lambda file: file.pop("rpn_out_class"),
        "no complete layer rpn_out_class",
    ),
    "no bias": (
        lambda file: file.pop("dense_regress_4/dense_regress_4/bias:0"),
        "no complete layer dense_regress_N",
    ),
    "no hidden layer": (
        lambda file: file.pop("time_distributed_10"),
        "no complete layer time_distributed_N (fc2)",
    ),
    "no convolution": (
        lambda file: file.pop("block3_conv2"),
        "block3_conv2 is missing",
    ),
    "another convolution": (
        lambda file: replace(file, "block3_conv2", (5, 5, 256, 256)),
        "block3_conv2 kernel has shape (5, 5, 256, 256), expected (3, 3, 256, 256)",
    ),
    "one layer more": (
        lambda file: replace(file, "dense_7", (4, 4)),
        "dense_7 is not known",
    ),
    "other anchors": (
        lambda file: replace(file, "rpn_out_class", (1, 1, 512, 12)),
        "rpn_out_class has shapes (1, 1, 512, 12) and (12,); expected (1, 1, 512, 9) and (9,)",
    ),
    "another pooling": (
        lambda file: replace(file, "time_distributed_8", (14 * 14 * 512, 2)),
        "time_distributed_N (fc1) has shapes (100352, 2) and (2,); expected (25088, 2) and (2,)",
    ),
    "a bias of its own": (
        lambda file: replace(file, "time_distributed_10", (16, 16), 5),
        "time_distributed_N (fc2) has shapes (16, 16) and (5,); expected (16, 5) and (5,)",
    ),
    "boxes of background": (
        lambda file: replace(file, "dense_regress_4", (16, 16)),
        "dense_regress_N has shapes (16, 16) and (16,); expected (16, 12) and (12,)",
    ),
    "background alone": (
        lambda file: replace(file, "dense_class_4", (16, 1)),
        "dense_class_N has no class but background",
    ),
    "two outputs": (
        lambda file: replace(file, "dense_class_9", (16, 9)),
        "several of its layers have one place",
    ),
    "another architecture": (
        lambda file: rename(file, "block5_conv3", "res4f_branch2c"),
        "no layer block5_conv3; it is of resnet50_c4",
    ),
    "another project": (
        lambda file: rename(file, "block5_conv3", "conv9"),
        "no layer block5_conv3",
    ),
}


def refusal(path, preset="vgg16", classes=None) -> str:
    """The one sentence that a file is refused with."""
    with pytest.raises(UserError) as caught:
        convert_keras_frcnn(path, preset, classes)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_does_not_fit_is_one_sentence(vgg_file, tmp_path, edit):
    change, expected = EDITS[edit]
    path = shutil.copy(vgg_file, tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        change(file)
    message = refusal(path)
    path.unlink()
    assert expected in message and len(message) < 500
    assert message.startswith(f"{path} could not be converted to vgg16: ")


def test_many_faults_are_counted(vgg_file, tmp_path):
    path = shutil.copy(vgg_file, tmp_path / "model.hdf5")
    with h5py.File(path, "r+") as file:
        for layer in [name for name in file if re.match(r"block[234]", name)]:
            del file[layer]
    message = refusal(path)
    path.unlink()
    assert "block2_conv1 is missing" in message and "and 3 layers more" in message


def test_a_file_that_cannot_be_read_is_one_sentence(vgg_file, tmp_path):
    path = tmp_path / "model.hdf5"
    assert "No weight file" in refusal(path)
    for content in (b"", b"no HDF5", vgg_file.read_bytes()[:5000]):
        path.write_bytes(content)
        assert "Cannot read" in refusal(path)
    path.unlink()
    with h5py.File(path, "w") as file:  # sides that no memory holds
        file.create_dataset("block5_conv3/kernel:0", (10**6, 10**6), "f4")
    assert "it declares arrays of 4,000,000,000,000 bytes" in refusal(path)


def test_names_in_other_number_and_other_presets_are_refused(vgg_file):
    assert "it has 3 classes besides background, but 2 names" in refusal(
        vgg_file, classes=("a", "b")
    )
    assert "Received: resnet50_fpn" in refusal(vgg_file, "resnet50_fpn")
    assert "no layer res4f_branch2c; it is of vgg16" in refusal(vgg_file, "resnet50_c4")
