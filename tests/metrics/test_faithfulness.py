"""Perturbation curves against a slow reference, a model whose curve is known, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics import area_between, curve_area, perturbation_curve, perturbation_curves


def linear(weights):
    return lambda x: (x * weights).flatten(1).sum(1)


def slow_curve(predict, row, relevance, fractions, baseline, most_first=True):
    """One row, one feature at a time, straight from the definition."""
    order = sorted(range(len(relevance)), key=lambda i: (-relevance[i] if most_first else relevance[i], i))
    values = []
    for fraction in fractions:
        changed = row.clone()
        for i in order[: round(fraction * len(order))]:
            changed[i] = baseline
        values.append(predict(changed[None]).item())
    return values


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_equals_the_definition(order):
    generator = torch.Generator().manual_seed(0)
    x, relevance = torch.randn(3, 8, generator=generator).double(), torch.randn(3, 8, generator=generator)
    predict = linear(torch.randn(8, generator=generator).double())
    got = perturbation_curve(predict, x, relevance, order=order, fractions=4, baseline=0.5)
    for b in range(3):
        want = slow_curve(predict, x[b], relevance[b].tolist(), [0, 0.25, 0.5, 0.75, 1], 0.5, order == "morf")
        assert got[:, b].tolist() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(("fractions", "calls"), [(4, 8), ([0.2, 0.5], 4), ([0, 1], 2)])
def test_both_orders_at_once_save_the_shared_ends(fractions, calls):
    generator = torch.Generator().manual_seed(3)
    x, relevance = torch.randn(2, 8, generator=generator), torch.randn(2, 8, generator=generator)
    seen = []

    def predict(z):
        seen.append(z)
        return z.pow(2).sum(1)

    both = perturbation_curves(predict, x, relevance, fractions=fractions)
    assert len(seen) == calls
    for curve, order in zip(both, ("lerf", "morf")):
        assert torch.equal(curve, perturbation_curve(predict, x, relevance, order=order, fractions=fractions))


def test_exact_contributions_are_the_best_order_for_a_linear_model():
    generator = torch.Generator().manual_seed(1)
    x, weights = torch.randn(64, 12, generator=generator), torch.randn(12, generator=generator)
    predict = linear(weights)

    def delta(relevance):
        curves = [perturbation_curve(predict, x, relevance, order=o, fractions=12) for o in ("lerf", "morf")]
        return area_between(*curves, fractions=12)

    exact = delta(x * weights)
    assert (exact > 0).all()
    for _ in range(5):
        assert (exact >= delta(torch.randn(64, 12, generator=generator)) - 1e-5).all()
    assert torch.allclose(delta(-x * weights), -exact, atol=1e-5)  # the reversed order swaps the two curves


def test_patches_cover_their_pixels():
    x = torch.ones(1, 3, 8, 8)
    relevance = torch.zeros(1, 2, 2)
    relevance[0, 0, 1] = 1.0
    seen = []
    perturbation_curve(lambda p: seen.append(p) or p.flatten(1).sum(1), x, relevance, fractions=[0, 0.25], baseline=0.0)
    assert seen[1][0, :, :4, 4:].eq(0).all()
    assert seen[1].sum() == 3 * 48


def test_tokens_that_may_not_be_removed_stay():
    ids = torch.tensor([[5, 6, 7, 0, 0]])
    keep = torch.tensor([[True, True, True, False, False]])
    seen = []
    relevance = torch.tensor([[0.1, 0.3, 0.2, 9.0, 9.0]])
    perturbation_curve(
        lambda p: seen.append(p.clone()) or p.sum(1),
        ids,
        relevance,
        fractions=[0, 0.34, 1],
        baseline=99,
        removable=keep,
    )
    assert seen[1].tolist() == [[5, 99, 7, 0, 0]]
    assert seen[2].tolist() == [[99, 99, 99, 0, 0]]


@given(st.integers(1, 6), st.integers(0, 10_000))
def test_both_ends_are_order_free(features, seed):
    generator = torch.Generator().manual_seed(seed)
    x, relevance = torch.randn(2, features, generator=generator), torch.randn(2, features, generator=generator)
    morf, lerf = (
        perturbation_curve(linear(torch.ones(features)), x, relevance, order=o, fractions=3) for o in ("morf", "lerf")
    )
    assert torch.equal(morf[0], lerf[0])
    assert morf[-1].eq(0).all()
    assert lerf[-1].eq(0).all()


def test_area_is_numpys_trapezoid():
    curve = torch.rand(5, 7, dtype=torch.float64)
    grid = [0, 0.1, 0.3, 0.7, 0.9]
    assert np.allclose(curve_area(curve, fractions=grid), np.trapezoid(curve.numpy(), grid, axis=0) / 0.9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order": "best"}, "order='best'.*morf, lerf"),
        ({"relevance": torch.full((2, 4), torch.nan)}, "relevance has 8 NaN"),
        ({"relevance": torch.zeros(2, 5)}, r"relevance has shape \(2, 5\)"),
        ({"fractions": 0}, "fractions=0"),
        ({"fractions": [0.5, 0.2]}, "increasing"),
        ({"removable": torch.ones(2, 3)}, "removable has shape"),
        ({"predict": lambda x: x}, r"predict\(inputs\) has shape"),
        ({"inputs": torch.zeros(2, 1, 1, 1, 4)}, "inputs of shape"),
        ({"inputs": torch.zeros(2, 4, 3)}, r"inputs has shape \(2, 4, 3\).*pass channel_axis"),
        ({"inputs": torch.zeros(2, 4, 3), "channel_axis": 1}, "inputs of shape"),
        ({"inputs": torch.zeros(2, 4, 3), "channel_axis": 0}, "channel_axis=0"),
        ({"inputs": torch.zeros(2, 4, 3), "channel_axis": 3}, "channel_axis=3"),
        ({"target": torch.zeros(3, dtype=torch.long)}, "target has shape"),
        ({"target": torch.tensor([0, 9]), "predict": lambda x: x}, "target must hold integers from 0 to 3"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_named(change, words):
    arguments = {"predict": lambda x: x.sum(1), "inputs": torch.zeros(2, 4), "relevance": torch.zeros(2, 4)} | change
    with pytest.raises(ValueError, match=words):
        perturbation_curve(**arguments)


def test_patches_must_divide_the_image():
    with pytest.raises(ValueError, match="must divide"):
        perturbation_curve(lambda x: x.sum((1, 2, 3)), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 3))


LAYOUTS = {
    "features": ((5, 6), (5, 6), None),
    "tokens": ((5, 6, 3), (5, 6), -1),
    "signals": ((5, 3, 6), (5, 6), 1),
    "images": ((5, 3, 4, 4), (5, 4, 4), None),
    "patches": ((5, 3, 4, 4), (5, 2, 2), None),
    "channels last": ((5, 4, 4, 3), (5, 4, 4), 3),
    "volumes": ((5, 2, 4, 4, 4), (5, 4, 4, 4), 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("draws", [False, True])
def test_batches_change_nothing(layout, draws):
    shape, of_relevance, axis = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).double()
    weights = torch.randn(shape[1:], generator=generator).double()
    relevance = torch.randn(of_relevance, generator=generator)
    target = torch.tensor([0, 1, 1, 0, 1])
    seen = []

    def predict(z):
        seen.append(len(z))
        total = (z * weights).flatten(1).sum(1).tanh()
        return torch.stack([total, total.square()], 1)

    def baseline(z, removed):
        return torch.stack([z.flip(0), z + 1, -z])

    options = {"channel_axis": axis, "fractions": 3, "baseline": baseline if draws else 0.3}
    whole = perturbation_curves(predict, x, relevance, target, **options)
    for size in (1, 2, 4, 100):
        seen.clear()
        found = perturbation_curves(predict, x, relevance, target, batch_size=size, **options)
        assert max(seen) <= size
        for a, b in zip(found, whole):
            assert torch.allclose(a, b, atol=1e-14)


@pytest.mark.parametrize("layout", ["tokens", "signals", "channels last", "volumes"])
def test_channels_go_together_wherever_they_are(layout):
    shape, of_relevance, axis = LAYOUTS[layout]
    relevance = torch.rand(of_relevance, generator=torch.Generator().manual_seed(0))
    seen = []
    perturbation_curve(
        lambda z: seen.append(z) or z.flatten(1).sum(1),
        torch.ones(shape),
        relevance,
        fractions=[0, 0.5],
        channel_axis=axis,
    )
    left = seen[1].movedim(axis, -1)
    assert torch.equal(left.amin(-1), left.amax(-1))
    order = relevance.flatten(1).argsort(1, descending=True)
    half = order.shape[1] // 2
    assert left[..., 0].flatten(1).gather(1, order)[:, :half].eq(0).all()
    assert left[..., 0].flatten(1).gather(1, order)[:, half:].eq(1).all()


def test_a_target_follows_its_class():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Linear(4, 5)
    target = torch.tensor([4, 0, 2])
    by_hand = perturbation_curve(lambda z: model(z).gather(1, target[:, None])[:, 0], x, x)
    assert torch.equal(perturbation_curve(model, x, x, target), by_hand)
