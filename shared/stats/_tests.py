"""Do two samples come from one distribution? Permutation tests of differences that are quadratic forms.

Székely and Rizzo 2013, "Energy statistics" (J. Stat. Plan. Inference 143); Gretton et al. 2012, "A kernel two-sample
test" (JMLR 13); Phipson and Smyth 2010 for the p-value (arXiv 1603.05766).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from shared._checks import check_choice, check_finite, check_range, check_shape

CORRECTIONS = ("holm", "bonferroni", "fdr")
STATISTICS = ("energy", "mmd", "mean")
_CELLS = 2**22  # entries of the assignments held at once: 32 MiB


class PermutationResult(NamedTuple):
    """Outcome of a permutation test.

    Attributes
    ----------
    statistic : float
        The observed difference of the samples; larger is further apart.
    p_value : float
        (1 + number of permutations with a difference as large) / (1 + n_permutations).
    null : (n_permutations,) float64
        The differences under permutation.
    """

    statistic: float
    p_value: float
    null: np.ndarray


def adjust_p_values(p_values: ArrayLike, *, method: str = "holm") -> np.ndarray:
    """P-values that may each be compared with the level, though m tests were made.

    Parameters
    ----------
    p_values : (m,)
        Of the tests, in [0, 1].
    method : str
        "bonferroni" and "holm" (Holm 1979, never less powerful) bound the chance of any false finding, whatever the
        tests' dependence; "fdr" (Benjamini & Hochberg 1995) bounds the expected share of false findings among all.

    Returns
    -------
    (m,)
        Adjusted, in the order given, at most 1.

    Raises
    ------
    ValueError
        If a value is outside [0, 1] or the method is unknown.
    """
    check_choice("method", method, CORRECTIONS)
    values = np.asarray(p_values, dtype=float)
    check_shape("p_values", values, ("m",))
    check_finite("p_values", values)
    check_range("p_values", float(values.min(initial=0)), 0)
    check_range("p_values", float(values.max(initial=0)), None, 1)
    order, m = np.argsort(values), len(values)
    ranked, rank = values[order], np.arange(1, m + 1)
    if method == "bonferroni":
        adjusted = ranked * m
    elif method == "holm":  # a test can't be rejected where a smaller p-value was not
        adjusted = np.maximum.accumulate(ranked * (m + 1 - rank))
    else:
        adjusted = np.minimum.accumulate((ranked * m / rank)[::-1])[::-1]
    result = np.empty(m)
    result[order] = adjusted.clip(max=1)
    return result


def permutation_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    statistic: str | Callable[[np.ndarray, np.ndarray], float] = "energy",
    n_permutations: int = 999,
    generator: np.random.Generator | None = None,
    paired: bool = False,
) -> PermutationResult:
    """Two-sample test by permutation: exact for any statistic whose units are exchangeable under the null.

    Parameters
    ----------
    a, b : (n,) and (m,), or (n, d) and (m, d)
        Samples, one row per independent unit; finite.
    statistic : "energy", "mmd", "mean" or callable
        "energy" is 2 E|a − b| − E|a − a'| − E|b − b'|; "mmd" the squared maximum mean discrepancy for a Gaussian kernel
        as wide as the median distance; "mean" the distance of the means. A callable takes two samples of the given
        shapes and returns a number, larger for further apart.
    n_permutations : int
        The smallest p-value is 1 / (n_permutations + 1). Memory grows with (n + m)².
    generator : numpy Generator, optional
        For the permutations; a new one of seed 0 by default.
    paired : bool
        Row i of both is one unit's: values are exchanged within units only.

    Returns
    -------
    PermutationResult
        `(statistic, p_value, null)`.

    Raises
    ------
    ValueError
        For wrong or differing shapes, fewer than 2 rows, NaN or infinity, an unknown statistic.
    """
    first, second = _samples(a, b, paired)
    check_range("n_permutations", n_permutations, 1)
    if not callable(statistic):
        check_choice("statistic", statistic, STATISTICS)
    draws = np.random.default_rng(0) if generator is None else generator
    in_first = _assignments(len(first), len(second), n_permutations, paired, draws)
    pooled = np.concatenate([first, second])
    if callable(statistic):
        found = np.array([float(statistic(pooled[row], pooled[~row])) for row in in_first])
        scale = np.abs(found).max()
    else:
        found, scale = _quadratic(statistic, pooled, in_first, len(first))
    as_large = found[1:] >= found[0] - 1e-12 * scale  # equal differences may be summed in another order
    p_value = (1 + np.count_nonzero(as_large)) / (1 + n_permutations)
    if statistic == "mean":
        found = np.sqrt(np.clip(found, 0, None))
    return PermutationResult(float(found[0]), float(p_value), found[1:])


def _samples(a: ArrayLike, b: ArrayLike, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    samples = [np.asarray(a, dtype=float), np.asarray(b, dtype=float)]
    for name, data in zip(("a", "b"), samples):
        if data.ndim not in (1, 2):
            raise ValueError(f"{name} has shape {data.shape}; expected (n,) or (n, d)")
        check_finite(name, data)
        if len(data) < 2:
            raise ValueError(f"{name} has {len(data)} row; a test needs at least 2")
    first, second = samples
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"a has rows of shape {first.shape[1:]} and b of {second.shape[1:]}; they must be alike")
    if paired:
        check_shape("b", second, first.shape)
    return first, second


def _assignments(n: int, m: int, n_permutations: int, paired: bool, draws: np.random.Generator) -> np.ndarray:
    """Which pooled rows make the first sample, bool (1 + n_permutations, n + m); the first line is the observed one."""
    observed = np.arange(n + m) < n
    if paired:
        swap = draws.random((n_permutations, n)) < 0.5
        return np.concatenate([observed[None], np.concatenate([~swap, swap], 1)])
    keys = draws.random((n_permutations, n + m))
    ranks = keys.argsort(1).argsort(1)
    return np.concatenate([observed[None], ranks < n])


def _quadratic(statistic: str, pooled: np.ndarray, in_first: np.ndarray, n: int) -> tuple[np.ndarray, float]:
    """u'Mu for each assignment, u being 1/n on the first sample and −1/m on the second; and the size of its terms."""
    matrix = _form(statistic, pooled.reshape(len(pooled), -1))
    signed = np.where(in_first, 1 / n, -1 / (len(pooled) - n))
    chunk = max(1, _CELLS // len(pooled))
    parts = [signed[i : i + chunk] for i in range(0, len(signed), chunk)]
    found = np.concatenate([np.einsum("pi,pi->p", part @ matrix, part) for part in parts])
    return found, float(np.abs(matrix).mean())


def _form(statistic: str, rows: np.ndarray) -> np.ndarray:
    if statistic == "mean":
        centred = rows - rows.mean(0)
        return centred @ centred.T
    distances = cdist(rows, rows)
    if statistic == "energy":
        return -distances
    apart = distances[distances > 0]
    width = np.median(apart) if len(apart) else 1.0
    return np.exp(-((distances / width) ** 2) / 2)
