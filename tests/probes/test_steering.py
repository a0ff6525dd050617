"""Steering and projection: exact on the direction, nothing elsewhere, everything undone."""

import pytest
import torch
from torch import nn

from shared import hooks, probes


class Tokens(nn.Module):
    """A block that returns a tuple, as transformer blocks do."""

    def __init__(self):
        super().__init__()
        self.block = nn.Linear(5, 5)
        self.wrap = Wrapper(self.block)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.wrap(x)[0])


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x), "cache"


def activation(model, layer, x):
    with torch.no_grad(), hooks.capture(model, layer) as seen:
        model(x)
    return seen[layer]


def test_adding_nothing_is_bit_identical_and_back_is_back(net):
    model, x = net
    v = torch.randn(6)
    plain = model(x)
    with probes.add(model, "3", v, 0.0):
        assert torch.equal(model(x), plain)
    with probes.add(model, "3", v, 2.0), probes.add(model, "3", v, -2.0):
        assert torch.allclose(model(x), plain, atol=1e-6)
    with probes.add(model, "3", v, 2.0):
        assert not torch.allclose(model(x), plain, atol=1e-3)
        with hooks.capture(model, "3") as seen:
            model(x)
    assert torch.allclose(seen["3"] - activation(model, "3", x), 2 * v[:, None, None].expand(10, 6, 8, 8), atol=1e-6)
    assert torch.equal(model(x), plain)


def test_adding_only_where_told(net):
    model, x = net
    where = torch.zeros(10, 8, 8, dtype=torch.bool)
    where[2, :3] = True
    with probes.add(model, "3", torch.ones(6), 1.0, where=where), hooks.capture(model, "3") as seen:
        model(x)
    change = (seen["3"] - activation(model, "3", x)).mean(1)
    assert torch.allclose(change, where.float(), atol=1e-6)


def test_tokens_in_tuples():
    model, x = Tokens().eval(), torch.randn(3, 4, 5)
    with probes.add(model, "wrap", torch.ones(5), 3.0):
        steered = model(x)
    assert torch.allclose(steered, model.head(model.block(x) + 3), atol=1e-6)
    last = torch.tensor([[False, False, False, True]]).expand(3, 4)
    with probes.add(model, "wrap", torch.ones(5), 3.0, where=last):
        steered = model(x)
    assert torch.equal(steered[:, :3], model(x)[:, :3])


def test_move_to_reaches_the_level(net):
    model, x = net
    v = torch.randn(6)
    with probes.move_to(model, "3", v, 0.7), hooks.capture(model, "3") as seen:
        model(x)
    pooled = seen["3"].mean((2, 3)) @ (v / v.norm())
    assert torch.allclose(pooled, torch.full((10,), 0.7), atol=1e-5)


def test_projection_is_idempotent_and_leaves_the_complement(net):
    model, x = net
    V = torch.randn(2, 6)
    z = torch.randn(6)
    before = activation(model, "3", x)
    with probes.project_out(model, "3", V, z), hooks.capture(model, "3") as seen:
        once = model(x)
    with probes.project_out(model, "3", V, z), probes.project_out(model, "3", V, z):
        assert torch.allclose(model(x), once, atol=1e-6)
    after = seen["3"].movedim(1, -1).reshape(-1, 6)
    assert torch.allclose(after @ V.T, (z @ V.T).expand(len(after), 2), atol=1e-5)
    Q = torch.linalg.qr(V.T).Q
    flat = before.movedim(1, -1).reshape(-1, 6)
    complement = flat - flat @ Q @ Q.T
    assert torch.allclose(after - after @ Q @ Q.T, complement, atol=1e-5)


def test_projector_equals_least_squares():
    V = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double()
    a = torch.randn(8, generator=torch.Generator().manual_seed(1)).double()
    fit = torch.linalg.lstsq(V.T, a[:, None]).solution
    assert torch.allclose(probes.span_projector(V) @ a, (V.T @ fit)[:, 0], atol=1e-10)
    doubled = probes.span_projector(torch.cat([V, V[:1]]))  # a dependent row adds nothing
    assert torch.allclose(doubled, probes.span_projector(V), atol=1e-8)


def test_rules_of_moving_codes():
    z, v = torch.randn(4, 9), torch.randn(9)
    unit = v / v.norm()
    assert torch.allclose(probes.move(z, v, "constant", amount=0.5) - z, (1.5 * unit).expand(4, 9), atol=1e-6)
    assert torch.allclose(probes.move(z, v, "adaptive", level=2.0) @ unit, torch.full((4,), 2.0), atol=1e-5)
    half = probes.move(z, v, "clarc", amount=0.5, level=2.0) @ unit
    assert torch.allclose(half, (z @ unit + 2) / 2, atol=1e-5)
    with pytest.raises(ValueError, match="level"):
        probes.move(z, v)


def test_bad_input_leaves_no_hook(net):
    model, x = net
    direction = probes.fit_direction(torch.randn(8, 6), torch.arange(8) % 2, layer="0")
    cases = [
        (lambda: probes.add(model, "33", torch.ones(6)), "closest"),
        (lambda: probes.add(model, "3", torch.ones(5)), "belongs to another layer"),
        (lambda: probes.add(model, "3", direction), "fitted at '0'"),
        (lambda: probes.project_out(model, "3", torch.ones(1, 7)), "belongs to another layer"),
        (lambda: probes.add(model, "3", torch.zeros(6)), "zero"),
        (lambda: probes.add(model, "3", torch.ones(1, 6)), r"expected \(d,\)"),
    ]
    for context, message in cases:
        with pytest.raises(ValueError, match=message), context():
            model(x)
    pooled = probes.fit_direction(torch.randn(8, 6, 2, 2), torch.arange(8) % 2, pool="max")
    with pytest.raises(probes.PoolMismatchError, match="max"), probes.move_to(model, "3", pooled, 0.0):
        model(x)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
