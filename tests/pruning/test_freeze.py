"""Frozen units stay bit by bit; the sub-network that they make is the same function for ever."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shared.nets import SmallResNet
from shared.pruning import freeze_rows, subnetwork

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
}


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3)
    return nn.Sequential(*layers).eval()


MASKS = {"0": torch.tensor([True, False, True, False]), "4": torch.tensor([False, True, True, False, False])}
X, Y = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3


def train(net, optimizer, steps=20, x=X):
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(net(x), Y).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_rows_stay_bit_by_bit_and_the_others_move(name):
    net = cnn()
    optimizer = OPTIMIZERS[name](net.parameters())
    train(net, optimizer)  # momentum and averages are warm: zero gradients alone would let the rows drift
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with freeze_rows(net, MASKS, optimizer):
        train(net, optimizer, 100)
    after = net.state_dict()
    for layer, mask in MASKS.items():
        for part in ("weight", "bias"):
            changed = (after[f"{layer}.{part}"] != before[f"{layer}.{part}"]).reshape(len(mask), -1)
            assert not changed[mask].any()
            assert changed[~mask].any(1).all()
    assert (after["6.weight"] != before["6.weight"]).any()
    train(net, optimizer, 1)  # and once it is closed all of them move again
    assert (net.state_dict()["0.weight"] != before["0.weight"]).flatten(1).any(1).all()


def test_zero_gradients_alone_would_not_do():
    net = cnn()
    optimizer = OPTIMIZERS["momentum"](net.parameters())
    train(net, optimizer)
    before = net[0].weight.detach().clone()
    handle = net[0].weight.register_hook(torch.zeros_like)
    train(net, optimizer, 5)
    handle.remove()
    assert (net[0].weight != before).any()


def test_gradients_of_frozen_rows_are_zero_so_that_clipping_sees_the_free_ones_alone():
    net = cnn()
    with freeze_rows(net, MASKS, torch.optim.SGD(net.parameters(), lr=0.1)):
        cross_entropy(net(X), Y).backward()
    assert not net[0].weight.grad[MASKS["0"]].any()
    assert net[0].weight.grad[~MASKS["0"]].any()


@pytest.mark.parametrize("make", [cnn, lambda: SmallResNet(1, 3, widths=(4, 6)).eval()])
def test_a_frozen_subnetwork_computes_the_same_for_ever(make):
    """With skip connections too, whose branches keep different units (untied masks), and with norms in eval mode."""
    net, rng = make(), torch.Generator().manual_seed(3)
    layers = [
        n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and n not in ("6", "classifier")
    ]
    masks = {n: torch.rand(len(net.get_submodule(n).weight), generator=rng) < 0.5 for n in layers}
    for mask in masks.values():
        mask[0] = True
    head = "6" if isinstance(net, nn.Sequential) else "classifier"
    frozen = {**masks, head: torch.ones(3, dtype=torch.bool)}
    norms = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    optimizer = torch.optim.Adam([p for p in net.parameters() if id(p) not in norms], lr=0.05, weight_decay=0.1)
    then, whole = subnetwork(net, masks)(X), net(X)
    with freeze_rows(net, frozen, optimizer):
        train(net, optimizer)
    assert torch.equal(subnetwork(net, masks)(X), then)
    assert not torch.equal(net(X), whole)


def test_absent_units_are_zero_before_the_activation():
    part = subnetwork(cnn(), MASKS)
    assert not part[0](X)[:, ~MASKS["0"]].any()
    assert torch.equal(part[0](X)[:, MASKS["0"]], cnn()[0](X)[:, MASKS["0"]])
    assert not part[:5](X)[:, ~MASKS["4"]].any()


def test_the_model_itself_is_not_touched():
    net = cnn()
    subnetwork(net, MASKS)[0].weight.data.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), cnn().state_dict().values()))


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


BAD = {
    "no layer of that name": (cnn, {"nine": torch.ones(4, dtype=torch.bool)}, "nine"),
    "no layer with rows": (cnn, {"1": torch.ones(4, dtype=torch.bool)}, "'1' is a ReLU"),
    "a mask too long": (cnn, {"0": torch.ones(5, dtype=torch.bool)}, r"masks\['0'\] has shape \(5,\)"),
    "a mask of ints": (cnn, {"0": torch.ones(4, dtype=torch.long)}, r"masks\['0'\] has dtype"),
    "no masks": (cnn, {}, "masks is empty"),
    "shared weights": (tied, {"0": torch.ones(4, dtype=torch.bool)}, "shared"),
    "a batch norm in train mode": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        {"0": torch.ones(4, dtype=torch.bool)},
        "training mode",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_masks_and_models_are_refused_by_both(case):
    make, masks, message = BAD[case]
    net = make()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=message), freeze_rows(net, masks, optimizer):
        pass
    with pytest.raises(ValueError, match=message):
        subnetwork(net, masks)


def test_a_layer_pruned_empty_is_refused():
    with pytest.raises(ValueError, match=r"masks\['0'\] keeps no unit"):
        subnetwork(cnn(), {"0": torch.zeros(4, dtype=torch.bool)})


def test_an_optimizer_that_would_move_frozen_units_or_none_is_refused():
    net = SmallResNet(1, 3, widths=(4,)).eval()
    mask = {"stem.conv": torch.ones(4, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"'stem.norm' \(BatchNorm2d\)"):
        freeze_rows(net, mask, torch.optim.SGD(net.parameters(), lr=0.1)).__enter__()
    with pytest.raises(ValueError, match="optimizer holds no parameter"):
        freeze_rows(net, mask, torch.optim.SGD(cnn().parameters(), lr=0.1)).__enter__()


def test_everything_is_undone_after_an_exception():
    net = cnn()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(KeyError), freeze_rows(net, MASKS, optimizer):
        raise KeyError
    before = net[0].weight.detach().clone()
    train(net, optimizer, 1)
    assert (net[0].weight != before).flatten(1).any(1).all()
