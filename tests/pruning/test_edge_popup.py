"""Edge-popup against a network of one's own, one step at a time; exact masks; rescaling; initialisations."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shared.pruning import anneal, edge_popup, he_bias_, looks_linear_, rescale_, stacked_outputs
from shared.pruning._edge_popup import top_exactly


def chain(*widths: int) -> nn.Sequential:
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    convs = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()
    return nn.Sequential(*convs, nn.Flatten(), nn.Linear(6 * 16, 3))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X, Y = torch.rand(24, 2, generator=seeded(3)) * 2 - 1, torch.arange(24) % 4


class Choose(torch.autograd.Function):
    """The peer: the authors' rule as a layer of autograd's, with `topk` for the choice."""

    @staticmethod
    def forward(ctx, scores, number):
        return torch.zeros_like(scores).scatter(0, scores.topk(number).indices, 1.0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def peer(model: nn.Sequential, keep: float, epochs: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Edge-popup of one network, layer by layer, with `torch.optim.SGD`; the masks."""
    layers = [m for m in model if isinstance(m, nn.Linear)]
    scores = []
    for layer in layers:
        fan = layer.in_features
        for shape, bound in ((layer.weight.shape, fan**-0.5), (layer.bias.shape, (6 / fan) ** 0.5)):
            scores.append(((2 * torch.rand(1, *shape, generator=generator) - 1) * bound)[0].requires_grad_())
    optimizer = torch.optim.SGD(scores, lr=0.1, momentum=0.9, weight_decay=5e-4)

    def masks():
        found = []
        for w, b in zip(scores[::2], scores[1::2]):
            both = torch.cat([w.abs().flatten(), b.abs().flatten()])
            found.append(Choose.apply(both, round(keep * len(both))).split([w.numel(), b.numel()]))
        return found

    for epoch in range(epochs):
        order = torch.rand(1, len(X), generator=generator).argsort(1)[0]
        for i, batch in enumerate(order.split(8)):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * (epoch + i / 3) / epochs))
            h = X[batch]
            for place, (layer, (w, b)) in enumerate(zip(layers, masks())):
                h = F.linear(h, layer.weight.detach() * w.view_as(layer.weight), layer.bias.detach() * b)
                h = h.relu() if place < len(layers) - 1 else h
            optimizer.zero_grad()
            F.cross_entropy(h, Y[batch]).backward()
            optimizer.step()
    return [m.bool() for pair in masks() for m in pair]


@pytest.mark.parametrize("keep", [0.5, 0.2])
def test_the_masks_are_those_of_autograd_and_topk(keep):
    model = he_bias_(chain(2, 12, 12, 4), generator=seeded())
    found = edge_popup(model, X, Y, keep=keep, epochs=3, batch_size=8, generator=seeded(1)).masks
    for mine, theirs in zip(found.values(), peer(model, keep, 3, seeded(1))):
        assert mine[0].flatten().equal(theirs)


