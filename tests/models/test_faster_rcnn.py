import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.faster_rcnn import LOSSES, NOT_FINITE, feature_shapes
from frcnn.models.inputs import check_canvas
from tiny import tiny_batch, tiny_network

pytestmark = pytest.mark.backend


def losses_of(network, x, y):
    network.compile(keras.optimizers.SGD(0.01))
    return network.evaluate(*map(_tensors, (x, y)), verbose=0, return_dict=True)


def _tensors(values):
    return {name: np.asarray(value) for name, value in values.items()}


def test_call_returns_the_same_keys_in_training_and_in_use():
    network = tiny_network()
    x, _ = tiny_batch()
    trained, used = network(x, training=True), network(x, training=False)
    assert set(trained) == set(used)
    assert trained["proposals"].shape == (2, 40, 4)
    assert used["proposals"].shape == (2, 30, 4)
    shapes = feature_shapes(used["features"])
    assert shapes == [(8, 12), (4, 6), (2, 3)]
    assert used["rpn_logits"].shape == (2, 3 * sum(h * w for h, w in shapes))


def test_proposals_stay_inside_the_valid_part():
    network = tiny_network()
    x, _ = tiny_batch()
    proposals = keras.ops.convert_to_numpy(network(x, training=True)["proposals"])
    assert proposals[..., 0::2].max() <= 90 and proposals[..., 1::2].max() <= 64
    assert proposals.min() >= 0


def test_padding_does_not_change_what_is_found():
    network = tiny_network()
    x, _ = tiny_batch()
    dirty = dict(x, images=x["images"].copy())
    dirty["images"][:, :, 90:] = 255
    for key in ("rpn_logits", "proposals"):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(network(x)[key]), ops.convert_to_numpy(network(dirty)[key])
        )


def test_every_part_learns_and_the_losses_fall():
    network = tiny_network()
    x, y = tiny_batch(batch=4)
    network.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    before = [ops.convert_to_numpy(v) for v in network.trainable_variables]
    history = [network.train_on_batch(x, y, return_dict=True) for _ in range(30)]
    for variable, old in zip(network.trainable_variables, before, strict=True):
        assert np.abs(ops.convert_to_numpy(variable) - old).max() > 0, variable.path
    assert set(history[0]) == {"loss", *LOSSES, *NOT_FINITE}
    assert float(history[-1]["loss"]) < 0.8 * float(history[0]["loss"])


def test_loss_is_the_sum_of_the_four():
    network = tiny_network()
    losses = losses_of(network, *tiny_batch())
    assert losses["loss"] == pytest.approx(sum(losses[name] for name in LOSSES), rel=1e-5)


def test_losses_that_are_not_finite_are_told_and_not_tracked():
    network = tiny_network()
    bad = [1, np.nan, 3, -np.inf]
    for losses, total in (([1, 2, 3, 4], 10), (bad, np.nan), ([3, 4, 5, 6], 18)):
        losses = ops.convert_to_tensor(np.float32(losses))
        found = float(network._track(losses, ops.convert_to_tensor(2.0)))
        np.testing.assert_equal(found, total)
    assert [float(metric.result()) for metric in network.not_finite] == [0, 1, 0, 1]
    assert [float(mean.result()) for mean in network.loss_means] == [2, 3, 4, 5]


def test_a_network_that_diverged_is_not_taken_for_the_best():
    network = tiny_network()
    x, y = tiny_batch()
    network.roi_head.classify.bias.assign(np.full(3, np.nan, np.float32))
    network.compile(keras.optimizers.SGD(0.01))
    stop = keras.callbacks.TerminateOnNaN()
    losses = network.fit(x, y, epochs=3, batch_size=2, verbose=0, callbacks=[stop]).history["loss"]
    assert len(losses) == 1 and np.isnan(losses[0])
    assert np.isnan(losses_of(network, x, y)["loss"])


