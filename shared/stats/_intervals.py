"""Confidence intervals of means, of shares and of their differences, from one number per independent unit.

Hesterberg 2015, "What teachers should know about the bootstrap" (The American Statistician 69; arXiv 1411.5279).
Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data"
(Journal of Educational and Behavioral Statistics 37). Agresti & Caffo 2000, "Simple and effective confidence intervals
for proportions and differences of proportions" (The American Statistician 54).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from shared._checks import check_finite, check_range, check_shape

FEWEST_FOR_BOOTSTRAP = 15
_CELLS = 2**22  # resampled values held at once: 32 MiB


class Interval(NamedTuple):
    """An interval estimate; it unpacks as `low, high, estimate, level`.

    Attributes
    ----------
    low, high : float or ndarray
        The ends.
    estimate : float or ndarray
        What the data say: their mean, difference or share.
    level : float
        The confidence level, e.g. 0.95.
    """

    low: float | np.ndarray
    high: float | np.ndarray
    estimate: float | np.ndarray
    level: float


def mean_interval(
    values: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    generator: np.random.Generator | None = None,
) -> Interval:
    """Confidence interval of a mean.

    Below 15 values it is Student's t, since resampling a few values shows too little of their tails: for normal data
    the 95 % percentile bootstrap of 3 values covers the mean in 75 of 100 cases, of 5 in 84, of 10 in 90; t in 95.
    From 15 on it is the percentile bootstrap with Hesterberg's widening, which follows the skewness of the data; its
    tails are those for which the normal quantile times √((n − 1)/n) is Student's. Equal values give zero width; for the
    share of successes `wilson_interval` is the better one.

    Parameters
    ----------
    values : (n,) or (n, ...), one row per independent unit
        Finite, at least 2 rows. Further axes hold one mean each; their rows are drawn together.
    level : float
        Confidence level in (0, 1).
    n_resamples : int
        Bootstrap draws; time grows with n_resamples · n.
    generator : numpy Generator, optional
        For the draws; a new one of seed 0 by default, so that the same data give the same interval.

    Returns
    -------
    Interval
        Floats, or arrays of the further axes' shape.

    Raises
    ------
    ValueError
        If values hold fewer than two rows, NaN or infinity, or level is outside (0, 1).
    """
    data = _units("values", values)
    _check_level(level)
    estimate = _mean(data)
    if len(data) < FEWEST_FOR_BOOTSTRAP:
        error = np.sqrt(_variance(data) / len(data))
        return _interval(*_around(estimate, error, stdtrit(len(data) - 1, (1 + level) / 2)), estimate, level)
    check_range("n_resamples", n_resamples, 1)
    means = _resampled_means(data, n_resamples, _default(generator))
    width = stdtrit(len(data) - 1, (1 + level) / 2) * np.sqrt(len(data) / (len(data) - 1))
    low, high = _quantiles(means, ndtr(width))
    return _interval(low, high, estimate, level)


def paired_interval(
    values: ArrayLike,
    others: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    generator: np.random.Generator | None = None,
) -> Interval:
    """Confidence interval of the mean of `values − others`, two measurements of the same units.

    Parameters
    ----------
    values, others : (n,) or (n, ...)
        Row i of both belongs to unit i.
    level, n_resamples, generator
        As in `mean_interval`, which is applied to the differences.

    Returns
    -------
    Interval
        Above zero where `values` are larger.

    Raises
    ------
    ValueError
        As `mean_interval`, and if the shapes differ.
    """
    first, second = _units("values", values), _units("others", others)
    check_shape("others", second, first.shape)
    return mean_interval(first - second, level=level, n_resamples=n_resamples, generator=generator)


def difference_interval(
    values: ArrayLike,
    others: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    generator: np.random.Generator | None = None,
) -> Interval:
    """Confidence interval of `mean(values) − mean(others)`, two independent samples.

    Welch's t if one of them has fewer than 15 values; else both are resampled, and the percentile interval is widened
    to Welch's quantile and standard error as `mean_interval`'s is to Student's.

    Parameters
    ----------
    values, others : (n,) and (m,)
        One number per independent unit, at least 2 each.
    level, n_resamples, generator
        As in `mean_interval`.

    Returns
    -------
    Interval
        Above zero where `values` are larger.

    Raises
    ------
    ValueError
        As `mean_interval`, and if an array isn't one-dimensional.
    """
    samples = [_units("values", values), _units("others", others)]
    for name, data in zip(("values", "others"), samples):
        check_shape(name, data, ("n",))
    _check_level(level)
    sizes = np.array([len(data) for data in samples])
    estimate = _mean(samples[0]) - _mean(samples[1])
    squared = np.array([_variance(data) for data in samples]) / sizes  # squared standard errors of the means
    if not squared.any():
        return _interval(estimate, estimate, estimate, level)
    freedom = squared.sum() ** 2 / (squared**2 / (sizes - 1)).sum()
    quantile = stdtrit(freedom, (1 + level) / 2)
    if sizes.min() < FEWEST_FOR_BOOTSTRAP:
        return _interval(*_around(estimate, np.sqrt(squared.sum()), quantile), estimate, level)
    check_range("n_resamples", n_resamples, 1)
    draws = _default(generator)
    first, second = (_resampled_means(data, n_resamples, draws) for data in samples)
    narrow = np.sqrt(squared.sum() / (squared * (sizes - 1) / sizes).sum())  # the bootstrap divides by n
    low, high = _quantiles(first - second, ndtr(quantile * narrow))
    return _interval(low, high, estimate, level)


def wilson_interval(successes: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share: `successes` among `n` independent trials (Wilson 1927).

    Parameters
    ----------
    successes, n : int or array of ints
        Counts, of shapes that broadcast; 0 ≤ successes ≤ n and n ≥ 1.
    level : float
        Confidence level in (0, 1).

    Returns
    -------
    Interval
        Within [0, 1]; the estimate is successes / n.

    Raises
    ------
    ValueError
        If a count is out of range or level is outside (0, 1).
    """
    found, trials = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    check_finite("successes", found)
    check_finite("n", trials)
    try:
        np.broadcast_shapes(found.shape, trials.shape)
    except ValueError:
        raise ValueError(f"n has shape {trials.shape}, which doesn't broadcast to successes' {found.shape}") from None
    check_range("n", float(trials.min()), 1)
    check_range("successes", float(found.min()), 0)
    check_range("successes / n", float((found / trials).max()), None, 1)
    _check_level(level)
    share, squared = found / trials, ndtri((1 + level) / 2) ** 2
    middle = (share + squared / (2 * trials)) / (1 + squared / trials)
    half = np.sqrt(squared * (share * (1 - share) / trials + squared / (4 * trials**2))) / (1 + squared / trials)
    return _interval(np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1), share, level)


