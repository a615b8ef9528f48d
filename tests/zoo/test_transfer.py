"""Fine-tuning keeps all that fits, and the outputs of the classes that both networks know."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from frcnn.errors import UserError
from frcnn.inference.predict import Detector
from frcnn.zoo.transfer import transfer
from frcnn.zoo.weights import find_weights, load_weights
from tiny import tiny_detector, tiny_network

pytestmark = pytest.mark.backend


def values(network):
    return [ops.convert_to_numpy(variable) for variable in network.weights]


def test_the_same_classes_keep_everything():
    source, network = tiny_network(seed=1), tiny_network(seed=2)
    report = transfer(network, ("disc", "square"), source, ("disc", "square"), "somewhere")
    assert not report.mismatched
    assert not report.missing
    assert not report.left_over
    for ours, theirs, variable in zip(
        values(network), values(source), network.weights, strict=True
    ):
        if "seed_generator" not in variable.path:
            np.testing.assert_array_equal(ours, theirs)


def test_classes_are_matched_by_name_and_the_others_start_afresh():
    source, network = tiny_network(3, seed=1), tiny_network(2, seed=2)
    before = ops.convert_to_numpy(network.roi_head.classify.kernel).copy()
    boxes = ops.convert_to_numpy(network.roi_head.regress.kernel).copy()
    report = transfer(network, ("cat", "new"), source, ("dog", "ant", "cat"), "somewhere")
    assert set(report.mismatched) == {
        "class_logits/kernel",
        "class_logits/bias",
        "box_deltas/kernel",
        "box_deltas/bias",
    }
    assert all("new" in why and "cat" not in why for why in report.mismatched.values())
    mine = ops.convert_to_numpy(network.roi_head.classify.kernel)
    theirs = ops.convert_to_numpy(source.roi_head.classify.kernel)
    np.testing.assert_array_equal(mine[:, 0], theirs[:, 2])  # cat
    np.testing.assert_array_equal(mine[:, 1], before[:, 1])  # new
    np.testing.assert_array_equal(mine[:, 2], theirs[:, 3])  # background
    mine = ops.convert_to_numpy(network.roi_head.regress.kernel)
    theirs = ops.convert_to_numpy(source.roi_head.regress.kernel)
    np.testing.assert_array_equal(mine[:, :4], theirs[:, 8:12])
    np.testing.assert_array_equal(mine[:, 4:], boxes[:, 4:])


@pytest.mark.parametrize("mine", [("a", "b", "c"), ("x", "b", "y"), ("x", "y", "z")])
def test_three_classes_have_as_many_logits_as_a_box_has_sides(mine):
    """Outputs of four are not taken for one box that all classes share."""
    theirs = ("b", "c", "a")
    source, network = tiny_network(3, seed=1), tiny_network(3, seed=2)
    before = ops.convert_to_numpy(network.roi_head.classify.kernel).copy()
    report = transfer(network, mine, source, theirs, "somewhere")
    kernel = ops.convert_to_numpy(network.roi_head.classify.kernel)
    given = ops.convert_to_numpy(source.roi_head.classify.kernel)
    for place, name in enumerate(mine):
        expected = given[:, theirs.index(name)] if name in theirs else before[:, place]
        np.testing.assert_array_equal(kernel[:, place], expected, err_msg=name)
    np.testing.assert_array_equal(kernel[:, 3], given[:, 3])  # background
    assert ("class_logits/kernel" in report.matched) == (set(mine) == set(theirs))


def test_one_box_for_all_classes_is_kept_whatever_the_classes_are():
    source, network = (tiny_network(3, seed=seed, head={"class_agnostic": True}) for seed in (1, 2))
    report = transfer(network, ("x", "y", "z"), source, ("a", "b", "c"), "somewhere")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(network.roi_head.regress.kernel),
        ops.convert_to_numpy(source.roi_head.regress.kernel),
    )
    assert "box_deltas/kernel" in report.matched
    assert set(report.mismatched) == {"class_logits/kernel", "class_logits/bias"}


def test_a_network_with_other_parts_keeps_what_fits():
    source = tiny_network(seed=1)
    network = tiny_network(seed=2, head={"units": (24, 24)})
    report = transfer(network, ("disc", "square"), source, ("disc", "square"), "somewhere")
    assert "fc1/kernel" in report.mismatched
    assert "has shape (72, 16), expected (72, 24)" in report.mismatched["fc1/kernel"]
    assert "rpn_conv1/kernel" in report.matched
    np.testing.assert_array_equal(
        ops.convert_to_numpy(network.rpn.hidden[0].kernel),
        ops.convert_to_numpy(source.rpn.hidden[0].kernel),
    )


def test_it_starts_from_a_file_or_a_run_folder(tmp_path):
    detector = Detector(tiny_detector())
    detector.save(tmp_path / "best.keras")
    for reference in (tmp_path, tmp_path / "best.keras"):
        network = tiny_network(seed=5)
        report = load_weights(network, "efficientnet_lite0_fpn", str(reference), ("disc", "square"))
        assert report is not None
        assert not report.mismatched
        np.testing.assert_array_equal(
            ops.convert_to_numpy(network.rpn.objectness.kernel),
            ops.convert_to_numpy(detector.model.network.rpn.objectness.kernel),
        )


def test_nothing_in_common_is_an_error():
    inputs = keras.Input((None, None, 3))
    other = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="elsewhere")(inputs))
    with pytest.raises(
        ValueError, match="no weight of its feature extractor fits .*there is of another"
    ):
        transfer(tiny_network(), ("disc", "square"), other, (), "there")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("nowhere.keras", "There is no model file nowhere.keras"),
        ("nowhere", "no file or folder nowhere. .*imagenet, none, a .pth"),
        ("nowhere.pth", "No weight file nowhere.pth"),
        ("NOWHERE.PTH", "No weight file NOWHERE.PTH"),
        ("torchvision:fasterrcnn_resnet51", "not known here"),
        ("hf://nobody", "names no model on the Hugging Face hub"),
        ("efficientnet_lite0_fpn", "No trained detector is published for efficientnet_lite0_fpn"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(weights, said):
    with pytest.raises(UserError, match=said):
        load_weights(tiny_network(), "efficientnet_lite0_fpn", weights, ("disc", "square"))


@pytest.mark.parametrize("name", ["x.keras", "x.pth", "x.safetensors", "x.h5"])
def test_a_file_that_is_missing_is_told_before_it_is_read(tmp_path, name):
    file = tmp_path / name
    with pytest.raises(UserError, match=f"--weights .*{name}: there is no such file"):
        find_weights("efficientnet_lite0_fpn", str(file))
    file.touch()
    find_weights("efficientnet_lite0_fpn", str(file))  # reading it tells what it is


@pytest.mark.parametrize("weights", ["imagenet", "none", "hf://owner/name.keras", "torchvision:x"])
def test_what_is_no_file_is_left_for_later(weights):
    find_weights("efficientnet_lite0_fpn", weights)


def test_a_run_that_is_missing_is_told_at_once(tmp_path):
    with pytest.raises(UserError, match="--weights .*run: There is no file or folder"):
        find_weights("efficientnet_lite0_fpn", str(tmp_path / "run"))


def test_heads_alone_do_not_make_a_start():
    source = tiny_network(seed=1)
    heads = SimpleNamespace(weights=[*source.rpn.weights, *source.roi_head.weights])
    with pytest.raises(ValueError, match="there is of another architecture"):
        transfer(tiny_network(seed=2), ("disc", "square"), heads, ("disc", "square"), "there")


def test_weights_to_download_are_fetched_at_once(monkeypatch):
    def fetch(address, digest):
        raise UserError(f"{address} could not be downloaded.")

    monkeypatch.setattr("frcnn.zoo.weights.fetch", fetch)
    with pytest.raises(UserError, match="--weights imagenet: .*could not be downloaded"):
        find_weights("mobilenet_v3_large_fpn", "imagenet")
