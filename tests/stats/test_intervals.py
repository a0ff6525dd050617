"""Intervals: against scipy, against slow re-implementations, by their coverage, and at the edges."""

import numpy as np
import pytest
from scipy import stats

from shared.stats import difference_interval, mean_interval, paired_interval, share_difference_interval, wilson_interval


def sample(n, seed=0, shift=0.0):
    return np.random.default_rng(seed).exponential(size=n) + shift


@pytest.mark.parametrize("n", [2, 3, 14])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_few_values_give_students_t(n, level):
    values = sample(n)
    low, high, estimate, said = mean_interval(values, level=level)
    t = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (low, high) == pytest.approx((t.low, t.high), rel=1e-12)
    assert (estimate, said) == (pytest.approx(values.mean()), level)


@pytest.mark.parametrize("n", [15, 60])
def test_more_values_give_the_widened_percentile_bootstrap(n):
    """Slow and obvious: draw by draw, with the same draws."""
    values, level = sample(n), 0.9
    generator = np.random.default_rng(5)
    means = [values[row].mean() for row in generator.integers(n, size=(2000, n))]
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1))
    found = mean_interval(values, level=level, n_resamples=2000, generator=np.random.default_rng(5))
    assert found[:2] == pytest.approx(np.quantile(means, [tail, 1 - tail]), abs=1e-12)


def test_many_values_agree_with_scipys_bootstrap():
    values = sample(400)
    peer = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, random_state=1)
    found = mean_interval(values, n_resamples=20_000)
    width = found.high - found.low
    assert found[:2] == pytest.approx(tuple(peer.confidence_interval), abs=0.03 * width)


@pytest.mark.parametrize("n", [3, 8, 14, 15, 30])
def test_the_mean_interval_covers(n):
    draws = np.random.default_rng(n).normal(size=(n, 4000))
    low, high, _, _ = mean_interval(draws, n_resamples=1500)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.013)


def test_the_docstrings_reason_not_to_resample_few_values():
    for n, share in ((3, 0.75), (5, 0.84), (10, 0.90)):
        data = np.random.default_rng(n).normal(size=(3000, n))
        rows = np.random.default_rng(0).integers(n, size=(1000, n))
        low, high = np.quantile(data[:, rows].mean(2), [0.025, 0.975], axis=1)
        assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(share, abs=0.02)


def test_chunks_and_further_axes_change_nothing(monkeypatch):
    values = sample(20 * 6).reshape(20, 2, 3)
    whole = mean_interval(values, n_resamples=500)
    alone = mean_interval(values[:, 1, 2], n_resamples=500)
    assert isinstance(alone.low, float)
    assert (whole.low[1, 2], whole.high[1, 2], whole.estimate[1, 2]) == pytest.approx(alone[:3], abs=1e-12)
    monkeypatch.setattr("shared.stats._intervals._CELLS", 7 * 20)
    assert np.allclose(mean_interval(values, n_resamples=500).low, whole.low, atol=1e-12, rtol=0)


def test_the_same_data_give_the_same_interval_and_a_generator_another():
    values = sample(30)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, generator=np.random.default_rng(1))


@pytest.mark.parametrize("n", [3, 40])
def test_equal_values_give_zero_width(n):
    for found in (mean_interval([0.1] * n), paired_interval([0.3] * n, [0.2] * n)):
        assert found.low == found.high == found.estimate
    low, high, estimate, _ = difference_interval([0.3] * n, [0.2] * n)
    assert low == high == estimate == pytest.approx(0.1)


def test_a_paired_interval_is_that_of_the_differences():
    values, others = sample(25), sample(25, seed=1)
    assert paired_interval(values, others) == mean_interval(values - others)


def test_pairing_pays_where_units_differ():
    units = 10 * np.random.default_rng(0).normal(size=12)
    noise = 0.1 * np.random.default_rng(1).normal(size=12)
    paired = paired_interval(units + 1 + noise, units)
    unpaired = difference_interval(units + 1 + noise, units)
    assert paired.low > 0 > unpaired.low


@pytest.mark.parametrize("sizes", [(4, 9), (14, 200)])
def test_a_small_sample_gives_welchs_t(sizes):
    values, others = sample(sizes[0]), sample(sizes[1], seed=1, shift=0.5)
    welch = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    assert difference_interval(values, others)[:2] == pytest.approx((welch.low, welch.high), rel=1e-12)


def test_the_difference_of_larger_samples_agrees_with_scipys_bootstrap():
    values, others = sample(300), sample(500, seed=1, shift=0.5)
    peer = stats.bootstrap(
        (values, others), lambda a, b, axis: a.mean(axis) - b.mean(axis), method="percentile", random_state=1
    )
    found = difference_interval(values, others)
    assert found[:2] == pytest.approx(tuple(peer.confidence_interval), abs=0.03 * (found.high - found.low))


