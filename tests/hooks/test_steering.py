"""Steering, moving, projecting out and ablating: against the formulas, on tensors and in models, undone on exit."""

import pytest
import torch
from torch import nn

from shared import hooks


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


@pytest.fixture
def net():
    """A small CNN in eval mode, and images (10, 3, 16, 16); layer "3" gives (10, 6, 8, 8)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ).eval()
    return model, torch.rand(10, 3, 16, 16)


def activation(model, layer, x):
    with torch.no_grad(), hooks.capture(model, layer) as seen:
        model(x)
    return seen[layer]


SHAPES = [((7, 6), None), ((7, 3, 6), -1), ((7, 6, 3, 2), 1), ((7, 3, 2, 6), 3), ((7, 6, 2, 2, 2), 1)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_steered_adds_along_the_channels(shape, axis):
    h, v = torch.randn(shape), torch.randn(6)
    new = hooks.steered(h, v, alpha=2.0, channel_axis=axis)
    assert new.stride() == h.stride()
    rows, changed = (a.movedim(axis or 1, -1) for a in (h, new))
    assert torch.equal(changed, rows + 2 * v)
    each = torch.randn(7, 6)
    assert torch.equal(hooks.steered(h, each, channel_axis=axis).movedim(axis or 1, -1)[4], rows[4] + each[4])


def test_steered_at_some_positions():
    h, v = torch.randn(4, 6, 3, 3), torch.ones(6)
    where = torch.zeros(4, 3, 3, dtype=torch.bool)
    where[2, :2] = True
    change = (hooks.steered(h, v, positions=where, channel_axis=1) - h).mean(1)
    assert torch.allclose(change, where.float(), atol=1e-6)
    samples = torch.tensor([True, False, False, True])
    change = hooks.steered(h, torch.ones(4, 6), positions=samples, channel_axis=1) - h
    assert torch.allclose(change, samples.float()[:, None, None, None].expand_as(h), atol=1e-6)
    tokens = torch.randn(4, 5, 6)
    change = hooks.steered(tokens, v, positions=(slice(None), -1), channel_axis=-1) - tokens
    assert bool((change[:, :-1] == 0).all())
    assert torch.allclose(change[:, -1], torch.ones(4, 6), atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_moved_to_reaches_the_level_or_goes_part_of_the_way(shape, axis):
    h, v = torch.randn(shape), torch.randn(6)
    unit, before = v / v.norm(), hooks.pool(h, "mean", channel_axis=axis)
    for share in (1.0, 0.25):
        after = hooks.pool(
            hooks.moved_to(h, v, torch.arange(7.0), share=share, channel_axis=axis), "mean", channel_axis=axis
        )
        expected = before + share * (torch.arange(7.0) - before @ unit)[:, None] * unit
        torch.testing.assert_close(after, expected)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("k", [1, 2])
def test_projected_out_against_least_squares(shape, axis, k):
    h, V, z = torch.randn(shape), torch.randn(k, 6), torch.randn(6)
    V = torch.cat([V, 2 * V[:1]])  # a dependent row adds nothing
    P = (V.T @ torch.linalg.pinv(V.double()).T.float()).double()
    for reference in (None, z):
        new = hooks.projected_out(h, V, reference=reference, channel_axis=axis)
        rows = h.movedim(axis or 1, -1).double()
        away = rows if reference is None else rows - z.double()
        torch.testing.assert_close(new.movedim(axis or 1, -1).double(), rows - away @ P, atol=1e-5, rtol=1e-5)
        again = hooks.projected_out(new, V, reference=reference, channel_axis=axis)
        torch.testing.assert_close(again, new, atol=1e-5, rtol=1e-5)


def test_one_direction_costs_two_products_and_is_exact():
    h, v = torch.randn(9, 6), torch.randn(6)
    unit = v / v.norm()
    assert torch.allclose(hooks.projected_out(h, v), h - (h @ unit)[:, None] * unit, atol=1e-6)


def test_span_basis_is_orthonormal():
    V = torch.randn(3, 9)
    basis = hooks.span_basis(torch.cat([V, V[:1] + V[1:2]]))
    assert basis.shape == (3, 9)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(V.double() @ basis.T @ basis, V.double())


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_ablated_replaces_channels(shape, axis):
    h, means = torch.randn(shape), torch.randn(6)
    rows = h.movedim(axis or 1, -1).clone()
    zero = hooks.ablated(h, [1, 4], channel_axis=axis).movedim(axis or 1, -1)
    assert bool((zero[..., [1, 4]] == 0).all())
    assert torch.equal(zero[..., [0, 2, 3, 5]], rows[..., [0, 2, 3, 5]])
    fixed = hooks.ablated(h, 4, values=means, positions=slice(0, 2), channel_axis=axis).movedim(axis or 1, -1)
    assert bool((fixed[:2, ..., 4] == means[4]).all())
    assert torch.equal(fixed[2:], rows[2:])
    assert torch.equal(hooks.ablated(h, [], channel_axis=axis), h)


def test_adding_nothing_is_bit_identical_and_back_is_back(net):
    model, x = net
    v = torch.randn(6)
    plain = model(x)
    with hooks.steer(model, {"3": v}, alpha=0.0):
        assert torch.equal(model(x), plain)
    with hooks.steer(model, {"3": v}, alpha=2.0), hooks.steer(model, {"3": v}, alpha=-2.0):
        assert torch.allclose(model(x), plain, atol=1e-6)
    with hooks.steer(model, {"3": v}, alpha=2.0):
        assert not torch.allclose(model(x), plain, atol=1e-3)
        steered = activation(model, "3", x)
    assert torch.equal(steered, hooks.steered(activation(model, "3", x), v, alpha=2.0, channel_axis=1))
    assert torch.equal(model(x), plain)


def test_each_context_does_what_its_function_does(net):
    model, x = net
    v, V, z, a = torch.randn(6), torch.randn(2, 6), torch.randn(6), activation(*net[:1], "3", net[1])
    cases = [
        (hooks.move_to(model, {"3": v}, 0.7), hooks.moved_to(a, v, 0.7, channel_axis=1)),
        (
            hooks.project_out(model, {"3": V}, references={"3": z}),
            hooks.projected_out(a, V, reference=z, channel_axis=1),
        ),
        (hooks.ablate(model, {"3": [0, 5]}), hooks.ablated(a, [0, 5], channel_axis=1)),
        (hooks.ablate(model, {"3": 2}, values={"3": z}), hooks.ablated(a, 2, values=z, channel_axis=1)),
    ]
    for context, expected in cases:
        with context:
            assert torch.equal(activation(model, "3", x), expected)
    assert torch.equal(activation(model, "3", x), a)


def test_tokens_in_tuples_and_inputs():
    model, x = Tokens().eval(), torch.randn(3, 4, 5)
    with hooks.steer(model, {"wrap": torch.ones(5)}, alpha=3.0):
        torch.testing.assert_close(model(x), model.head(model.block(x) + 3))
    with hooks.steer(model, {"wrap": torch.ones(5)}, positions=(slice(None), -1)):
        assert torch.equal(model(x)[:, :3], model.head(model.block(x)[:, :3]))
    with hooks.project_out(model, {"head": torch.ones(5)}, at="input"):
        flat = model.block(x) - model.block(x).mean(-1, keepdim=True)
        torch.testing.assert_close(model(x), model.head(flat))


def test_several_layers_at_once(net):
    model, x = net
    with hooks.steer(model, {"0": torch.ones(8), "3": torch.ones(6)}):
        both = model(x)
    with hooks.steer(model, {"0": torch.ones(8)}), hooks.steer(model, {"3": torch.ones(6)}):
        assert torch.equal(model(x), both)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: hooks.steer(m, {"33": torch.ones(6)}), "closest"),
        (lambda m: hooks.steer(m, {"3": torch.ones(5)}), "direction has 5 entries.*belongs to another layer"),
        (lambda m: hooks.steer(m, {"3": torch.ones(3, 6)}), r"direction has shape \(3, 1, 1, 6\)|direction has shape"),
        (lambda m: hooks.steer(m, {"3": torch.tensor(1.0)}), r"directions\['3'\] has shape \(\); expected \(D,\)"),
        (lambda m: hooks.steer(m, {"3": torch.full((6,), torch.nan)}), r"directions\['3'\] has 6 NaN"),
        (lambda m: hooks.steer(m, {"3": torch.ones(6)}, alpha=float("nan")), "alpha has 1 NaN"),
        (
            lambda m: hooks.steer(m, {"3": torch.ones(6)}, positions=torch.ones(10, 3) > 0),
            r"positions has shape \(10, 3\)",
        ),
        (lambda m: hooks.steer(m, {"6": torch.ones(6)}, at="inside"), "at='inside' is unknown"),
        (lambda m: hooks.move_to(m, {"3": torch.zeros(6)}, 1.0), r"directions\['3'\] is zero"),
        (lambda m: hooks.move_to(m, {"3": torch.ones(6)}, torch.ones(3)), r"level has shape \(3,\)"),
        (lambda m: hooks.move_to(m, {"3": torch.ones(6)}, 1.0, pool="max"), "pool='max' is unknown"),
        (lambda m: hooks.project_out(m, {"3": torch.ones(1, 7)}), "directions has 7 entries.*belongs to another layer"),
        (lambda m: hooks.project_out(m, {"3": torch.zeros(2, 6)}), "directions is zero"),
        (lambda m: hooks.project_out(m, {"3": torch.ones(6)}, references={"2": torch.ones(6)}), "references='2'"),
        (lambda m: hooks.ablate(m, {"3": [6]}), "units has 6; the activation has 6 channels, from 0 to 5"),
        (lambda m: hooks.ablate(m, {"3": [-1]}), r"units\['3'\] has -1"),
    ],
)
def test_errors_name_the_argument(net, make, message):
    model, x = net
    with pytest.raises(ValueError, match=message), make(model):
        model(x)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), "in place", "a part"])
def test_compiled_models_are_refused(net, wrap):
    model, x = net
    if wrap == "in place":
        model.compile(backend="eager")
    elif wrap == "a part":
        model[3] = torch.compile(model[3], backend="eager")
    else:
        model = wrap(model)
    model(x)
    contexts = [
        lambda: hooks.capture(model, "3"),
        lambda: hooks.steer(model, {"3": torch.ones(6)}),
        lambda: hooks.resume_from(model, "3", torch.ones(10, 6, 8, 8)),
        lambda: hooks.wrap_attention(model, lambda call, *a, **k: call(*a, **k)),
    ]
    for make in contexts:
        with pytest.raises(ValueError, match=r"model is compiled by torch\.compile"), make():
            pass


@pytest.mark.parametrize("how", ["mean", "max"])
def test_pool_over_positions(how):
    maps = torch.randn(3, 4, 5, 6)
    by_hand = maps.flatten(2).mean(2) if how == "mean" else maps.flatten(2).amax(2)
    assert torch.equal(hooks.pool(maps, how, channel_axis=1), by_hand)
    torch.testing.assert_close(hooks.pool(maps.movedim(1, -1), how, channel_axis=-1), by_hand)
    assert torch.equal(hooks.pool(by_hand, how), by_hand)


def test_pool_of_tokens_and_padding():
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(hooks.pool(tokens, "cls", channel_axis=-1), tokens[:, 0])
    assert torch.equal(hooks.pool(tokens, "last", channel_axis=-1), tokens[:, -1])
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    for how, expected in (("cls", 0), ("last", 2)):
        rows = hooks.pool(tokens, how, channel_axis=-1, mask=mask)
        assert torch.equal(rows, torch.stack([tokens[0, :3][expected], tokens[1, 2:][expected]]))
    kept = torch.stack([tokens[0, :3], tokens[1, 2:]])
    torch.testing.assert_close(hooks.pool(tokens, "mean", channel_axis=-1, mask=mask), kept.mean(1))
    assert torch.equal(hooks.pool(tokens, "max", channel_axis=-1, mask=mask), kept.amax(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hooks.pool(torch.ones(2, 3, 4), "mean"), "pass channel_axis"),
        (lambda: hooks.pool(torch.ones(2, 3, 4), "none", channel_axis=-1), "can't be pooled by 'none'"),
        (lambda: hooks.pool(torch.ones(2, 3, 4, 4), "cls", channel_axis=1), "can't be pooled by 'cls'"),
        (lambda: hooks.pool(torch.ones(2, 3), "median"), "pool='median' is unknown"),
        (lambda: hooks.pool(torch.ones(2, 3, 4), "mean", channel_axis=-1, mask=torch.zeros(2, 3)), "without tokens"),
        (
            lambda: hooks.pool(torch.ones(2, 3, 4, 4), "mean", channel_axis=1, mask=torch.ones(2, 3)),
            "mask is for tokens",
        ),
    ],
)
def test_pool_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
