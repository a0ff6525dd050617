"""Kernel density and its conditional samples: against scikit-learn, the definition, closed forms, and bad input."""

import numpy as np
import pytest
import torch

from shared.metrics import KernelDensity, perturbation_curve


@pytest.fixture(autouse=True)
def _seeded():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


@pytest.fixture
def data():
    return torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_density_equals_scikit_learn(data):
    neighbors = pytest.importorskip("sklearn.neighbors")
    density = KernelDensity(data, scale=2.5)
    peer = neighbors.KernelDensity(bandwidth=(2 * 2.5) ** -0.5, rtol=1e-12).fit(data.numpy())
    x = torch.randn(7, 3, dtype=torch.float64)
    assert density.log_density(x).numpy() == pytest.approx(peer.score_samples(x.numpy()), abs=1e-10)


def leave_one_out(data, scale):
    rows = range(len(data))
    return sum(
        KernelDensity(data[[j for j in rows if j != i]], scale=scale).log_density(data[i : i + 1]).item() for i in rows
    )


def test_the_bandwidth_is_the_best_by_leave_one_out(data):
    best = KernelDensity(data).scale
    at = leave_one_out(data, best)
    assert at > leave_one_out(data, best * 1.05)
    assert at > leave_one_out(data, best / 1.05)


def test_kept_features_stay_and_draws_repeat(data):
    density, x = KernelDensity(data), torch.randn(4, 3)
    missing = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    draws = density.sample_missing(x, missing, n=5, generator=torch.Generator().manual_seed(3))
    assert draws.shape == (5, 4, 3)
    assert draws.dtype == x.dtype
    assert torch.equal(draws[:, ~missing], x[~missing].expand(5, -1))
    assert (draws[:, missing] != x[missing]).all()
    assert torch.equal(draws, density.sample_missing(x, missing, n=5, generator=torch.Generator().manual_seed(3)))


def test_conditional_draws_have_the_mixture_they_should():
    """Two kernels: given the first feature, the second comes from either with weights ~ exp(-s d^2)."""
    density = KernelDensity(torch.tensor([[0.0, -3.0], [1.0, 5.0]]), scale=0.8)
    x = torch.tensor([[0.2, 100.0]])
    weights = np.exp(-0.8 * np.array([0.2, 0.8]) ** 2)
    weights /= weights.sum()
    draws = density.sample_missing(
        x, torch.tensor([[False, True]]), n=40_000, generator=torch.Generator().manual_seed(0)
    )
    second = draws[:, 0, 1].double().numpy()
    mean = weights @ [-3, 5]
    variance = 1 / 1.6 + weights @ np.array([-3, 5]) ** 2 - mean**2
    assert second.mean() == pytest.approx(mean, abs=0.08)
    assert second.var() == pytest.approx(variance, rel=0.03)
    assert (second > 1).mean() == pytest.approx(weights[1], abs=0.01)


def test_far_points_do_not_underflow(data):
    draws = KernelDensity(data, scale=50.0).sample_missing(
        torch.full((1, 3), 1e3), torch.tensor([[True, False, False]]), n=9
    )
    assert torch.isfinite(draws).all()


def test_a_curve_over_draws_is_the_mean_over_them(data):
    density, x = KernelDensity(data), data[:4].float()
    weights, relevance = torch.tensor([1.0, -2.0, 0.5]), torch.randn(4, 3)

    def predict(z):
        return (z * weights).sum(1)

    curve = perturbation_curve(
        predict, x, relevance, fractions=3, baseline=density.inpaint(n=6, generator=torch.Generator().manual_seed(2))
    )
    assert torch.allclose(curve[0], predict(x))
    for b in range(4):
        missing = torch.zeros(4, 3, dtype=torch.bool)
        missing[torch.arange(4), relevance.argmax(1)] = True
        draws = density.sample_missing(x, missing, n=6, generator=torch.Generator().manual_seed(2))
        assert curve[1, b].item() == pytest.approx(predict(draws[:, b]).mean().item(), abs=1e-5)


def test_removing_in_one_order_or_another_ends_at_the_same_draws(data):
    density, x = KernelDensity(data), data[:5].float()
    baseline = density.inpaint(n=4)
    ends = [
        perturbation_curve(lambda z: z.sum(1), x, torch.randn(5, 3), fractions=[0, 1], baseline=baseline)[-1]
        for _ in range(2)
    ]
    assert torch.equal(*ends)


def test_picks_are_torchs_multinomial(data):
    """The same uniform numbers through the same distribution function, so that old seeds keep their draws."""
    density, x = KernelDensity(data, scale=1.5), data[:6]
    missing = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    squares = ((x[:, None] - data) ** 2 * ~missing[:, None]).sum(2)
    picks = torch.softmax(-1.5 * squares, 1).multinomial(
        8, replacement=True, generator=torch.Generator().manual_seed(4)
    )
    uniform = torch.rand(6, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(density._pick(x, missing, uniform), picks)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_change_nothing(data, size):
    whole, parts = KernelDensity(data), KernelDensity(data, batch_size=size)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-12)
    x = torch.randn(20, 3, dtype=torch.float64)
    assert torch.allclose(parts.log_density(x), whole.log_density(x), atol=1e-10)
    missing = torch.rand(20, 3) < 0.5
    draws = [
        KernelDensity(data, scale=2.0, batch_size=b).sample_missing(
            x, missing, n=4, generator=torch.Generator().manual_seed(1)
        )
        for b in (None, size)
    ]
    assert torch.equal(*draws)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: KernelDensity(d[0]), "data"),
        (lambda d: KernelDensity(d[:1]), "at least 2"),
        (lambda d: KernelDensity(d * torch.nan), "NaN"),
        (lambda d: KernelDensity(d, scale=-1.0), "scale"),
        (lambda d: KernelDensity(d[:1].expand(5, -1)), "more than once"),
        (lambda d: KernelDensity(d, batch_size=0), "batch_size=0"),
        (lambda d: KernelDensity(d).log_density(d[:, :2]), "x has shape"),
        (lambda d: KernelDensity(d).sample_missing(d, torch.ones(2, 3, dtype=torch.bool)), "missing"),
        (lambda d: KernelDensity(d).sample_missing(d * torch.nan, d > 0), "NaN"),
        (lambda d: KernelDensity(d).inpaint(n=0), "n=0"),
        (lambda d: perturbation_curve(lambda z: z.sum(1), d, d, baseline=lambda x, removed: x), "baseline"),
    ],
)
def test_bad_input(call, words, data):
    with pytest.raises(ValueError, match=words):
        call(data)
