import keras
import numpy as np
import pytest
from keras import ops

from frcnn.models.faster_rcnn import LOSSES, NOT_FINITE, feature_shapes
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
    for losses, total in (([1, 2, 3, 4], 10), ([1, np.nan, 3, -np.inf], 0), ([3, 4, 5, 6], 18)):
        losses = ops.convert_to_tensor(np.float32(losses))
        assert float(network._track(losses, ops.convert_to_tensor(2.0))) == total
    assert [float(metric.result()) for metric in network.not_finite] == [0, 1, 0, 1]
    assert [float(mean.result()) for mean in network.loss_means] == [2, 3, 4, 5]


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
