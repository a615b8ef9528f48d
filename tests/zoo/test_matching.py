import keras
import numpy as np
import pytest

from frcnn.zoo.matching import load_by_name

pytestmark = pytest.mark.backend


def dense(name, inputs=2, units=3):
    layer = keras.layers.Dense(units, name=name)
    layer.build((None, inputs))
    return layer


def arrays(inputs=2, units=3):
    return {"kernel": np.ones((inputs, units)), "bias": np.full(units, 2.0)}


def test_report_accounts_for_every_layer_and_name():
    layers = [dense("a"), dense("b"), dense("c"), keras.layers.ReLU(name="no_weights")]
    report = load_by_name(layers, {"a": arrays(), "b": arrays(units=4), "d": arrays()}, "some file")
    assert report.matched == {"a": ((2, 3), (3,))}
    assert list(report.mismatched) == ["b"]
    assert report.missing == ("c",)
    assert report.left_over == ("d",)
    first, *rows = str(report).splitlines()
    assert first == ("some file: 1 layers matched, 1 mismatched, 1 missing, 1 names left over")
    assert [row.split()[:2] for row in rows] == [
        ["mismatched", "b"],
        ["missing", "c"],
        ["left", "over"],
    ]
    assert "kernel has shape (2, 4), expected (2, 3)" in rows[0] and " d " in rows[2]


def test_matched_layers_are_filled_and_others_left_alone():
    filled, mismatched = dense("a"), dense("b")
    before = mismatched.get_weights()
    load_by_name([filled, mismatched], {"a": arrays(), "b": arrays(units=4)}, "some file")
    for got, expected in zip(filled.get_weights(), arrays().values(), strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(mismatched.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_layers_are_found_inside_models():
    inputs = keras.Input((2,))
    inner = keras.Model(inputs, dense("a")(inputs), name="inner")
    outer = keras.Model(inputs, dense("b", 3)(inner(inputs)))
    report = load_by_name(outer, {"a": arrays(), "b": arrays(3)}, "some file")
    assert list(report.matched) == ["a", "b"]
    np.testing.assert_array_equal(inner.get_layer("a").get_weights()[1], [2, 2, 2])


def test_weights_of_other_names_are_a_mismatch():
    report = load_by_name(
        [dense("a"), dense("b")], {"a": arrays(), "b": {"kernel": np.ones((2, 3))}}, "some file"
    )
    assert report.mismatched == {"b": "has kernel; expected kernel, bias"}


def test_nothing_matched_is_an_error_with_both_sets_of_names():
    with pytest.raises(ValueError) as error:
        load_by_name([dense("ours")], {"theirs": arrays()}, "some file")
    assert all(part in str(error.value) for part in ("some file", "ours", "theirs"))
    with pytest.raises(ValueError, match=r"kernel has shape \(5, 3\), expected \(2, 3\)"):
        load_by_name([dense("ours")], {"ours": arrays(5)}, "some file")


def test_two_layers_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="several layers here have that name"):
        load_by_name([dense("a"), dense("a")], {"a": arrays()}, "some file")