@pytest.mark.parametrize("biases", ["compete", "separate", "kept"])
def test_a_mask_keeps_exactly_its_share_and_nothing_is_trained(biases):
    models = [he_bias_(chain(2, 12, 12, 4), generator=seeded(s)) for s in range(3)]
    before = copy.deepcopy(models)
    keeps = [0.7, 0.3, 0.3]
    found = edge_popup(models, X, Y, keep=keeps, epochs=2, levels=2, biases=biases, generator=seeded())
    kept = found.kept()
    for place in ("0", "2", "4"):
        w, b = kept[f"{place}.weight"], kept[f"{place}.bias"]
        sizes = [models[0][int(place)].weight.numel(), models[0][int(place)].bias.numel()]
        for member, keep in enumerate(keeps):
            if biases == "compete":
                assert w[member] + b[member] == round(keep * sum(sizes))
            else:
                assert w[member] == round(keep * sizes[0])
                assert b[member] == (sizes[1] if biases == "kept" else round(keep * sizes[1]))
    for member, (model, old) in enumerate(zip(models, before)):
        for (name, p), q in zip(model.named_parameters(), old.parameters()):
            assert p.equal(q)
            assert found.state[name][member].equal(p * found.masks[name][member])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_equal_scores_the_first_in_order_stay(dtype):
    order = torch.rand(4, 50, generator=seeded())
    scores = torch.full((4, 50), 0.5, dtype=dtype)
    scores[3, :5], scores[3, 5:30] = 0.9, 0.1
    chosen = top_exactly(scores, [7, 0, 50, 9], order)
    assert chosen.sum(1).tolist() == [7, 0, 50, 9]
    assert chosen[0].nonzero().flatten().tolist() == sorted(order[0].topk(7).indices.tolist())
    fourth = [*range(5), *sorted((order[3, 30:].topk(4).indices + 30).tolist())]
    assert chosen[3].nonzero().flatten().tolist() == fourth


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_constant_scores_choose_at_random_at_first_and_differently_in_each_network(dtype):
    """Not the first or last entries, which are whole neurons; no step is taken."""
    models = [he_bias_(chain(2, 40, 40, 4), generator=seeded(s)).to(dtype) for s in range(2)]
    options = {"keep": 0.3, "epochs": 1, "scores": "constant", "lr": 0.0}
    found = edge_popup(models, X.to(dtype), Y, generator=seeded(), **options).masks["2.weight"]
    again = edge_popup(models, X.to(dtype), Y, generator=seeded(), **options).masks["2.weight"]
    assert found.equal(again)
    assert not found[0].equal(found[1])
    rows = found.float().mean(-1)  # of 40 each: a share of .3 has a standard deviation of .07
    assert 0.0 < rows.min() < 0.2 < 0.4 < rows.max() < 0.6


def test_networks_side_by_side_learn_as_they_do_alone():
    models = [he_bias_(chain(2, 12, 4), generator=seeded(s)) for s in range(2)]
    data = torch.stack([X, X.flip(0)]), torch.stack([Y, Y.flip(0)])
    loss = lambda out, t: F.cross_entropy(out, t)  # noqa: E731
    together = edge_popup(models, *data, keep=0.3, epochs=2, batch_size=24, loss=loss, per_member=True, lr=0.0)
    for member, model in enumerate(models):
        subnet = {name: value[member] for name, value in together.state.items()}
        alone = torch.func.functional_call(model, subnet, (data[0][member],))
        torch.testing.assert_close(F.cross_entropy(alone, data[1][member]), together.losses[0, member])
    outputs = stacked_outputs(models[0], together.state, data[0], per_member=True)
    torch.testing.assert_close(outputs[1], alone)


def test_scores_learn():
    x = torch.rand(600, 2, generator=seeded()) * 2 - 1
    y = (x.square().sum(1) > 0.6).long()
    models = [he_bias_(chain(2, 40, 40, 2), generator=seeded(s)) for s in range(3)]
    found = edge_popup(models, x, y, keep=0.4, epochs=12, levels=4, rescale=True, generator=seeded())
    assert (found.losses[-1] < found.losses[0]).all()
    assert ((stacked_outputs(models[0], found.state, x).argmax(-1) == y).float().mean(1) > 0.8).all()


def test_rescaling_multiplies_the_output_and_changes_nothing_else():
    models = [he_bias_(chain(2, 12, 12, 4), generator=seeded(s)).double() for s in range(2)]
    found = edge_popup(models, X.double(), Y, keep=0.5, epochs=2, rescale=True, generator=seeded())
    plain = {n: torch.stack([dict(m.named_parameters())[n] for m in models]) * k for n, k in found.masks.items()}
    was, now = (stacked_outputs(models[0], s, X.double()) for s in (plain, found.state))
    torch.testing.assert_close(now, was * found.scale.view(-1, 1, 1), rtol=1e-10, atol=1e-12)
    assert (found.scale != 1).all()


@pytest.mark.parametrize("make", [lambda: chain(2, 12, 12, 4), cnn])
def test_rescale_is_exact(make):
    model = he_bias_(make(), generator=seeded()).double()
    x = X.double() if isinstance(model[0], nn.Linear) else torch.rand(2, 1, 8, 8).double()
    before = model(x)
    torch.testing.assert_close(rescale_(model, 3.7)(x), 3.7 * before, rtol=1e-12, atol=1e-12)


def test_annealed_densities():
    assert anneal(0.01, 2) == pytest.approx([0.1, 0.01])
    assert anneal(0.1, 3, start=0.8) == pytest.approx([0.4, 0.2, 0.1])
    assert anneal(0.3, 1) == [0.3]


