"""Scores of weights: from the equations, with the whole Hessian, and of many networks at once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from shared.nets import StackedNet, build_net
from shared.pruning import (
    grasp_scores,
    masked,
    snip_scores,
    synflow_scores,
    train_masked,
    weight_layers,
    weight_masks,
    weight_scores,
)

METHODS = ("magnitude", "snip", "grasp", "synflow")


def mlp(seed: int = 0, hidden: tuple[int, ...] = (7, 5)) -> nn.Module:
    return build_net("mlp", (3,), 4, hidden=hidden, generator=torch.Generator().manual_seed(seed)).double()


def data(rows: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, dtype=torch.float64, generator=generator), torch.arange(rows) % 4


def by_parameter(net: nn.Module, scores: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores in the order of the parameters, in one vector."""
    return torch.cat([scores[k].flatten() for k, _ in keyed(net)])


def keyed(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name.removesuffix(".weight"), p) for name, p in net.named_parameters()]


def as_function(net: nn.Module, loss):
    """The loss as a function of all parameters in one vector, and that vector."""
    named = dict(net.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def of(vector: torch.Tensor) -> torch.Tensor:
        values = {n: v.view(p.shape) for (n, p), v in zip(named.items(), vector.split(sizes))}
        return loss(lambda x: functional_call(net, values, (x,)))

    return of, torch.cat([p.detach().flatten() for p in named.values()])


@pytest.mark.parametrize("target", ["classes", "values"])
def test_snip_is_the_derivative_by_a_gate_on_each_weight(target):
    net, (x, y) = mlp(), data()
    if target == "values":
        y = torch.randn(12, 4, dtype=torch.float64)
    wanted = (lambda f: F.cross_entropy(f(x), y)) if target == "classes" else (lambda f: F.mse_loss(f(x), y))
    of, w = as_function(net, wanted)
    step = 1e-6
    slow = torch.stack([(of(w + step * w * e) - of(w - step * w * e)) / (2 * step) for e in torch.eye(len(w))]).abs()
    found = by_parameter(net, snip_scores(net, weight_layers(net), x, y, biases=True))
    assert torch.allclose(found, slow, atol=1e-8)
    parts = by_parameter(net, snip_scores(net, weight_layers(net), x, y, biases=True, batch_size=5))
    assert torch.allclose(parts, found)


def test_grasp_is_the_weight_times_the_hessian_gradient_product():
    net, (x, y) = mlp(), data()
    of, w = as_function(net, lambda f: F.cross_entropy(f(x) / 3, y))
    gradient, hessian = torch.func.grad(of)(w), torch.autograd.functional.hessian(of, w)
    found = by_parameter(net, grasp_scores(net, weight_layers(net), x, y, biases=True, temperature=3))
    assert torch.allclose(found, w * (hessian @ gradient))


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_synflow_without_biases_flows_alike_through_every_layer(kind):
    if kind == "mlp":
        net, x = mlp(), torch.zeros(2, 3, dtype=torch.float64)
    else:
        net = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
        )
        net, x = net.double(), torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    scores = synflow_scores(net, weight_layers(net), x, bias="zero")
    positive = copy.deepcopy(net)
    for name, p in positive.named_parameters():
        p.data = p.data.abs() * (0 if name.endswith("bias") else 1)
    flow = positive(torch.ones_like(x[:1])).sum()
    assert all(torch.allclose(s.sum(), flow) for s in scores.values())
    assert all(bool((s >= 0).all()) for s in scores.values())


def test_synflow_takes_positive_biases_along():
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for module, w, b in ((net[0], -2.0, -3.0), (net[2], 5.0, 7.0)):
        nn.init.constant_(module.weight, w)
        nn.init.constant_(module.bias, b)
    scores = synflow_scores(net, ["0", "2"], torch.zeros(1, 1), biases=True)  # R = 5 (2 + 3) + 7
    assert {k: v.item() for k, v in scores.items()} == {"0": 10, "0.bias": 15, "2": 25, "2.bias": 7}