def share_difference_interval(
    successes: ArrayLike, others: ArrayLike, *, paired: bool = True, level: float = 0.95
) -> Interval:
    """Confidence interval of the share of `successes` less that of `others`.

    One trial is added to either kind of outcome before Wald's formula: of the same units Bonett & Price's interval,
    p₁₂ = (n₁₂ + 1)/(n + 2) for the units that succeed in `successes` alone and p₂₁ likewise; of two samples Agresti &
    Caffo's, p = (k + 1)/(n + 2) in each. Resampling can't do this: where 1 unit of 71 differs, it never sees the sign
    that it didn't draw. Here 5 differing units of 71 against 0 contain zero and 6 do not, as in the exact sign test.

    Parameters
    ----------
    successes, others : (n,) and (m,) truth values, or zeros and ones
        One per independent unit, at least 2 each; n = m if paired.
    paired : bool
        Whether entry i of both belongs to unit i.
    level : float
        Confidence level in (0, 1).

    Returns
    -------
    Interval
        Within [-1, 1]; above zero where `successes` has more of them. The estimate is the difference of the shares.

    Raises
    ------
    ValueError
        If an array isn't one-dimensional, is shorter than 2, holds anything but 0 and 1 or, if paired, has another
        length than the other; or if level is outside (0, 1).
    """
    samples = [_units("successes", successes), _units("others", others)]
    for name, data in zip(("successes", "others"), samples):
        check_shape(name, data, ("n",))
        if not np.isin(data, (0, 1)).all():
            stray = data[~np.isin(data, (0, 1))][0]
            raise ValueError(f"{name} holds {stray:g}; accepted: truth values, or zeros and ones")
    _check_level(level)
    first, second = samples
    if paired:
        check_shape("others", second, first.shape)
        trials = len(first) + 2
        more, less = (((first - second) == sign).sum() + 1 for sign in (1, -1))
        middle = (more - less) / trials
        error = np.sqrt(((more + less) / trials - middle**2) / trials)
    else:
        shares = [(data.sum() + 1) / (len(data) + 2) for data in samples]
        middle = shares[0] - shares[1]
        error = np.sqrt(sum(share * (1 - share) / (len(data) + 2) for share, data in zip(shares, samples)))
    low, high = np.clip(_around(middle, error, ndtri((1 + level) / 2)), -1, 1)
    return _interval(low, high, first.mean() - second.mean(), level)


def _units(argument: str, values: ArrayLike) -> np.ndarray:
    """Float64 rows, at least two of them."""
    data = np.asarray(values, dtype=float)
    if data.ndim == 0:
        raise ValueError(f"{argument} is one number; expected (n,), one per independent unit")
    check_finite(argument, data)
    if len(data) < 2:
        raise ValueError(f"{argument} has {len(data)} row; an interval needs at least 2 independent units")
    return data


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} is out of range; accepted: between 0 and 1, e.g. 0.95")


def _default(generator: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if generator is None else generator


def _mean(data: np.ndarray) -> np.ndarray:
    """Mean over rows, reckoned from the first: equal rows give exactly their value (as do all functions here)."""
    return data[0] + (data - data[0]).mean(0)


def _variance(data: np.ndarray) -> np.ndarray:
    return (data - data[0]).var(0, ddof=1)


def _around(estimate: np.ndarray, error: np.ndarray, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    return estimate - quantile * error, estimate + quantile * error


def _interval(low: ArrayLike, high: ArrayLike, estimate: ArrayLike, level: float) -> Interval:
    """Python floats unless there are further axes."""
    ends = [np.asarray(end) for end in (low, high, estimate)]
    return Interval(*(end.item() if end.ndim == 0 else end for end in ends), level)


def _quantiles(means: np.ndarray, upper: float) -> np.ndarray:
    return np.quantile(means, [1 - upper, upper], axis=0)


def _counts(drawn: np.ndarray) -> np.ndarray:
    """How often each of n rows was drawn, (draws, n)."""
    draws, n = drawn.shape
    return np.bincount((drawn + n * np.arange(draws)[:, None]).ravel(), minlength=draws * n).reshape(draws, n)


def _resampled_means(data: np.ndarray, n_resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Means (n_resamples, ...) of rows drawn with replacement; the draws don't depend on the chunks."""
    n = len(data)
    rows = (data - data[0]).reshape(n, -1)
    chunk = max(1, _CELLS // n)
    parts = []
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        drawn = generator.integers(n, size=(size, n))
        parts.append(rows[drawn, 0].mean(1) if data.ndim == 1 else _counts(drawn) @ rows / n)
    return np.concatenate(parts).reshape(n_resamples, *data.shape[1:]) + data[0]
