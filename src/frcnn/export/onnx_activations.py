"""Activations of an ONNX graph, which ONNX Runtime took apart, as one operator again."""

from __future__ import annotations

import math

import onnx_ir as ir
from onnxscript.rewriter import RewriteRuleSet, pattern, rewrite


def join_activations(model: ir.Model) -> ir.Model:
    """Replace x * HardSigmoid(x) by ``HardSwish``: OpenVINO applies it as it convolves."""
    return rewrite(model, RewriteRuleSet([_HardSwish.rule()], commute=True))


class _HardSwish(pattern.RewriteRuleClassBase):
    """The rule by which the graph is rewritten."""

    def pattern(self, op, x):
        """The product."""
        return op.Mul(x, op.HardSigmoid(x, _allow_other_attributes=True, _outputs=["gate"]))

    def check(self, context, x, gate, **_):
        """Whether slope and height are those of ``HardSwish``."""
        attributes = gate.producer().attributes
        slope, height = attributes.get_float("alpha", 0.2), attributes.get_float("beta", 0.5)
        return math.isclose(slope, 1 / 6, rel_tol=1e-6) and height == 0.5

    def rewrite(self, op, x, gate):
        """x -> the same shape."""
        return op.HardSwish(x)