def test_convolutions_are_scored_too():
    models = [he_bias_(cnn(), generator=seeded(s)) for s in range(2)]
    x, y = torch.rand(10, 1, 8, 8, generator=seeded()), torch.arange(10) % 3
    found = edge_popup(models, x, y, keep=0.4, epochs=2, scores="constant", generator=seeded())
    assert (found.kept()["2.weight"] + found.kept()["2.bias"]).tolist() == [round(0.4 * (4 * 6 * 9 + 6))] * 2


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"keep": 0.0}, "keep"),
        ({"keep": 1.5}, "keep"),
        ({"keep": [0.5, 0.5]}, "keep"),
        ({"keep": 0.001}, r"keep=0.001 empties 0.weight"),
        ({"epochs": 3, "levels": 2}, "epochs"),
        ({"biases": "some"}, "biases"),
        ({"target": torch.arange(3)}, "target"),
        ({"model": []}, "model"),
        ({"model": [chain(2, 4, 4), chain(2, 6, 4)], "keep": 0.5}, "model"),
        ({"model": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))}, "model"),
    ],
)
def test_edge_popup_refuses(changed, named):
    with pytest.raises(ValueError, match=named):
        edge_popup(**{"model": chain(2, 4, 4), "x": X, "target": Y, "keep": 0.5, **changed})


# --- initialisations ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_biases_have_the_size_of_the_weights_product(distribution):
    model = he_bias_(chain(4, 2000, 2000, 3000), beta=0.5, distribution=distribution, generator=seeded())
    sizes = [math.sqrt(2 / 4), math.sqrt(2 / 2000), math.sqrt(2 / 2000)]
    for place, layer in enumerate(m for m in model if isinstance(m, nn.Linear)):
        assert layer.weight.std().item() == pytest.approx(sizes[place], rel=0.05)
        assert layer.bias.std().item() == pytest.approx(0.5 * math.prod(sizes[: place + 1]), rel=0.05)


def test_without_biases_the_network_is_homogeneous_and_with_them_it_is_not():
    for beta, same in ((0.0, True), (1.0, False)):
        for init in (he_bias_, looks_linear_):
            model = init(chain(2, 12, 12, 4), beta=beta, generator=seeded()).double()
            assert torch.allclose(model(3 * X.double()), 3 * model(X.double())) == same


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("make", [lambda: chain(3, 12, 12, 12, 4), cnn])
def test_a_dense_looks_linear_network_is_affine_and_its_halves_orthogonal(make, dependent):
    model = looks_linear_(make().double(), dependent=dependent, generator=seeded())
    shape = (3,) if isinstance(model[0], nn.Linear) else (1, 8, 8)
    a, b = torch.randn(2, 5, *shape, dtype=torch.float64)
    zero = model(torch.zeros_like(a))
    torch.testing.assert_close(model(a + b) + zero, model(a) + model(b))
    hidden = model[2].weight
    half = hidden[: len(hidden) // 2, : hidden.shape[1] // 2].flatten(1)
    torch.testing.assert_close(half @ half.T, torch.eye(len(half), dtype=torch.float64))
    if dependent and isinstance(model[0], nn.Linear):
        torch.testing.assert_close(zero, torch.zeros_like(zero))  # four layers: both pairs cancel


def test_matching_he_changes_the_first_layer_only():
    model = looks_linear_(chain(2, 100, 100, 4), match_he=True, generator=seeded())
    assert model[0].weight.square().mean().sqrt().item() == pytest.approx(1.0)
    assert model[2].weight.square().mean().sqrt().item() == pytest.approx(math.sqrt(2 / 100))


@pytest.mark.parametrize(
    ("init", "model", "named"),
    [
        (he_bias_, nn.Sequential(nn.Linear(2, 3, bias=False)), "bias"),
        (he_bias_, nn.ReLU(), "model"),
        (looks_linear_, chain(2, 5, 4), "odd"),
        (looks_linear_, nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)), "Tanh"),
        (looks_linear_, chain(2, 4), "one layer"),
    ],
)
def test_initialisations_refuse(init, model, named):
    with pytest.raises(ValueError, match=named):
        init(model)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_must_be_positive(factor):
    with pytest.raises(ValueError, match="factor"):
        rescale_(chain(2, 4, 4), factor)
