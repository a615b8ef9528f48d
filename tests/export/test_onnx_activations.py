"""Activations of an ONNX graph, joined again."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from frcnn.export.onnx_activations import join_activations

SWISH = {"alpha": 1 / 6, "beta": 0.5}


def gated(order, other=False, **settings):
    """x times its gate, in this order of the two; or another map times it."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4, 5]) for name in ("x", "y")
    )
    names = {"x": "y" if other else "x", "gate": "gate"}
    nodes = [
        helper.make_node("HardSigmoid", ["x"], ["gate"], **settings),
        helper.make_node("Mul", [names[name] for name in order], ["made"]),
    ]
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, [2, 3, 4, 5])
    graph = helper.make_graph(nodes, "graph", [x, y], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def joined(model):
    model = ir.to_proto(join_activations(ir.from_proto(model)))
    onnx.checker.check_model(model)
    return model, Counter(node.op_type for node in model.graph.node)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    given = {each.name: rng.normal(0, 3, (2, 3, 4, 5)).astype("f4") for each in model.graph.input}
    return session.run(None, given)[0]


@pytest.mark.parametrize("order", [("x", "gate"), ("gate", "x")])
def test_a_product_with_its_own_gate_is_a_hard_swish(order):
    model = gated(order, **SWISH)
    after, operators = joined(model)
    assert operators == {"HardSwish": 1}
    np.testing.assert_allclose(run(after), run(model), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "given", [{"alpha": 0.2, "beta": 0.5}, {"alpha": 1 / 6, "beta": 0.4}, {}, SWISH | {"other": 1}]
)
def test_other_gates_stay(given):
    model = gated(("x", "gate"), **given)
    after, operators = joined(model)
    assert operators == {"HardSigmoid": 1, "Mul": 1}
    np.testing.assert_array_equal(run(after), run(model))
