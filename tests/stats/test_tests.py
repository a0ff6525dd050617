"""Permutation tests: statistics by their definition, p-values under null and alternative, pairing."""

import numpy as np
import pytest
from scipy import stats as peer

from shared.stats import permutation_test

rng = np.random.default_rng


def mean_distance(x, y):
    return np.mean([np.linalg.norm(u - v) for u in x for v in y])


def test_the_energy_distance_is_its_definition():
    a, b = rng(0).normal(size=(7, 2)), rng(1).normal(size=(9, 2))
    want = 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)
    assert permutation_test(a, b, n_permutations=1).statistic == pytest.approx(want, abs=1e-12)
    line = permutation_test(a[:, 0], b[:, 0], n_permutations=1).statistic
    assert line == pytest.approx(peer.energy_distance(a[:, 0], b[:, 0]) ** 2, abs=1e-12)


def test_the_mmd_is_its_definition():
    a, b = rng(0).normal(size=(7, 2)), rng(1).normal(size=(9, 2))
    pooled = np.concatenate([a, b])
    apart = [np.linalg.norm(u - v) for i, u in enumerate(pooled) for v in pooled[:i]]

    def kernel(x, y):
        return np.mean([np.exp(-(np.linalg.norm(u - v) ** 2) / 2 / np.median(apart) ** 2) for u in x for v in y])

    want = kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)
    assert permutation_test(a, b, statistic="mmd", n_permutations=1).statistic == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("paired", [False, True])
def test_a_callable_is_tried_on_the_same_permutations(paired):
    a, b = rng(0).normal(size=(8, 3)), rng(1).normal(size=(8, 3))
    ours = permutation_test(a, b, statistic="mean", n_permutations=50, paired=paired)
    slow = permutation_test(
        a, b, statistic=lambda x, y: np.linalg.norm(x.mean(0) - y.mean(0)), n_permutations=50, paired=paired
    )
    assert ours.null == pytest.approx(slow.null, abs=1e-12)
    assert ours.p_value == slow.p_value


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_are_scipys(paired):
    a, b = rng(0).normal(size=12), rng(1).normal(0.8, 1, size=12)
    theirs = peer.permutation_test(
        (a, b),
        lambda x, y, axis: np.abs(x.mean(axis) - y.mean(axis)),
        permutation_type="samples" if paired else "independent",
        alternative="greater",
        n_resamples=9999,
        random_state=0,
    )
    ours = permutation_test(a, b, statistic="mean", n_permutations=9999, paired=paired)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.015)


@pytest.mark.parametrize("statistic", ["energy", "mmd", "mean"])
def test_p_values_are_uniform_under_the_null(statistic):
    found = []
    for seed in range(300):
        a, b = rng(seed).normal(size=(2, 10, 2))
        found.append(permutation_test(a, b, statistic=statistic, n_permutations=99, generator=rng(seed)).p_value)
    assert peer.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.09


@pytest.mark.parametrize("statistic", ["energy", "mmd"])
def test_a_difference_of_spread_alone_is_found(statistic):
    a, b = rng(0).normal(size=(60, 2)), rng(1).normal(0, 3, size=(60, 2))
    b -= b.mean(0) - a.mean(0)
    assert permutation_test(a, b, statistic=statistic).p_value == 0.001
    assert permutation_test(a, b, statistic="mean").p_value > 0.5


def test_pairing_sees_a_shift_smaller_than_the_units_spread():
    units = rng(0).normal(0, 10, size=20)
    shifted = units + 0.5 + 0.1 * rng(1).normal(size=20)
    assert permutation_test(units, shifted, statistic="mean", paired=True).p_value == 0.001
    assert permutation_test(units, shifted, statistic="mean").p_value > 0.5


@pytest.mark.parametrize("statistic", ["energy", "mmd", "mean"])
def test_units_do_not_matter(statistic):
    a, b = rng(0).normal(size=12), rng(1).normal(1, 1, size=12)
    found = [permutation_test(a * unit, b * unit, statistic=statistic).p_value for unit in (1e-9, 1, 1e9)]
    assert found[0] == found[1] == found[2] < 0.2


def test_equal_samples_are_no_evidence():
    assert permutation_test(np.ones(5), np.ones(6)).p_value == 1
    a = rng(0).normal(size=9)
    for statistic in ("energy", "mmd", "mean"):
        assert permutation_test(a, a, statistic=statistic, paired=True).p_value == 1


def test_chunks_change_nothing_and_the_seed_is_fixed(monkeypatch):
    a, b = rng(0).normal(size=(2, 9))
    whole = permutation_test(a, b)
    monkeypatch.setattr("shared.stats._tests._CELLS", 100)
    assert permutation_test(a, b).null == pytest.approx(whole.null, abs=1e-14)
    assert permutation_test(a, b, generator=rng(1)).null != pytest.approx(whole.null)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: permutation_test(np.ones(5), np.ones((5, 2))), "a has rows of shape"),
        (lambda: permutation_test(np.ones(5), np.ones(4), paired=True), "b has shape"),
        (lambda: permutation_test(np.ones(5), np.ones(1)), "b has 1 row"),
        (lambda: permutation_test(np.ones(5), np.ones(5), statistic="t"), "energy, mmd, mean"),
        (lambda: permutation_test(np.ones(5), np.ones(5), n_permutations=0), "n_permutations"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