@pytest.mark.parametrize("head", [{}, {"class_agnostic": True}])
def test_labels_that_are_of_no_class_make_no_sound_loss(head):
    network = tiny_network(head=head)
    x, y = tiny_batch()
    before = ops.convert_to_numpy(network.rpn.deltas.kernel)
    network.compile(keras.optimizers.SGD(0.01))
    counted_from_one = {**y, "labels": np.where(y["labels"] < 0, -1, y["labels"] + 1)}
    assert np.isnan(network.train_on_batch(x, counted_from_one, return_dict=True)["loss"])
    np.testing.assert_array_equal(ops.convert_to_numpy(network.rpn.deltas.kernel), before)
    network.reset_metrics()
    assert np.isfinite(network.train_on_batch(x, y, return_dict=True)["loss"])


def test_a_batch_without_a_slot_for_boxes_is_one_without_objects():
    results = []
    for slots in (0, 1):
        y = {"boxes": np.zeros((2, slots, 4), np.float32) - 1, "labels": np.full((2, slots), -1)}
        results.append(losses_of(tiny_network(), tiny_batch()[0], y)["loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-5) and np.isfinite(results[0])


@pytest.mark.parametrize("parts", [1, 2])
def test_what_a_regularizer_asks_for_is_added(parts):
    def extractor():
        inputs = x = keras.Input((None, None, 3))
        maps = []
        for stride in (4, 2, 2):
            convolution = keras.layers.Conv2D(
                8, 3, stride, "same", kernel_regularizer=keras.regularizers.L2(0.5)
            )
            x = convolution(x)
            maps.append(x)
        return keras.Model(inputs, maps[1:])

    network = tiny_network(extractor=extractor)
    network.compile(keras.optimizers.SGD(0.0))
    network.parts = parts
    kernels = (
        ops.convert_to_numpy(v) for v in network.extractor.trainable_variables if "ker" in v.path
    )
    penalty = sum(0.5 * float((kernel**2).sum()) for kernel in kernels)
    logs = network.train_on_batch(*tiny_batch(), return_dict=True)
    losses = sum(float(logs[name]) for name in LOSSES)
    assert penalty > 1 and float(logs["loss"]) == pytest.approx(losses + penalty, rel=1e-5)


def test_weights_of_images_are_refused_in_words():
    network = tiny_network()
    network.compile(keras.optimizers.SGD(0.0))
    for step in (network.train_on_batch, network.test_on_batch):
        with pytest.raises(ValueError, match="Expected no `sample_weight`"):
            step(*tiny_batch(), sample_weight=np.ones(2, np.float32))


def test_images_of_unknown_size_are_refused_in_words():
    check_canvas(keras.KerasTensor((None, 64, 96, 3), "uint8"))
    with pytest.raises(ValueError, match="canvas of a fixed size.*Pad them"):
        check_canvas(keras.KerasTensor((2, None, None, 3), "uint8"))


def test_measuring_uses_no_draws_up():
    x, y = tiny_batch()
    network = tiny_network()
    first = losses_of(network, x, y)["loss"]
    assert [losses_of(network, x, y)["loss"] for _ in "ab"] == [first, first]
    logs = network.train_on_batch(x, y, return_dict=True)
    network.reset_metrics()
    assert float(logs["loss"]) != float(network.train_on_batch(x, y, return_dict=True)["loss"])
    assert losses_of(tiny_network(), x, y)["loss"] == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("part", ["extractor", "neck", "rpn", "roi_head"])
def test_what_is_frozen_stays_so_in_a_copy(part, tmp_path):
    network = tiny_network()
    getattr(network, part).trainable = False
    count = len(network.trainable_variables)
    network.save(tmp_path / "a.keras")
    for copy in (
        keras.saving.load_model(tmp_path / "a.keras"),
        type(network).from_config(network.get_config()),
    ):
        assert len(copy.trainable_variables) == count < len(tiny_network().trainable_variables)
        getattr(copy, part).trainable = True
        assert len(copy.trainable_variables) == len(tiny_network().trainable_variables)


def test_a_copy_has_the_policy_of_its_network():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = tiny_network()
    finally:
        keras.config.set_dtype_policy(before)
    network.trainable = False
    copy = type(network).from_config(network.get_config())
    assert copy.dtype_policy.name == copy.rpn.dtype_policy.name == "mixed_float16"
    assert not copy.trainable and not copy.trainable_variables
    copy.trainable = True
    copy.compile(keras.optimizers.SGD(0.01))
    assert isinstance(copy.optimizer, keras.optimizers.LossScaleOptimizer)


def test_sampling_seed_advances_and_repeats():
    x, y = tiny_batch()
    runs = []
    for _ in range(2):
        network = tiny_network(seed=3)
        network.compile(keras.optimizers.SGD(0.0))
        network.reset_metrics()
        runs.append([float(network.train_on_batch(x, y, return_dict=True)["loss"]) for _ in "abc"])
    assert runs[0] == pytest.approx(runs[1], rel=1e-6)
    assert len({round(loss, 7) for loss in runs[0]}) > 1


@pytest.mark.parametrize("boxes", [0, 3])
def test_images_without_objects_train_without_nan(boxes):
    network = tiny_network()
    x, y = tiny_batch(boxes=boxes)
    y["labels"][0] = -1
    y["boxes"][0] = -1
    network.compile(keras.optimizers.SGD(0.01))
    for _ in range(3):
        losses = network.train_on_batch(x, y, return_dict=True)
        assert all(np.isfinite(float(value)) for value in losses.values())
    if not boxes:
        assert float(losses["rpn_box"]) == float(losses["roi_box"]) == 0
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in network.trainable_variables)


def test_blank_pictures_of_no_size_train_without_nan():
    network = tiny_network()
    x, y = tiny_batch(boxes=0)
    x["sizes"][:] = 0
    network.compile(keras.optimizers.SGD(0.01))
    losses = network.train_on_batch(x, y, return_dict=True)
    assert all(np.isfinite(float(value)) for value in losses.values())


@pytest.mark.skipif(keras.config.backend() != "torch", reason="others' steps take their state")
def test_a_step_in_a_loop_of_ones_own():
    network = tiny_network()
    network.compile(keras.optimizers.SGD(0.01))
    losses = network.train_step(tiny_batch())
    assert np.isfinite(float(losses["loss"]))


def test_plain_fit_evaluate_save_and_load(tmp_path):
    network = tiny_network(dropout=0.5)
    x, y = tiny_batch()
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    history = network.fit(x, y, batch_size=2, epochs=2, verbose=0)
    assert set(history.history) == {"loss", *LOSSES, *NOT_FINITE}
    network.evaluate(x, y, batch_size=2, verbose=0)
    network.save(tmp_path / "network.keras")
    copy = keras.saving.load_model(tmp_path / "network.keras")
    for key in ("rpn_logits", "rpn_deltas", "proposals"):
        np.testing.assert_allclose(
            ops.convert_to_numpy(copy(x)[key]), ops.convert_to_numpy(network(x)[key]), atol=1e-5
        )
    # What was saved goes on training alike, momentum included; Keras saves no seed's count of
    # draws. By way of NumPy: JAX's training step frees the array it was given.
    for mine, theirs in zip(seeds_of(copy), seeds_of(network), strict=True):
        mine.state.assign(ops.convert_to_numpy(theirs.state))
    network.reset_metrics()
    first = network.train_on_batch(x, y, return_dict=True)
    second = copy.train_on_batch(x, y, return_dict=True)
    assert float(second["loss"]) == pytest.approx(float(first["loss"]), rel=1e-3)


def seeds_of(network):
    drops = [layer.draws for layer in network.roi_head.drop]
    return [network.rpn_draws, network.roi_draws, *drops]


def test_dropout_acts_in_training_only():
    network = tiny_network(dropout=0.5)
    x, y = tiny_batch()
    rois = ops.convert_to_tensor(y["boxes"][:, :3])
    features = network(x)["features"]
    still = [ops.convert_to_numpy(network.roi_head(features, rois)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    moved = [
        ops.convert_to_numpy(network.roi_head(features, rois, training=True)[0]) for _ in range(2)
    ]
    assert np.abs(moved[0] - moved[1]).max() > 0
