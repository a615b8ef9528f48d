import keras
import numpy as np
import pytest
from keras import layers, ops

from frcnn.models.keras_extractor import strides_of, tapped, taps_for
from frcnn.models.layers import Conv2D, DepthwiseConv2D
from frcnn.models.normalization import FrozenBatchNorm

pytestmark = pytest.mark.backend


def randomise(model, seed=0):
    """Give batch normalisation statistics and affine maps as if it had been trained."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("gamma", "beta", "moving_mean", "moving_variance"):
            value = rng.normal(0, 0.1, variable.shape)
            centre = 1 if variable.name in ("gamma", "moving_variance") else 0
            variable.assign(centre + value)
    return model


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def maps_of(model, x, **options):
    maps = model(x, **options)
    return [ops.convert_to_numpy(map) for map in (maps if isinstance(maps, list) else [maps])]


def assert_maps_equal(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.fixture(scope="module")
def network():
    """A residual block that ends in ``a + b``, a nested model, branches, and a classifier."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, 2, "same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(scale=False, name="stem_norm")(x)
    down = [layers.Conv2D(6, 2, 2, name="down_conv"), layers.LayerNormalization(name="down_norm")]
    x = keras.Sequential(down, name="down")(x)
    x = x + layers.Conv2D(6, 3, padding="same", activation="gelu", name="block")(x)
    branches = [
        layers.Conv2D(6, 3, 2, "same", name="branch")(layers.ReLU(name="branch_relu")(x)),
        layers.MaxPooling2D(2, name="pool")(x),
    ]
    x = layers.Concatenate(name="join")(branches)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="border")(x)
    x = layers.DepthwiseConv2D(3, 2, name="last")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return randomise(keras.Model(inputs, layers.Dense(5, name="classes")(x), name="small"))


def test_the_copy_has_our_layers_and_leaves_the_model_alone(network):
    kinds = [type(layer) for layer in network.layers]
    extractor = tapped(network, ["last"])
    ours = {type(layer) for layer in extractor.layers}
    assert {Conv2D, DepthwiseConv2D, FrozenBatchNorm} <= ours
    assert not ours & {layers.Conv2D, layers.DepthwiseConv2D, layers.BatchNormalization}
    assert type(extractor.get_layer("down").layers[0]) is Conv2D
    assert [type(layer) for layer in network.layers] == kinds
    kept = {layer.name for layer in extractor.layers}
    assert {layer.name for layer in network.layers} - kept >= {"drop", "average", "classes"}
    before = network.get_layer("stem").get_weights()[0].copy()
    extractor.get_layer("stem").kernel.assign(0 * before)
    np.testing.assert_array_equal(network.get_layer("stem").get_weights()[0], before)


def test_default_taps_are_what_all_later_maps_are_made_from(network):
    at4, at8, at16 = taps_for(network, (4, 8, 16))
    assert at4.startswith("add") and (at8, at16) == ("join", "drop")


def test_a_map_that_padding_made_larger_counts_but_the_padding_itself_does_not():
    x = inputs = keras.Input((None, None, 3))
    for name in ("a", "b"):
        x = layers.Conv2D(2, 3, 2, "same", name=name)(layers.ZeroPadding2D(3)(x))
    model = keras.Model(inputs, layers.ZeroPadding2D(name="end")(x))
    assert taps_for(model, (2, 4)) == ("a", "b")
    assert strides_of(model) == (4,)


def test_maps_of_operations_and_nested_models(network):
    taps = taps_for(network, (4, 8, 16))
    extractor = tapped(network, ["last", taps[1], taps[0]])  # given in the wrong order
    assert strides_of(extractor) == (4, 8, 16)
    assert [map.shape[-1] for map in extractor.outputs] == [6, 12, 12]
    x = pictures(2, 48, 64, 3)
    at4 = next(operation for operation in network.operations if operation.name == taps[0])
    layers_after = [network.get_layer("join"), network.get_layer("last")]
    peer = keras.Model(network.inputs[0], [tap.output for tap in (at4, *layers_after)])
    expected = maps_of(peer, x)
    assert_maps_equal(maps_of(extractor, x), expected)
    assert_maps_equal(maps_of(extractor, x, training=True), expected)
    assert maps_of(tapped(network, ["down"]), x)[0].shape == (2, 12, 16, 6)


def test_a_nested_functional_model_for_one_size(network):
    part = tapped(network, ["join"])
    inputs = [keras.Input((64, 64, 3)), keras.Input((64, 64, 3))]
    inner = keras.Model(inputs[0], part(inputs[0])[0], name="inner")
    outer = keras.Model(inputs[1], layers.ReLU(name="relu")(inner(inputs[1])), name="outer")
    extractor = tapped(outer, ["relu"])
    x = pictures(1, 64, 64, 3)
    assert_maps_equal(maps_of(extractor, x), maps_of(outer, x))
    assert strides_of(extractor) == (8,)
    assert maps_of(extractor, pictures(1, 32, 48, 3))[0].shape == (1, 4, 6, 12)


