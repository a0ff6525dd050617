"""Explicit, differentiable relevance: right values, right gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import AnyLinear, Composite, Flat, UnsupportedModule, WSquare, ZPlus, attribute
from shared.lrp.unrolled import UnrolledLRP


def net(*, bias=True, pool=None):
    layers = [nn.Conv2d(2, 6, 3, padding=1, bias=bias), nn.ReLU(), pool or nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 6, 3, stride=2, bias=bias), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 3, bias=bias)).double()


def pixels(size=9):
    return torch.rand(2, 2, size, size, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("size", [9, 10, 11])
@pytest.mark.parametrize("pool", [None, nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)], ids=["max2", "max3", "avg2"])
def test_epsilon_is_gradient_times_input(size, pool):
    model, x = net(pool=pool), pixels(size).requires_grad_()
    logits, relevance = UnrolledLRP(model, rule="epsilon").relevance(x)
    assert torch.allclose(logits, model(x))
    for c in range(3):
        (gradient,) = torch.autograd.grad(model(x)[:, c].sum(), x)
        assert torch.allclose(relevance[:, c], gradient * x, atol=1e-12)


def test_second_order_equals_double_backward():
    """For epsilon, weight gradients of a heatmap loss are those through `create_graph=True`."""
    model, x = net(), pixels().requires_grad_()
    _, relevance = UnrolledLRP(model, rule="epsilon").relevance(x, classes=[1])
    ours = torch.autograd.grad((relevance**2).sum(), model[3].weight)[0]
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x, create_graph=True)
    expected = torch.autograd.grad(((gradient * x) ** 2).sum(), model[3].weight)[0]
    assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("rule", "first"), [("epsilon", None), ("zplus", None), ("zplus", "flat"), ("zplus", "w2")])
def test_weight_gradients_match_finite_differences(rule, first):
    model, x = net(), pixels()
    weighting = torch.randn(2, 3, 9, 9, dtype=torch.float64)

    def loss():
        return (UnrolledLRP(model, rule=rule, first=first)(x)[1] * weighting).sum()

    for parameter in (model[0].weight, model[3].weight, model[7].weight):
        (gradient,) = torch.autograd.grad(loss(), parameter)
        direction, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        numeric = (above - below) / (2 * step)
        assert torch.allclose((gradient * direction).sum(), numeric, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("first", "rule"), [("flat", Flat(0.0)), ("w2", WSquare(0.0, zero_params="bias"))])
def test_zplus_agrees_with_the_engine(first, rule):
    model, x = net().eval(), pixels()
    rules = [(AnyLinear, ZPlus(0.0, zero_params="bias"))]
    for c in range(3):
        engine = attribute(model, x, c, composite=Composite(rules, first_map=[(AnyLinear, rule)])).pixels
        ours = UnrolledLRP(model, rule="zplus", first=first)(x)[1][:, c]
        assert torch.allclose(ours, engine, rtol=1e-6, atol=1e-9 * engine.abs().max())


@pytest.mark.parametrize("first", [None, "flat", "w2", "zbox"])
def test_zplus_conserves_without_bias(first):
    model, x = net(bias=False), pixels()
    with torch.no_grad():  # all weights positive: every denominator is alive and z+ is the whole
        for parameter in model.parameters():
            parameter.abs_()
    logits, relevance = UnrolledLRP(model, rule="zplus", first=first).relevance(x)
    assert torch.allclose(relevance.flatten(2).sum(2), logits)


def test_batch_norm_merged_equals_merging_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))
    model = model.double().eval()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    x = pixels()
    logits, relevance = UnrolledLRP(model, rule="epsilon").relevance(x)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)
    assert torch.allclose(logits, model(x))
    assert torch.allclose(relevance[:, 0], gradient * x)
    detached = UnrolledLRP(model, rule="epsilon", bn="detach").relevance(x)[1]
    assert torch.allclose(detached, relevance, atol=1e-9 * relevance.abs().max().item())


def test_dead_units_give_zero_not_nan():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].bias.zero_()
    x = torch.ones(1, 3, dtype=torch.float64)
    _, relevance = UnrolledLRP(model, rule="zplus").relevance(x)
    loss = relevance.sum()
    loss.backward()
    assert (relevance == 0).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="rule='gamma' is unknown"):
        UnrolledLRP(net(), rule="gamma")
    with pytest.raises(UnsupportedModule, match="GELU"):
        UnrolledLRP(nn.Sequential(nn.Linear(2, 2), nn.GELU()))
    with pytest.raises(ValueError, match="out of range for 3 classes"):
        UnrolledLRP(net())(pixels(), classes=[3])
    with pytest.raises(ValueError, match="NaN"):
        UnrolledLRP(net())(pixels() * float("nan"))
    with pytest.raises(ValueError, match="no linear layer"):
        UnrolledLRP(nn.Sequential(nn.ReLU()))