@pytest.mark.parametrize("sizes", [(5, 10), (15, 40)])
def test_the_difference_interval_covers(sizes):
    generator, covered = np.random.default_rng(0), []
    for _ in range(1500):
        values, others = generator.normal(size=sizes[0]), generator.normal(0, 3, size=sizes[1])
        low, high, _, _ = difference_interval(values, others, n_resamples=400)
        covered.append(low <= 0 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 7), (20, 20), (17, 40)])
def test_wilson_is_scipys(k, n):
    peer = stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
    assert wilson_interval(k, n, level=0.9) == pytest.approx((peer.low, peer.high, k / n, 0.9), abs=1e-12)


def test_wilson_is_vectorised():
    found = wilson_interval([0, 3, 7], 7)
    assert found.low.shape == (3,)
    assert found.high[1] == wilson_interval(3, 7).high


def test_wilson_covers():
    low, high, _, _ = wilson_interval(np.random.default_rng(0).binomial(20, 0.7, 4000), 20)
    assert 0.93 < np.mean((low <= 0.7) & (high >= 0.7)) < 0.98


def pairs(more, less, n):
    """Answers of n units: `more` succeed in the first alone, `less` in the second alone, the others in both."""
    first, second = np.ones(n, bool), np.ones(n, bool)
    second[:more], first[more : more + less] = False, False
    return first, second


def test_a_paired_difference_of_shares_is_bonett_and_prices():
    """Worked: 5 and 1 of 71 give (6 - 2)/73 with the variance of (6 + 2)/73."""
    low, high, estimate, _ = share_difference_interval(*pairs(5, 1, 71))
    error = 1.959964 * np.sqrt((8 / 73 - (4 / 73) ** 2) / 73)
    assert (low, high, estimate) == pytest.approx((4 / 73 - error, 4 / 73 + error, 4 / 71), abs=1e-6)


@pytest.mark.parametrize("n", [71, 300])
def test_a_paired_difference_of_shares_decides_as_the_sign_test_does(n):
    for more in range(1, 12):
        low = share_difference_interval(*pairs(more, 0, n)).low
        assert (low > 0) == (stats.binomtest(more, more).pvalue < 0.05)


def test_a_difference_of_shares_of_two_samples_is_agresti_and_caffos():
    low, high, estimate, _ = share_difference_interval([1, 1, 0, 1], [0, 0, 1], paired=False, level=0.9)
    error = 1.644854 * np.sqrt((4 / 6) * (2 / 6) / 6 + (2 / 5) * (3 / 5) / 5)
    assert (low, high) == pytest.approx((4 / 6 - 2 / 5 - error, 4 / 6 - 2 / 5 + error), abs=1e-6)
    assert estimate == pytest.approx(3 / 4 - 1 / 3)


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_of_shares_covers(paired):
    """Rare differences, where resampling covers far less."""
    generator, covered, resampled = np.random.default_rng(0), [], []
    for _ in range(1500):
        first = generator.random(40) < 0.95
        second = first ^ (generator.random(40) < 0.05) if paired else generator.random(40) < 0.9
        truth = 0.95 - (0.95 * 0.95 + 0.05 * 0.05) if paired else 0.05
        low, high, _, _ = share_difference_interval(first, second, paired=paired)
        covered.append(low <= truth <= high)
        if paired:
            low, high, _, _ = mean_interval(first * 1.0 - second, n_resamples=400)
            resampled.append(low <= truth <= high)
    assert np.mean(covered) > 0.93
    assert not paired or np.mean(resampled) < 0.9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: share_difference_interval([1, 0, 2], [0, 0, 1]), "successes holds 2"),
        (lambda: share_difference_interval([1, 0, 1], [0, 0.5, 1]), "others holds 0.5"),
        (lambda: share_difference_interval([1, 0, 1], [0, 1]), "others has shape"),
        (lambda: share_difference_interval([1], [0, 1], paired=False), "successes has 1 row"),
        (lambda: mean_interval([1.0]), "values has 1 row"),
        (lambda: mean_interval(1.0), "values is one number"),
        (lambda: mean_interval([1.0, np.nan]), "values has 1 NaN"),
        (lambda: mean_interval([1.0, 2.0], level=95), "level=95"),
        (lambda: mean_interval(np.ones(20), n_resamples=0), "n_resamples=0"),
        (lambda: paired_interval([1.0, 2.0], [1.0, 2.0, 3.0]), "others has shape"),
        (lambda: difference_interval([1.0, 2.0], [[1.0], [2.0]]), "others has shape"),
        (lambda: wilson_interval(3, 0), "n=0"),
        (lambda: wilson_interval(3, 2), "successes / n=1.5"),
        (lambda: wilson_interval([-1, 2], 2), "successes=-1"),
        (lambda: wilson_interval([1, 2], [3, 3, 3]), "broadcast"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
