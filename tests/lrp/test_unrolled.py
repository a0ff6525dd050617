"""Explicit, differentiable relevance: right values, right gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.lrp import AnyLinear, Composite, Flat, UnsupportedModule, WSquare, ZPlus, attribute
from shared.lrp.unrolled import Branches, UnrolledLRP, _Coefficients, safe_divide
from shared.nets import PooledVGG, SmallConv, SmallResNet, SmallVGG


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


def hub_resnet(layer_type="bottleneck"):
    config = transformers_config(layer_type)
    return pytest.importorskip("transformers").ResNetForImageClassification(config)


def transformers_config(layer_type):
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [2, 1], "num_labels": 3}
    return pytest.importorskip("transformers").ResNetConfig(num_channels=2, layer_type=layer_type, **sizes)


NETWORKS = {
    "small-resnet": lambda: SmallResNet(2, 3, widths=(4, 6), blocks=2),
    "small-vgg": lambda: SmallVGG(2, 3, 32, widths=(4, 6), hidden=5),
    "small-conv": lambda: SmallConv(2, 3, (32, 32), widths=(4,), hidden=(5,)),
    "pooled-vgg": lambda: PooledVGG(2, 3, widths=((4, 4), (6,))),
    "hub's bottleneck": hub_resnet,
    "hub's basic": lambda: hub_resnet("basic"),
    "branches": lambda: nn.Sequential(
        Branches([nn.Conv2d(2, 4, 3, padding=1)], [nn.Conv2d(2, 4, 1)]), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 3)
    ),
}


@pytest.mark.parametrize("bn", ["merge", "detach"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_taken_apart(name, bn):
    """Logits of the network itself, gradient × input, and the same by batches of classes."""
    torch.manual_seed(0)
    model = NETWORKS[name]().double().eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    x = pixels(32).requires_grad_()
    logits, relevance = UnrolledLRP(model, rule="epsilon", bn=bn).relevance(x)
    plain = model(x)
    plain = getattr(plain, "logits", plain)
    assert torch.allclose(logits, plain)
    for c in range(3):
        (gradient,) = torch.autograd.grad(plain[:, c].sum(), x, retain_graph=True)
        assert torch.allclose(relevance[:, c], gradient * x, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("rule", ["epsilon", "zplus"])
def test_batches_of_classes_change_nothing(rule):
    model, x = SmallResNet(2, 3, widths=(4, 6)).double().eval(), pixels(16)
    found = []
    for batch_size in (None, 1, 2):
        model.zero_grad()
        heatmaps = UnrolledLRP(model, rule=rule, first="flat")(x, batch_size=batch_size)[1]
        (heatmaps.softmax(1)[:, 0] ** 2).sum().backward()
        found.append((heatmaps.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for other in found[1:]:
        assert len(other) == len(found[0]) > 5
        assert all(torch.allclose(a, b, atol=1e-14) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("size", [31, 32, 33])
@pytest.mark.parametrize("name", ["small-resnet", "pooled-vgg", "hub's bottleneck"])
def test_odd_and_even_sizes_keep_the_relevance(name, size):
    """Positive weights and no biases: z+ passes on all that it gets, whatever strides and pools leave over."""
    model = NETWORKS[name]().double().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.zero_() if parameter_name.endswith("bias") else parameter.abs_()
    x = pixels(size)
    logits, heatmaps = UnrolledLRP(model, first="flat")(x)
    assert heatmaps.shape == (2, 3, size, size)
    assert torch.allclose(heatmaps.flatten(2).sum(2), logits)


def test_residual_splits_by_contribution():
    """Equation of the brief: `R_m = m R / z`, on one unit whose branches give 3 and 1."""
    model = nn.Sequential(
        nn.Identity(), Branches([nn.Linear(1, 1, bias=False)], []), nn.Linear(1, 1, bias=False)
    ).double()
    with torch.no_grad():
        model[1].main[0].weight.fill_(3.0)
        model[2].weight.fill_(2.0)
    x = torch.ones(1, 1, dtype=torch.float64)
    kept = []
    steps = UnrolledLRP(model).steps
    z = x
    for step in steps:
        z = step.forward(z, kept)
    two = _Coefficients(torch.full((1, 1, 1), 2.0, dtype=torch.float64))  # of the sum, as the last weight is 2
    main, shortcut = (c.full() for c in (steps[1].main[0].backward("zplus", kept[1][0][0], two), two))
    assert z.item() == 8.0
    assert (main * x).item() == 6.0
    assert (shortcut * x).item() == 2.0
    assert UnrolledLRP(model).relevance(x)[1].item() == 8.0


def test_batch_norm_detached_has_constant_factors():
    """As the official code: `R_in = (scale x / BN(x)) R` with a factor that no gradient goes through."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double().train()
    x = torch.rand(5, 3, dtype=torch.float64)
    _, relevance = UnrolledLRP(model, bn="detach").relevance(x, classes=[1])
    ours = torch.autograd.grad((relevance**2).sum(), [model[0].weight, model[3].weight])
    first, norm, last = model[0](x), model[1], model[3]
    normed = norm(first)
    a = torch.relu(normed)
    up = last.weight.clamp(min=0)
    z = last(a)[:, 1:]
    above = a * up[1] * safe_divide(z, a @ up[1:].T)  # of the ReLU's output, which passes it on
    scale = norm.weight / (first.var(0, unbiased=False) + norm.eps).sqrt()
    between = above * (scale * first / normed).detach()
    plus = model[0].weight.clamp(min=0)
    below = x * (safe_divide(between, x @ plus.T) @ plus)
    assert torch.allclose(relevance[:, 0], below)
    expected = torch.autograd.grad((below**2).sum(), [model[0].weight, model[3].weight])
    assert all(torch.allclose(a, b, rtol=1e-8) for a, b in zip(ours, expected, strict=True))


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
    with pytest.raises(ValueError, match="x is empty"):
        UnrolledLRP(net())(pixels()[:0])
    with pytest.raises(ValueError, match="batch_size=0"):
        UnrolledLRP(net())(pixels(), batch_size=0)
    with pytest.raises(UnsupportedModule, match="before the first linear layer"):
        UnrolledLRP(nn.Sequential(nn.MaxPool2d(2), *net()), first="flat")
    with pytest.raises(UnsupportedModule, match="padding"):
        UnrolledLRP(nn.Sequential(nn.Conv2d(1, 1, 3, padding="same"), nn.Flatten(), nn.Linear(4, 2)))
