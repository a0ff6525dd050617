"""Tickets that solve their task, and hosts in which they are hidden without changing what they compute."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shared.nets import build_net
from shared.pruning import (
    analytic_ticket,
    circle_classes,
    he_bias_,
    helix_curve,
    interpolate_by_relu,
    masked,
    plant_ticket,
    weight_layers,
)

INPUTS = {"relu": 1, "circle": 2, "helix": 1}
OUTPUTS = {"relu": 1, "circle": 4, "helix": 3}


def points(kind: str, count: int = 4000) -> torch.Tensor:
    drawn = torch.rand(count, INPUTS[kind], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return 2 * drawn - 1


def host(kind: str, depth: int = 5, width: int = 100, seed: int = 0) -> nn.Module:
    net = build_net("mlp", (INPUTS[kind],), OUTPUTS[kind], hidden=[width] * (depth - 2))
    return he_bias_(net, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_the_interpolation_goes_through_every_knot(count, shape):
    generator = torch.Generator().manual_seed(count)
    knots = torch.rand(count + 1, dtype=torch.float64, generator=generator).cumsum(0)
    values = torch.randn(*shape, count + 1, dtype=torch.float64, generator=generator)
    p, s, a, b = interpolate_by_relu(knots, values)
    x = torch.cat([knots, (knots[1:] + knots[:-1]) / 2])
    want = torch.cat([values, (values[..., 1:] + values[..., :-1]) / 2], -1)
    assert torch.allclose((a[..., None] * (p[:, None] * (x - s[:, None])).relu()).sum(-2) + b[..., None], want)
    assert p.tolist() == [(-1.0) ** j for j in range(count)]


def test_a_line_needs_one_relu():
    _, _, a, b = interpolate_by_relu(torch.arange(5.0), 3 * torch.arange(5.0) + 1)
    assert a.tolist() == [3, 0, 0, 0]
    assert b.item() == 1


@pytest.mark.parametrize("depth", [3, 4, 5, 6, 10])
def test_tickets_solve_their_tasks(depth):
    x = points("relu")
    assert torch.equal(analytic_ticket("relu", depth=depth)(x), x.relu())
    circle = analytic_ticket("circle", depth=depth)(points("circle")).argmax(1)
    assert (circle == circle_classes(points("circle"))).double().mean() > (0.96 if depth == 3 else 0.98)
    helix = analytic_ticket("helix", depth=depth)(points("helix"))
    assert (helix - helix_curve(points("helix"))).square().mean() < 3e-4


def test_sizes_are_the_papers():
    def weights(net: nn.Module) -> int:
        return sum(int((layer.weight != 0).sum()) for layer in net if isinstance(layer, nn.Linear))

    assert [weights(analytic_ticket("relu", depth=d)) for d in (3, 5)] == [2, 4]
    assert [weights(analytic_ticket("circle", depth=d)) for d in (3, 5)] == [100, 108]  # .167 and .0052 of the host
    # the helix's third coordinate is a line: one weight, where the paper's count has 29
    assert weights(analytic_ticket("helix")) == 120 - 28


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("depth", [3, 5, 10])
def test_the_planted_ticket_computes_what_it_did_up_to_its_scale(kind, depth):
    net, ticket = host(kind, depth), analytic_ticket(kind, depth=depth)
    before = copy.deepcopy(net.state_dict())
    planted = plant_ticket(net.double(), ticket)
    x = points(kind)
    with masked(planted.model, planted.masks):
        found = planted.model(x) / planted.scale
    assert torch.allclose(found, ticket(x), atol=1e-6)
    assert bool((planted.scale > 0).all())
    assert all(torch.equal(before[k].double(), v) for k, v in net.state_dict().items())
    sizes = [int(m.sum()) for k, m in planted.masks.items() if not k.endswith("bias")]
    assert sizes == [int((layer.weight != 0).sum()) for layer in ticket if isinstance(layer, nn.Linear)]


def test_the_host_keeps_all_else_and_its_precision():
    net, ticket = host("circle"), analytic_ticket("circle")
    planted = plant_ticket(net, ticket)
    for key, mask in planted.masks.items():
        name = key if key.endswith("bias") else f"{key}.weight"
        assert torch.equal(planted.model.get_parameter(name)[~mask], net.get_parameter(name)[~mask])
    assert planted.model.get_submodule("1").weight.dtype == torch.float32
    with masked(planted.model, planted.masks):
        found = (planted.model(points("circle").float()) / planted.scale).argmax(1)
    assert (found == circle_classes(points("circle"))).double().mean() > 0.98


def test_hidden_weights_are_as_large_as_their_surroundings():
    for seed in range(3):
        planted = plant_ticket(host("circle", seed=seed), analytic_ticket("circle"))
        for name in weight_layers(planted.model):
            weight, mask = planted.model.get_submodule(name).weight.detach().abs(), planted.masks[name]
            assert 0.02 < weight[mask].median() / weight.median() < 5


def test_permuting_the_hosts_neurons_permutes_the_ticket():
    net, ticket = host("circle").double(), analytic_ticket("circle")
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    other = copy.deepcopy(net)
    for key in ("3",):
        layer, after = other.get_submodule(key), other.get_submodule("5")
        layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
        after.weight.data = after.weight.data[:, order]
    first, second = plant_ticket(net, ticket), plant_ticket(other, ticket)
    assert torch.equal(first.masks["3"][order], second.masks["3"])
    assert torch.equal(first.masks["5"][:, order], second.masks["5"])
    assert torch.allclose(first.scale, second.scale)


def test_where_no_neuron_is_alike_the_first_free_one_is_taken():
    net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    for p in net.parameters():
        nn.init.constant_(p, -2.0)
    ticket = analytic_ticket("relu", depth=3)
    planted = plant_ticket(net, ticket)
    assert planted.places[0].tolist() == [0]
    assert planted.model[0].weight.flatten().tolist() == [2.0, -2.0, -2.0]
    assert planted.scale.tolist() == [4.0]  # 2 by 2


@pytest.mark.parametrize(
    ("net", "ticket", "match"),
    [
        (lambda: host("circle", width=19), lambda: analytic_ticket("circle"), "wider than model: 20 neurons"),
        (lambda: host("circle", depth=4), lambda: analytic_ticket("circle"), "ticket"),
        (lambda: host("helix"), lambda: analytic_ticket("circle"), "ticket"),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.Tanh()), lambda: analytic_ticket("circle"), "model"),
        (lambda: nn.ReLU(), lambda: analytic_ticket("circle"), "model"),
        (
            lambda: nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)),
            lambda: nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).requires_grad_(False).apply(spoil),
            "ticket",
        ),
    ],
    ids=["wide", "deep", "outputs", "other", "none", "nan"],
)
def test_what_does_not_fit_is_refused_by_name(net, ticket, match):
    with pytest.raises(ValueError, match=match):
        plant_ticket(net(), ticket())


def spoil(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.weight.fill_(torch.nan)


@pytest.mark.parametrize(("options", "match"), [({"depth": 2}, "depth"), ({"knots": 1}, "knots")])
def test_bad_tickets_are_refused_by_name(options, match):
    with pytest.raises(ValueError, match=match):
        analytic_ticket("circle", **options)
    with pytest.raises(ValueError, match="kind"):
        analytic_ticket("square")
    for knots in (torch.ones(3), torch.ones(1)):
        with pytest.raises(ValueError, match="knots"):
            interpolate_by_relu(knots, torch.ones(len(knots)))


def vgg(widths: tuple[int, ...], hidden: int, seed: int) -> nn.Sequential:
    """Convolutions, poolings of both kinds, a flattened map of 2 × 2 cells, dense layers."""
    a, b = widths
    net = nn.Sequential(
        *(nn.Conv2d(2, a, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(a, b, 3, padding=1, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(nn.Linear(4 * b, hidden), nn.ReLU(), nn.Linear(hidden, 3)),
    )
    return he_bias_(net, generator=torch.Generator().manual_seed(seed)).double()


def test_convolutions_are_planted_channel_by_channel():
    ticket, net = vgg((3, 4), 5, 1), vgg((9, 12), 20, 2)
    with torch.no_grad():
        for layer in (m for m in ticket if isinstance(m, nn.Conv2d | nn.Linear)):
            layer.weight *= torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    planted = plant_ticket(net, ticket)
    x = torch.rand(6, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad(), masked(planted.model, planted.masks):
        assert torch.allclose(planted.model(x), planted.scale * ticket(x), rtol=1e-9, atol=1e-12)
    for name, mask in planted.masks.items():
        if not name.endswith(".bias"):
            assert int(mask.sum()) == int((ticket.get_submodule(name).weight != 0).sum())
    with torch.no_grad():
        assert not torch.allclose(planted.model(x), planted.scale * ticket(x))  # the whole network is another


def test_convolutions_must_fit():
    ticket = vgg((3, 4), 5, 1)
    other = vgg((9, 12), 20, 2)
    other[2] = nn.AvgPool2d(2)
    with pytest.raises(ValueError, match=r"ticket has MaxPool2d.* where model has AvgPool2d"):
        plant_ticket(other, ticket)
    with pytest.raises(ValueError, match="wider than model: 4 neurons for the 2"):
        plant_ticket(vgg((9, 2), 20, 2), ticket)
    with pytest.raises(ValueError, match="2 groups"):
        plant_ticket(nn.Sequential(nn.Conv2d(2, 2, 1, groups=2)), nn.Sequential(nn.Conv2d(2, 2, 1, groups=2)))
    with pytest.raises(ValueError, match="BatchNorm2d"):
        plant_ticket(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)), ticket)


def test_a_ticket_with_a_hidden_layer_pruned_away():
    ticket, net = analytic_ticket("circle"), host("circle")
    with torch.no_grad():
        ticket[2].weight.zero_()
        ticket[2].bias.zero_()
    planted = plant_ticket(net, ticket)
    x = points("circle", 10).to(net[-1].weight)
    with torch.no_grad(), masked(planted.model, planted.masks):
        assert torch.allclose(planted.model(x), planted.scale * ticket(x.double()).to(x), atol=1e-6)
