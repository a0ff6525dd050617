from __future__ import annotations

import math

import numpy as np
import pytest

from shared.federated import laplace_counts, noise_for, privacy_spent


def test_laplace_scale_and_cut():
    counts = np.full((200, 500), 1000.0)
    for adjacency, scale in (("add_remove", 2.0), ("replace", 4.0)):
        noise = laplace_counts(counts, 0.5, generator=np.random.default_rng(0), adjacency=adjacency) - counts
        assert np.abs(noise).mean() == pytest.approx(scale, rel=0.02)  # E|Lap(b)| = b
    low = laplace_counts(np.zeros((50, 10)), 0.5, generator=np.random.default_rng(0))
    assert low.min() == 0
    assert 0.4 < (low == 0).mean() < 0.6


def test_laplace_is_private_on_neighbouring_counts():
    """The histogram of outputs for n and n + 1 differs by at most e^ε in every bin (here of one count, uncut)."""
    epsilon, generator = 1.0, np.random.default_rng(1)
    first = laplace_counts(np.full((1, 400_000), 50.0), epsilon, generator=generator)[0]
    second = laplace_counts(np.full((1, 400_000), 51.0), epsilon, generator=generator)[0]
    bins = np.linspace(47, 54, 15)
    ratio = np.histogram(first, bins)[0] / np.histogram(second, bins)[0]
    assert ratio.max() < math.exp(epsilon) * 1.05
    assert ratio.max() > math.exp(epsilon) * 0.9  # and the bound is met: no more noise than needed


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, r: laplace_counts(c, 0.0, generator=r), "epsilon=0.0"),
        (lambda c, r: laplace_counts(c, -1.0, generator=r), "epsilon=-1.0"),
        (lambda c, r: laplace_counts(c, 1.0, generator=r, adjacency="swap"), "adjacency='swap'"),
        (lambda c, r: laplace_counts(-c - 1, 1.0, generator=r), "negative"),
        (lambda c, r: privacy_spent(-1.0, 0.1, 10, 1e-5), "noise_multiplier=-1.0"),
        (lambda c, r: privacy_spent(1.0, 1.1, 10, 1e-5), "sample_rate=1.1"),
        (lambda c, r: privacy_spent(1.0, 0.1, 0, 1e-5), "rounds=0"),
        (lambda c, r: privacy_spent(1.0, 0.1, 10, 1e-5, accountant="moments"), "accountant='moments'"),
        (lambda c, r: noise_for(0.0, 0.1, 10, 1e-5), "epsilon=0.0"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.ones((3, 4)), np.random.default_rng(0))


def test_no_noise_no_privacy():
    assert privacy_spent(0.0, 0.1, 10, 1e-5) == math.inf


def test_without_opacus_the_error_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "opacus", None)
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(ImportError, match="pip install opacus"):
        privacy_spent(1.0, 0.1, 10, 1e-5)


def test_accountants_against_the_gaussian_mechanism():
    """One round with everybody is the Gaussian mechanism, whose δ(ε) Balle and Wang 2018 give in closed form."""
    pytest.importorskip("opacus")
    from scipy.stats import norm

    sigma, delta = 2.0, 1e-5
    for accountant, slack in (("prv", 0.02), ("rdp", 0.25)):
        epsilon = privacy_spent(sigma, 1.0, 1, delta, accountant=accountant)

        def exact(eps: float) -> float:
            a, b = 1 / (2 * sigma), eps * sigma
            return norm.cdf(a - b) - math.exp(eps) * norm.cdf(-a - b)

        assert exact(epsilon) <= delta * 1.05  # never claims more privacy than there is
        assert exact(epsilon * (1 - slack)) > delta  # and isn't loose


def test_noise_and_epsilon_are_inverse_and_monotone():
    pytest.importorskip("opacus")
    noise = noise_for(3.0, 0.1, 100, 1e-5)
    assert privacy_spent(noise, 0.1, 100, 1e-5) == pytest.approx(3.0, abs=0.05)
    spent = [privacy_spent(z, 0.1, 100, 1e-5) for z in (0.8, 1.0, 2.0)]
    assert spent[0] > spent[1] > spent[2]
