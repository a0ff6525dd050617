"""The geometric median: against scipy's minimiser, by its condition, and where a step lands on a point."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from shared.stats import geometric_median


def points(n: int = 12, d: int = 3) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_minimises_the_sum_of_distances(weighted):
    x = points()
    weights = torch.rand(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    w = np.ones(12) if weights is None else weights.numpy()

    def cost(z):
        return (w * np.linalg.norm(x.numpy() - z, axis=1)).sum()

    found = geometric_median(x, weights=weights, rtol=1e-12, max_iter=1000).numpy()
    best = minimize(cost, x.mean(0).numpy(), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert found == pytest.approx(best.x, abs=1e-6)
    assert cost(found) <= best.fun + 1e-12


def test_unit_pulls_cancel_at_the_median():
    x = points(50, 4)
    centre = geometric_median(x, rtol=1e-12, max_iter=2000)
    assert torch.nn.functional.normalize(x - centre, dim=1).sum(0).norm() < 1e-6


def test_a_start_on_a_point_that_is_not_the_median_moves_on():
    """The mean of these is the last point; plain Weiszfeld divides by zero there, or stays for good."""
    x = torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.1, 0.0], [3.9, 3.9], [1.0, 1.0]], dtype=torch.float64)
    assert torch.equal(x.mean(0), x[-1])
    centre = geometric_median(x, rtol=1e-13, max_iter=5000)
    assert (x - centre).norm(dim=1).sum() < (x - x[-1]).norm(dim=1).sum() - 0.3
    assert torch.nn.functional.normalize(x - centre, dim=1).sum(0).norm() < 1e-5


def test_a_point_that_outweighs_the_others_is_the_median():
    x = points(5)
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 10.0], dtype=torch.float64)
    assert torch.allclose(geometric_median(x, weights=weights, max_iter=2000), x[-1], atol=1e-6)
    assert torch.equal(geometric_median(x[:1].expand(4, 3)), x[0])
    assert torch.equal(geometric_median(x[:1]), x[0])


def test_half_the_points_cannot_carry_it_off():
    x = points(21)
    x[:10] += 1e6
    assert geometric_median(x, max_iter=1000).norm() < 10


def test_smoothing_bounds_the_pull_of_a_point():
    x = points(5)
    weights = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(geometric_median(x, weights=weights, nu=1e-6), x[-1])
    assert torch.allclose(geometric_median(x, nu=1e9, max_iter=3), x.mean(0))


def test_it_keeps_type_and_follows_a_shift():
    x = points().float()
    assert geometric_median(x).dtype == torch.float32
    moved = geometric_median(x + 5, rtol=1e-7)
    assert torch.allclose(moved, geometric_median(x, rtol=1e-7) + 5, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": -torch.ones(12)}, "weights must be at least zero"),
        ({"weights": torch.zeros(12)}, "weights must be at least zero"),
        ({"weights": torch.ones(3)}, "weights has shape"),
        ({"nu": -1.0}, "nu=-1"),
        ({"max_iter": 0}, "max_iter=0"),
    ],
)
def test_bad_input_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        geometric_median(points(), **options)