def test_a_part_of_a_model_that_shares_its_layers(network):
    part = keras.Model(network.get_layer("block").input, network.get_layer("last").output)
    assert taps_for(part, (2, 4))[1] == "last"  # strides of the map that the part begins with
    x = pictures(1, 24, 32, 6)
    assert_maps_equal(maps_of(tapped(part, ["last"]), x), maps_of(part, x))


def test_a_layer_that_is_called_twice(network):
    inputs = keras.Input((None, None, 3))
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    model = keras.Model(inputs, layers.ReLU(name="relu")(twice(twice(inputs))), name="shared")
    x = pictures(1, 8, 8, 3)
    assert taps_for(model, (1,)) == ("relu",)
    assert_maps_equal(maps_of(tapped(model, ["relu"]), x), maps_of(model, x))
    with pytest.raises(ValueError, match=r"'twice' of shared gives no map.* but \(None.*, \(None"):
        tapped(model, ["twice"])


def test_constants_of_a_normalisation_are_carried_over():
    inputs = keras.Input((None, None, 3))
    norm = layers.Normalization(name="norm")
    model = keras.Model(inputs, layers.Conv2D(2, 2, 2, name="conv")(norm(inputs)))
    norm.set_weights([np.float32([1, 2, 3]), np.float32([4, 5, 6]), np.int32(1)])
    norm.finalize_state()
    x = pictures(1, 8, 8, 3)
    assert_maps_equal(maps_of(tapped(model, ["conv"]), x), maps_of(model, x))


def test_layers_of_the_first_strides_are_frozen(network):
    def trained(frozen):
        extractor = tapped(network, taps_for(network, (4, 8, 16)), frozen)
        return {variable.path.split("/")[-2] for variable in extractor.trainable_variables}

    everything = {"stem", "down_conv", "down_norm", "block", "branch", "last"}
    assert trained(0) == everything
    assert trained(1) == everything - {"stem"}
    assert trained(2) == {"branch", "last"}
    assert trained(3) == {"last"}
    assert trained(4) == set()
    with pytest.raises(ValueError, match=r"0\.\.4 for small. Received: 5"):
        trained(5)
    with pytest.raises(ValueError, match=r"0\.\.4 for small. Received: -1"):
        trained(-1)


def test_a_step_trains_all_but_the_frozen_layers(network):
    extractor = tapped(network, taps_for(network, (8, 16)), frozen=2)
    pooled = [layers.GlobalAveragePooling2D()(map) for map in extractor.outputs]
    model = keras.Model(extractor.inputs[0], pooled)
    model.compile(keras.optimizers.SGD(0.1), loss=["mse", "mse"])
    before = [ops.convert_to_numpy(variable) for variable in extractor.weights]
    model.train_on_batch(pictures(2, 32, 32, 3), [np.ones((2, 12), "f4"), np.ones((2, 12), "f4")])
    changed = {
        variable.path.split("/")[-2]
        for variable, old in zip(extractor.weights, before, strict=True)
        if np.abs(ops.convert_to_numpy(variable) - old).max() > 0
    }
    assert changed == {"branch", "last"}


def test_an_extractor_survives_saving(network, tmp_path):
    extractor = tapped(network, taps_for(network, (4, 8, 16)), frozen=2)
    extractor.save(tmp_path / "extractor.keras")
    again = keras.saving.load_model(tmp_path / "extractor.keras")
    x = pictures(1, 40, 72, 3)
    for got, expected in zip(maps_of(again, x), maps_of(extractor, x), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert len(again.trainable_variables) == len(extractor.trainable_variables)
    assert strides_of(again) == strides_of(extractor)


def test_errors_name_what_there_is(network):
    with pytest.raises(ValueError, match="no layer 'joint'. Did you mean 'join'.*'join' of stride"):
        tapped(network, ["joint"])
    with pytest.raises(ValueError, match=r"'average' of small gives no map.*\(None, 12\)"):
        tapped(network, ["average"])
    with pytest.raises(ValueError, match="no map of stride 32. Its maps: .* of stride 1, 'stem_n"):
        taps_for(network)
    with pytest.raises(ValueError, match="maps that grow"):
        strides_of(keras.Model(network.inputs[0], network.outputs[0][:, None, None]))


def test_a_model_that_is_not_functional_is_refused(network):
    sequential = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1, name="conv")])
    with pytest.raises(ValueError, match="Expected a functional.*Received: Sequential"):
        tapped(sequential, ["conv"])
    functional = keras.Model(sequential.inputs, sequential.outputs)
    assert strides_of(tapped(functional, ["conv"])) == (1,)
    vectors = keras.Input((3,))
    with pytest.raises(ValueError, match="Received: Functional 'of_vectors'"):
        taps_for(keras.Model(vectors, layers.Dense(2)(vectors), name="of_vectors"))


def test_channels_first_is_refused():
    inputs = keras.Input((3, 8, 8))
    model = keras.Model(inputs, layers.BatchNormalization(axis=1, name="norm")(inputs))
    with pytest.raises(ValueError, match="channels last.*'norm' over axis 1"):
        tapped(model, ["norm"])
