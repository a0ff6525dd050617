"""Masks exact to a weight, schedules, weights that stay zero, and rounds of training and pruning."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from shared.nets import StackedNet, build_net
from shared.pruning import (
    apply_masks,
    iterative_prune,
    keep_masks,
    masked,
    sparsity_schedule,
    train_masked,
    weight_layers,
    weight_masks,
    weight_scores,
)

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
}


def mlp(seed: int = 0) -> nn.Module:
    return build_net("mlp", (3,), 4, hidden=(9, 8), generator=torch.Generator().manual_seed(seed))


def scores(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.rand(7, 3, generator=generator), "b": torch.rand(5, 7, generator=generator)}


def train(steps: int = 4, make=OPTIMISERS["sgd"]):
    x, y = torch.randn(16, 3, generator=torch.Generator().manual_seed(5)), torch.arange(16) % 4

    def run(model: nn.Module) -> None:
        rows, goal = (x[None], y.repeat(model.size)) if isinstance(model, StackedNet) else (x, y)
        optimizer = make(model.parameters())
        for _ in range(steps):
            optimizer.zero_grad()
            out = model(rows).reshape(len(goal), -1)
            (F.cross_entropy(out, goal) * (len(goal) // len(y))).backward()
            optimizer.step()

    return run


def kept(masks: dict[str, torch.Tensor]) -> int:
    return sum(int(m.sum()) for m in masks.values())


@pytest.mark.parametrize("density", [0.0, 0.01, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_selection_keeps_what_sorting_keeps(density, scope):
    found = weight_masks(scores(), density, scope=scope, empty="allow")
    if scope == "global":
        assert kept(found) == round(density * 56)
    for name, mask in keep_masks(scores(), 1 - density, scope=scope).items():
        differ = int((found[name] ^ mask).sum())
        assert differ <= 1  # one rounds, the other floors


@pytest.mark.parametrize("order", ["mixed", "sorted", "few values"])
@pytest.mark.parametrize("density", [1e-6, 0.001, 0.3, 0.9999])
def test_selection_among_very_many_is_exact(order, density):
    many = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(0))
    many = {"mixed": many, "sorted": many.flatten().sort().values.view(2, -1), "few values": many.round()}[order]
    found = weight_masks({"a": many}, density, empty="allow")["a"].flatten()
    best = many.flatten().sort(descending=True).values[: round(density * 400_000)]
    assert torch.equal(many.flatten()[found].sort(descending=True).values, best)


def test_of_equal_scores_the_later_stays_as_in_keep_masks():
    flat = {"a": torch.zeros(2, 3), "b": torch.tensor([[1.0, 0, 0, 0]])}
    found = weight_masks(flat, 0.5)
    assert found["a"].tolist() == [[False] * 3, [False, False, True]]
    assert found["b"].tolist() == [[True] * 4]
    assert all(torch.equal(found[k], keep_masks(flat, 0.5)[k]) for k in flat)


def test_magnitude_masks_are_those_of_torch():
    net, peer = mlp(), mlp()
    layers = weight_layers(net)
    masks = weight_masks(weight_scores(net, layers, None, None), 0.3)
    total = sum(m.numel() for m in masks.values())
    prune.global_unstructured(
        [(peer.get_submodule(k), "weight") for k in layers], prune.L1Unstructured, amount=total - round(0.3 * total)
    )
    assert all(torch.equal(masks[k], peer.get_submodule(k).weight_mask.bool()) for k in layers)


def test_what_is_dead_stays_dead_even_with_the_highest_score():
    first = weight_masks(scores(), 0.4, empty="allow")
    turned = {k: -s for k, s in scores().items()}
    second = weight_masks(turned, 0.4, alive=first, empty="allow")
    assert all(torch.equal(second[k], first[k]) for k in first)
    third = weight_masks(turned, 0.2, alive=first, empty="allow")
    assert kept(third) == round(0.2 * 56)
    assert all(bool((third[k] <= first[k]).all()) for k in first)


def test_a_layer_left_empty_is_refused_or_said_by_name():
    uneven = {"low": torch.rand(4, 4), "high": torch.rand(4, 4) + 1}
    with pytest.raises(ValueError, match="'low'"):
        weight_masks(uneven, 0.5, empty="refuse")
    with pytest.warns(UserWarning, match="'low'"):
        weight_masks(uneven, 0.5)
    assert kept(weight_masks(uneven, 0.5, scope="layer", empty="refuse")) == 16
    one_of_two = {"a": torch.stack([torch.ones(3), torch.zeros(3)]), "b": torch.stack([torch.zeros(3), torch.ones(3)])}
    with pytest.raises(ValueError, match="'a', 'b'"):
        weight_masks(one_of_two, 0.5, stacked=True, empty="refuse")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"density": 1.5}, "density"),
        ({"density": float("nan")}, "density"),
        ({"scores": {}}, "scores"),
        ({"scores": {"a": torch.tensor([[float("nan")]])}}, "scores"),
        ({"alive": {"a": torch.ones(2, 2), "b": torch.ones(5, 7)}}, "alive"),
        ({"alive": {"a": torch.ones(2, 3), "bb": torch.ones(5, 7)}}, "alive lacks 'b' .closest: 'bb'.; it has: a, bb"),
        ({"alive": {}}, "alive lacks 'a'; it has: nothing"),
        ({"scope": "row"}, "scope"),
        ({"empty": "perhaps"}, "empty"),
    ],
)
def test_bad_masks_are_refused_by_name(change, match):
    call = {"scores": scores(), "density": 0.5, **change}
    with pytest.raises(ValueError, match=match):
        weight_masks(call.pop("scores"), call.pop("density"), **call)


def test_schedules():
    assert sparsity_schedule(0.01, 2) == pytest.approx([0.1, 0.01])
    assert sparsity_schedule(0.2, 3, kind="one-shot") == [0.2] * 3
    assert sparsity_schedule(0.2, 4, kind="linear") == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert sparsity_schedule(0.2, 2, kind="gradual", start=0.6) == pytest.approx([0.2 + 0.4 / 8, 0.2])
    for bad in ({"final": 0.0}, {"final": 0.9, "start": 0.5}, {"final": 0.5, "kind": "odd"}):
        with pytest.raises(ValueError, match=next(k for k in ("kind", "final") if k in bad)):
            sparsity_schedule(bad.pop("final"), 3, **bad)
    with pytest.raises(ValueError, match="steps"):
        sparsity_schedule(0.5, 0)


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("stacked", [False, True])
def test_pruned_weights_stay_exactly_zero_whatever_moves_the_others(make, stacked):
    net = StackedNet([mlp(0), mlp(1)]) if stacked else mlp()
    layers = weight_layers(net)
    parameters = list(net.parameters())
    train(3, make)(net)  # so that there are gradients to remember
    masks = weight_masks(weight_scores(net, layers, None, None, biases=True), 0.4, stacked=stacked)
    before = {k: net.get_submodule(k).weight.detach().clone() for k in layers}
    with train_masked(net, masks):
        train(3, make)(net)
        assert all(bool((net.get_submodule(k).weight[~masks[k]] == 0).all()) for k in layers)
    for key in layers:
        module = net.get_submodule(key)
        assert bool((module.weight[~masks[key]] == 0).all())
        assert bool((module.bias[~masks[f"{key}.bias"]] == 0).all())
        assert not torch.equal(module.weight[masks[key]], before[key][masks[key]])
    assert [id(p) for p in net.parameters()] == [id(p) for p in parameters]


def test_a_held_network_trains_as_one_whose_gradients_and_weights_are_masked_by_hand():
    net, peer = mlp(), mlp()
    masks = weight_masks(weight_scores(net, weight_layers(net), None, None), 0.4)
    with train_masked(net, masks):
        train(5)(net)
    x, y = torch.randn(16, 3, generator=torch.Generator().manual_seed(5)), torch.arange(16) % 4
    apply_masks(peer, masks)
    optimizer = OPTIMISERS["sgd"](peer.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(peer(x), y).backward()
        for key, mask in masks.items():
            peer.get_submodule(key).weight.grad *= mask
        optimizer.step()
    assert all(torch.allclose(a, b) for a, b in zip(net.parameters(), peer.parameters()))


def test_the_hold_ends_also_after_an_exception():
    net = mlp()
    masks = {"1": torch.ones(9, 3, dtype=torch.bool)}
    with pytest.raises(RuntimeError, match="mine"), train_masked(net, masks):
        raise RuntimeError("mine")
    assert not nn.utils.parametrize.is_parametrized(net.get_submodule("1"))
    assert len(net.state_dict()) == 6


@pytest.mark.parametrize("context", [train_masked, apply_masks])
def test_bad_holds_are_refused_by_name(context):
    def enter(masks: dict) -> None:
        held = context(mlp(), masks)
        with held if hasattr(held, "__enter__") else pytest.raises(KeyError):
            pass

    for bad in (
        {"1": torch.ones(9, 4).bool()},
        {"1": torch.ones(9, 3)},
        {"2": torch.ones(9, 3).bool()},
        {"nowhere": 1},
    ):
        with pytest.raises(ValueError, match=r"masks|nowhere"):
            enter(bad)


def test_imp_rewinds_and_leaves_the_masked_first_values():
    net = mlp()
    first = copy.deepcopy(net)
    shares = sparsity_schedule(0.2, 3)
    masks = iterative_prune(net, weight_layers(net), None, None, densities=shares, train=train())
    total = sum(m.numel() for m in masks.values())
    assert kept(masks) == round(0.2 * total)
    apply_masks(first, masks)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), first.parameters()))


def test_without_rewinding_training_goes_on():
    net, first = mlp(), mlp()
    masks = iterative_prune(
        net, weight_layers(net), None, None, densities=[0.6, 0.3], train=train(), rewind=False, scope="layer"
    )
    for key, mask in masks.items():
        weight = net.get_submodule(key).weight
        assert int(mask.sum()) == round(0.3 * mask.numel())
        assert bool((weight[~mask] == 0).all())
        assert not torch.equal(weight[mask], first.get_submodule(key).weight[mask])


def test_stacked_rounds_are_those_of_each_network():
    nets = [mlp(0), mlp(1)]
    layers = weight_layers(nets[0])
    options = {"densities": [0.5, 0.25], "train": train()}
    together = iterative_prune(StackedNet(nets), layers, None, None, **options)
    for i, net in enumerate(nets):
        alone = iterative_prune(net, layers, None, None, **options)
        assert all(torch.equal(together[k][i], alone[k]) for k in alone)


def test_scores_may_be_ones_own_and_masks_never_grow():
    seen = []

    def mine(model: nn.Module) -> dict[str, torch.Tensor]:
        seen.append({k: model.get_submodule(k).weight != 0 for k in weight_layers(model)})
        return {k: torch.rand(model.get_submodule(k).weight.shape) for k in weight_layers(model)}

    iterative_prune(mlp(), "1", None, None, densities=[0.5, 0.25, 0.1], method=mine, empty="allow")
    assert len(seen) == 3
    assert all(bool((b[k] <= a[k]).all()) for a, b in itertools.pairwise(seen) for k in a)
    with pytest.raises(ValueError, match="densities"):
        iterative_prune(mlp(), "1", None, None, densities=[0.2, 0.5])


def test_a_bias_is_masked_for_a_while_too():
    net, x = mlp(), torch.randn(4, 3)
    before = net(x)
    with masked(net, {"1.bias": torch.zeros(9).bool()}):
        assert bool((net.get_submodule("1").bias == 0).all())
        assert not torch.equal(net(x), before)
    assert torch.equal(net(x), before)
