"""Stacked networks: each computes and learns what it would alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.nets import SmallResNet, StackedNet, build_net


def mlps(count: int = 3) -> list[nn.Module]:
    return [build_net("mlp", (3,), 4, generator=torch.Generator().manual_seed(s)) for s in range(count)]


def test_each_gives_what_it_would_alone():
    nets = mlps()
    both, x = StackedNet(nets), torch.randn(3, 5, 3)
    assert torch.allclose(both(x), torch.stack([net(rows) for net, rows in zip(nets, x)]), atol=1e-6)
    assert torch.allclose(both(x[:1]), torch.stack([net(x[0]) for net in nets]), atol=1e-6)
    assert both.get_submodule("1").weight.shape == (3, 64, 3)
    assert torch.equal(both.unstacked(2)(x[2]), nets[2](x[2]))


def test_norms_and_convolutions_stack_too():
    nets = []
    for seed in range(2):
        torch.manual_seed(seed)
        nets.append(SmallResNet(1, 4, widths=(4, 6)).eval())
    both, x = StackedNet(nets).eval(), torch.rand(2, 3, 1, 8, 8)
    assert torch.allclose(both(x), torch.stack([net(rows) for net, rows in zip(nets, x)]), atol=1e-5)


@pytest.mark.parametrize("make", [lambda p: torch.optim.Adam(p, 0.1), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)])
def test_each_learns_what_it_would_alone(make):
    nets, x, y = mlps(), torch.randn(3, 6, 3), torch.randint(4, (3, 6))
    both = StackedNet(nets)
    optimizers = [make(both.parameters()), *(make(net.parameters()) for net in nets)]
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        nn.functional.cross_entropy(both(x).flatten(0, 1), y.flatten()).mul(3).backward()
        for net, rows, goal in zip(nets, x, y):
            nn.functional.cross_entropy(net(rows), goal).backward()
        for optimizer in optimizers:
            optimizer.step()
    for name, value in both.named_parameters():
        assert torch.allclose(value, torch.stack([net.get_parameter(name) for net in nets]), atol=1e-5)


def test_a_copy_is_stacked_not_the_networks():
    nets = mlps()
    both = StackedNet(nets)
    nn.init.zeros_(both.get_submodule("1").weight)
    assert bool((nets[0].get_submodule("1").weight != 0).all())
    assert sum(p.numel() for p in both.parameters()) == 3 * sum(p.numel() for p in nets[0].parameters())


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="nets"):
        StackedNet([])
    with pytest.raises(ValueError, match="nets"):
        StackedNet([mlps()[0], build_net("mlp", (4,), 4)])
    for bad in (torch.randn(2, 5, 3), torch.full((3, 5, 3), torch.nan)):
        with pytest.raises(ValueError, match="x"):
            StackedNet(mlps())(bad)


def test_one_taken_out_has_the_stacks_precision_and_values_of_its_own():
    both = StackedNet(mlps()).double()
    net = both.unstacked(1)
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    before = both.get_submodule("1").weight.clone()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(both.get_submodule("1").weight, before)
    assert all(p.requires_grad for p in net.parameters())


def test_tied_weights_stay_tied_when_one_is_taken_out():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    stack, x = StackedNet([Tied() for _ in range(3)]), torch.randn(5, 4)
    out = stack.unstacked(1)
    torch.testing.assert_close(out(x), stack(x[None])[1])
    assert out.a.weight is out.b.weight
