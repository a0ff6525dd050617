"""Rules written against the documented slots: linear, elementwise, and any layer."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from shared.lrp import (
    AnyLinear,
    AvgPool,
    Composite,
    ElementwiseRule,
    Epsilon,
    LinearRule,
    Norm,
    Pass,
    Rule,
    attribute,
    stabilize,
)


@dataclass(frozen=True, eq=False)
class Squared(LinearRule):
    def forward(self, op, x, weight, bias):
        z = op.apply(x, weight, bias)
        return z, [x, z / stabilize(op.apply(x**2, weight**2, None), 1e-12)]

    def backward(self, op, shape, weight, saved, c):
        return saved[0] * op.vjp(weight**2, c * saved[1], shape)


@dataclass(frozen=True, eq=False)
class Half(ElementwiseRule):
    def ratio(self, x, y):
        return torch.full_like(x, 0.5)


def test_a_new_linear_rule_in_five_lines():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    result = attribute(model, x, 1, composite=Composite([(AnyLinear, Squared())]))
    hidden = model[1](model[0](x))
    parts = (hidden * model[2].weight[1]) ** 2
    r_hidden = result.output[:, 1:2] * parts / parts.sum(1, keepdim=True)
    parts = (x[:, None] * model[0].weight) ** 2  # (B, out, in)
    expected = (r_hidden[..., None] * parts / parts.sum(2, keepdim=True)).sum(1)
    assert torch.allclose(result.relevance, expected, atol=1e-9)
    assert torch.allclose(result.output, model(x))


def test_it_works_on_convolutions(conv_net, images):
    result = attribute(conv_net, images, 2, composite=Composite([(AnyLinear, Squared())]))
    assert torch.allclose(result.relevance.sum((1, 2, 3)), result.output[:, 2], atol=1e-8)


def test_a_new_elementwise_rule():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    result = attribute(model, x, 0, composite=Composite([(nn.Tanh, Half())]), record=["0", "1"])
    before, after = result.latent["0"], result.latent["1"]
    slope = after / torch.tanh(model[0](x))  # the coefficient that arrives
    assert torch.allclose(before, model[0](x) * slope / 2)


@pytest.mark.parametrize("rule", [Norm(0.1), Epsilon(0.1)], ids=["norm", "epsilon"])
def test_norm_and_epsilon_apply_to_any_layer(rule):
    """The rule object itself carries what it does: on pooling and on linear layers, inside and outside a composite."""
    model = nn.Sequential(nn.AvgPool1d(2), nn.Flatten(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 1, 6, dtype=torch.float64)
    composite = Composite([(AvgPool, rule), (nn.Linear, rule)])
    z, y = model[0](x), model(x)
    c = (y[:, :1] / stabilize(y[:, :1], 0.1)) * model[2].weight[0]
    c = c * (z[:, 0] / stabilize(z[:, 0], 0.1))
    expected = x * c.repeat_interleave(2, 1)[:, None] / 2
    assert torch.allclose(attribute(model, x, 0, composite=composite).relevance, expected)


def test_pass_on_a_square_linear_layer():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    result = attribute(model, x, 0, composite=Composite([], name_map=[("0", Pass())]), record="0")
    assert torch.allclose(result.relevance, result.latent["0"])


def test_the_bases_are_abstract_and_misplaced_rules_are_named(conv_net, images):
    for base in (Rule, LinearRule, ElementwiseRule):
        with pytest.raises(TypeError, match="abstract"):
            base()
    with pytest.raises(ValueError, match="Squared is a rule for linear layers; '1' is ReLU"):
        attribute(conv_net, images, 0, composite=Composite([(nn.ReLU, Squared())]))
