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
    assert np.allclose(curve_area(curve, grid), np.trapezoid(curve.numpy(), grid, axis=0) / 0.9)


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
        ({"inputs": torch.zeros(2, 1, 1, 1, 4)}, "inputs has shape"),
    ],
)
def test_bad_input_is_named(change, words):
    arguments = {"predict": lambda x: x.sum(1), "inputs": torch.zeros(2, 4), "relevance": torch.zeros(2, 4)} | change
    with pytest.raises(ValueError, match=words):
        perturbation_curve(**arguments)


def test_patches_must_divide_the_image():
    with pytest.raises(ValueError, match="must divide"):
        perturbation_curve(lambda x: x.sum((1, 2, 3)), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 3))
