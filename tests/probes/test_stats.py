"""Closed forms of mean and covariance against Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from shared import probes


def moments(d, seed=0):
    rng = np.random.default_rng(seed)
    A, B = (rng.standard_normal((d, d)) / math.sqrt(d) for _ in range(2))
    covs = A @ A.T + 0.2 * np.eye(d), 2 * (B @ B.T) + 0.1 * np.eye(d)
    means = rng.standard_normal(d) * 0.5, rng.standard_normal(d) * 0.3
    return [torch.from_numpy(m) for m in (means[0], covs[0], means[1], covs[1])]


def gaussian_draws(m_c, S_c, n_c, m_n, S_n, n_n, draws, seed=1):
    """Sets (draws, n, d) of the two classes, and labels (n,)."""
    g = torch.Generator().manual_seed(seed)
    parts = []
    for m, S, n in ((m_c, S_c, n_c), (m_n, S_n, n_n)):
        L = torch.linalg.cholesky(S)
        parts.append(m + torch.randn(draws, n, len(m), generator=g, dtype=torch.float64) @ L.T)
    return torch.cat(parts, 1), torch.cat([torch.ones(n_c), torch.zeros(n_n)])


def fits(method, H, y, **options):
    return torch.stack([probes.PROBE_METHODS[method](**options).fit(h, y).coef_[0] for h in H])


@pytest.mark.parametrize("method", ["mean", "pattern", "fastcav"])
def test_sums_of_means_have_exact_moments(method):
    m_c, S_c, m_n, S_n = moments(6)
    H, y = gaussian_draws(m_c, S_c, 30, m_n, S_n, 70, 2000)
    found = fits(method, H, y)
    mean, cov = probes.cav_mean_cov(method, m_c, S_c, 30, m_n, S_n, 70)
    error = (found.mean(0) - mean) / (cov.diagonal() / len(found)).sqrt()
    assert float(error.abs().max()) < 4  # standard errors
    assert float((found.T.cov() - cov).norm() / cov.norm()) < 0.1
    # a covariance without the non-concept set's part is far off: half of the vector comes from that set
    assert float((found.T.cov() - S_c / 30).norm() / cov.norm()) > 0.3


def test_one_direction_is_gaussian():
    m_c, S_c, m_n, S_n = moments(6)
    H, y = gaussian_draws(m_c, S_c, 40, m_n, S_n, 40, 1500)
    u = torch.linspace(-1, 1, 6).double()
    mean, cov = probes.cav_mean_cov("pattern", m_c, S_c, 40, m_n, S_n, 40)
    z = (fits("pattern", H, y) @ u - mean @ u) / (u @ cov @ u).sqrt()
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("lam", [0.1, 1.0])
def test_ridge_by_the_delta_method(lam):
    m_c, S_c, m_n, S_n = moments(5)
    n_c, n_n = 400, 600
    H, y = gaussian_draws(m_c, S_c, n_c, m_n, S_n, n_n, 1500)
    found = fits("ridge", H, y, alpha=lam * (n_c + n_n))
    mean, cov = probes.cav_mean_cov("ridge", m_c, S_c, n_c, m_n, S_n, n_n, lam=lam)
    assert float((found.mean(0) - mean).norm() / mean.norm()) < 0.02
    assert float(found.T.cov().trace() / cov.trace()) == pytest.approx(1, abs=0.08)
    assert float((found.T.cov() - cov).norm() / cov.norm()) < 0.12


def test_gaussian_and_sample_form_of_ridge_agree():
    m_c, S_c, m_n, S_n = moments(4)
    H, _ = gaussian_draws(m_c, S_c, 200_000, m_n, S_n, 200_000, 1)
    H_c, H_n = H[0, :200_000], H[0, 200_000:]
    given = probes.cav_mean_cov("ridge", m_c, S_c, 50, m_n, S_n, 100, lam=0.3)
    counted = probes.cav_from_population("ridge", H_c, H_n, 50, 100, lam=0.3, replace=True)
    for a, b in zip(given, counted):
        assert float((a - b).norm() / a.norm()) < 0.02


def test_ridge_limits():
    m_c, S_c, m_n, S_n = moments(5)
    args = (m_c, S_c, 50, m_n, S_n, 80)
    p = 50 / 130
    mean, cov = probes.cav_mean_cov("pattern", *args)
    strong_mean, strong_cov = probes.cav_mean_cov("ridge", *args, lam=1e7)
    assert torch.allclose(1e7 * strong_mean, p * (1 - p) * mean, rtol=1e-5)
    assert torch.allclose(1e14 * strong_cov, (p * (1 - p)) ** 2 * cov, rtol=1e-4, atol=1e-7)
    weak, _ = probes.cav_mean_cov("ridge", *args, lam=0.0)
    lda = torch.linalg.solve(p * S_c + (1 - p) * S_n, mean)
    assert torch.allclose(probes.cosine(weak[None], lda[None]), torch.ones(1, 1).double(), atol=1e-12)


def test_high_dimension_needs_the_fixed_point():
    d, counts = 60, torch.tensor([50, 50])
    m_c, S_c, m_n, S_n = moments(d)
    labels, lam = torch.tensor([1.0, -1.0]), 0.1
    H, y = gaussian_draws(m_c, S_c, 50, m_n, S_n, 50, 400)
    sign = 2 * y.double() - 1
    eye = torch.eye(d).double()
    found = torch.stack([torch.linalg.solve(h.T @ h / 100 + lam * eye, h.T @ sign / 100) for h in H])
    Q, delta, mean = probes.ridge_equivalent(torch.stack([S_c, S_n]), torch.stack([m_c, m_n]), counts, labels, lam)
    C = torch.stack([S + torch.outer(m, m) for m, S in ((m_c, S_c), (m_n, S_n))])
    plug_in = torch.linalg.solve(C.mean(0) + lam * eye, (m_c - m_n) / 2)
    residual = torch.stack([torch.trace(c @ Q) for c in C]) / 100 - delta
    assert float(residual.abs().max()) < 1e-9
    error, naive = (float((found.mean(0) - m).norm() / found.mean(0).norm()) for m in (mean, plug_in))
    assert error < 0.08
    assert naive > 2 * error


def test_lda_mean_by_inverse_wishart():
    d, n = 6, 40
    m_c, S, m_n, _ = moments(d)
    H, y = gaussian_draws(m_c, S, 20, m_n, S, 20, 4000)
    found = fits("lda", H, y).mean(0)
    expected = probes.lda_mean(S, m_c - m_n, n)
    assert float((found - expected).norm() / expected.norm()) < 0.03
    plain = torch.linalg.solve(S, m_c - m_n)
    assert float((found - plain).norm() / plain.norm()) > 0.15
    wishart = stats.wishart(n - 2, S.numpy()).rvs(4000, random_state=0)
    inverse = np.linalg.inv(wishart / n).mean(0)
    assert torch.allclose(torch.from_numpy(inverse) @ (m_c - m_n), expected, rtol=0.1, atol=0.05)


def test_finite_population():
    rng = torch.Generator().manual_seed(0)
    H_c = torch.randn(40, 3, generator=rng).double().exp()
    H_n = torch.randn(60, 3, generator=rng).double() * 2
    mean, cov = probes.cav_from_population("pattern", H_c, H_n, 40, 60)
    assert float(cov.abs().max()) == 0  # whole populations drawn: nothing varies
    y = torch.cat([torch.ones(10), torch.zeros(20)])
    draws = torch.stack(
        [
            probes.PatternCAV()
            .fit(
                torch.cat([H_c[torch.randperm(40, generator=rng)[:10]], H_n[torch.randperm(60, generator=rng)[:20]]]), y
            )
            .coef_[0]
            for _ in range(3000)
        ]
    )
    _, cov = probes.cav_from_population("pattern", H_c, H_n, 10, 20)
    assert float((draws.T.cov() - cov).norm() / cov.norm()) < 0.1
    assert float((draws.mean(0) - mean).norm() / mean.norm()) < 0.05


def test_bootstrap_has_the_formulas_spread():
    m_c, S_c, m_n, S_n = moments(5)
    H, y = gaussian_draws(m_c, S_c, 300, m_n, S_n, 300, 1)
    found = probes.bootstrap_direction(H[0], y, draws=800, generator=torch.Generator().manual_seed(0))
    _, cov = probes.cav_mean_cov("pattern", m_c, S_c, 300, m_n, S_n, 300)
    assert float(found.T.cov().trace() / cov.trace()) == pytest.approx(1, abs=0.2)


def test_what_follows_for_tcav():
    m_c, S_c, m_n, S_n = moments(6)
    H, y = gaussian_draws(m_c, S_c, 15, m_n, S_n, 15, 3000)
    V = fits("pattern", H, y)
    G = torch.randn(40, 6, generator=torch.Generator().manual_seed(5)).double()
    mean, cov = probes.cav_mean_cov("pattern", m_c, S_c, 15, m_n, S_n, 15)
    scores = probes.tcav_scores(G, V).score
    assert probes.expected_tcav(G, mean, cov) == pytest.approx(float(scores.mean()), abs=0.01)
    half = len(V) // 2
    S = G @ V.T > 0
    flips = (S[:, :half] != S[:, half:]).double().mean(1)
    assert torch.allclose(probes.sign_flip_probability(G, mean, cov), flips, atol=0.05)
    pairs = torch.nn.functional.cosine_similarity(V[:half], V[half:])
    assert probes.expected_cosine(mean, cov) == pytest.approx(float(pairs.mean()), abs=0.05)


def test_bad_input():
    m_c, S_c, m_n, S_n = moments(4)
    with pytest.raises(ValueError, match="'logistic' is unknown"):
        probes.cav_mean_cov("logistic", m_c, S_c, 3, m_n, S_n, 3)
    with pytest.raises(ValueError, match="cov_n"):
        probes.cav_mean_cov("mean", m_c, S_c, 3, m_n, S_n[:2], 3)
    with pytest.raises(ValueError, match="lam"):
        probes.ridge_equivalent(torch.stack([S_c, S_n]), torch.stack([m_c, m_n]), torch.ones(2), torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="d \\+ 3"):
        probes.lda_mean(S_c, m_c, 7)
    with pytest.raises(ValueError, match="n_c="):
        probes.cav_from_population("mean", S_c, S_n, 9, 2)