@pytest.mark.parametrize("method", METHODS)
def test_stacked_networks_are_scored_and_masked_each_for_itself(method):
    nets = [mlp(seed) for seed in range(3)]
    both = [data(seed=seed) for seed in range(3)]
    x, y = torch.stack([b[0] for b in both]), torch.stack([b[1] for b in both])
    layers = weight_layers(nets[0])
    together = weight_scores(StackedNet(nets), layers, x, y, method=method, biases=True)
    masks = weight_masks(together, 0.3, stacked=True, empty="allow")
    for i, net in enumerate(nets):
        alone = weight_scores(net, layers, x[i], y[i], method=method, biases=True)
        assert all(torch.allclose(together[k][i], alone[k]) for k in alone)
        kept = weight_masks(alone, 0.3, empty="allow")
        assert all(torch.equal(masks[k][i], kept[k]) for k in kept)


@pytest.mark.parametrize("method", ["snip", "synflow"])
def test_pruned_weights_count_nothing_and_a_held_network_is_scored_as_a_masked_one(method):
    net, (x, y) = mlp(), data()
    layers = weight_layers(net)
    masks = weight_masks({k: torch.rand(net.get_submodule(k).weight.shape) for k in layers}, 0.5)
    with train_masked(net, masks):
        held = weight_scores(net, layers, x, y, method=method)
    with masked(net, masks):
        assert all(torch.allclose(weight_scores(net, layers, x, y, method=method)[k], held[k]) for k in held)
    assert all(bool((held[k][~masks[k]] == 0).all()) for k in masks)


def test_grasp_of_a_held_network_knows_the_kept_weights_only():
    net, (x, y) = mlp(), data()
    layers = weight_layers(net)
    masks = weight_masks({k: torch.rand(net.get_submodule(k).weight.shape) for k in layers}, 0.5)
    with train_masked(net, masks):
        scores = grasp_scores(net, layers, x, y, biases=True, temperature=1)
    held = by_parameter(net, scores)
    alive = torch.cat([masks.get(k, torch.ones(len(p), dtype=torch.bool)).flatten() for k, p in keyed(net)]).double()
    of, w = as_function(net, lambda f: F.cross_entropy(f(x), y))
    gradient, hessian = torch.func.grad(of)(w * alive), torch.autograd.functional.hessian(of, w * alive)
    assert torch.allclose(held, w * alive * (hessian @ (gradient * alive)))


def test_chance_scores_come_from_the_generator():
    net, (x, y) = mlp(), data()
    layers = weight_layers(net)
    draw = [
        weight_scores(net, layers, x, y, method="random", biases=True, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert all(torch.equal(draw[0][k], draw[1][k]) and not torch.equal(draw[0][k], draw[2][k]) for k in draw[0])


@pytest.mark.parametrize(
    ("method", "bad", "match"),
    [
        ("snap", {}, "method"),
        ("grasp", {"temperature": 0.0}, "temperature"),
        ("synflow", {"bias": "no"}, "bias"),
        ("snip", {"target": torch.arange(12) % 5}, "target"),
        ("snip", {"target": torch.rand(12, 3)}, "target"),
        ("grasp", {"target": torch.arange(11) % 4}, "target"),
        ("snip", {"batch_size": 0}, "batch_size"),
        ("snip", {"layers": ["2"]}, "layer"),
        ("snip", {"layers": []}, "layers"),
    ],
)
def test_bad_calls_are_refused_by_name(method, bad, match):
    net, (x, y) = mlp(), data()
    call = {"layers": weight_layers(net), "target": y, **bad}
    with pytest.raises(ValueError, match=match):
        weight_scores(net, call.pop("layers"), x, call.pop("target"), method=method, **call)


def test_synflow_beyond_the_range_is_said():
    net = nn.Sequential(*[layer for _ in range(30) for layer in (nn.Linear(64, 64), nn.ReLU())])
    for p in net.parameters():
        nn.init.constant_(p, 1.0)
    with pytest.raises(ValueError, match="float64"):
        synflow_scores(net, weight_layers(net), torch.ones(1, 64))
