"""The code lengths against their definitions, written out slowly."""

from math import comb, log2

import numpy as np
import pytest
from scipy import stats

from shared.patterns import (
    TransactionSet,
    binomial_regret,
    code_length,
    code_length_change,
    log2_binomial,
    log_fisher,
)
from shared.patterns import universal_code_length as universal
from shared.patterns._codes import Codes
from shared.patterns._fisher import least_support


@pytest.mark.parametrize("z", [1, 2, 3, 7, 100, 12345])
def test_universal_code_is_its_series(z):
    bits, term = log2(2.865064), log2(z)
    while term > 0:
        bits, term = bits + term, log2(term) if term > 0 else 0
    assert universal(z) == pytest.approx(bits, abs=1e-12)


def test_universal_code_satisfies_kraft():
    assert sum(2 ** -universal(z) for z in range(1, 20000)) < 1


def slow_regret(n):
    return log2(sum(comb(n, k) * (k / n) ** k * ((n - k) / n) ** (n - k) for k in range(n + 1)))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 57, 100, 400])
def test_regret_is_the_sum_over_all_outcomes(n):
    assert binomial_regret(n) == pytest.approx(slow_regret(n), abs=1e-9)


def test_regret_of_a_large_number_is_its_asymptote():
    n = 10**6
    assert binomial_regret(n) == pytest.approx(0.5 * log2(np.pi * n / 2), abs=2e-3)
    assert binomial_regret(0) == 0


def test_log2_binomial():
    assert log2_binomial(50, 17) == pytest.approx(log2(comb(50, 17)), rel=1e-12)


def slow_length(X, y, patterns):
    """The score from sets of rows, row by row."""
    n, m = X.shape
    rows = [set(np.flatnonzero(X[:, i])) for i in range(m)]
    label = [set(np.flatnonzero(y == v)) for v in (0, 1)]
    bits, support = 0.0, []
    for clauses in patterns:
        held = {t for t in range(n) if all(sum(t in rows[i] for i in c) == 1 for c in clauses)}
        support.append(held)
        bits += universal(len(clauses))
        bits += sum(log2(comb(m, len(c))) + slow_regret(m) for c in clauses)
        for part in label:
            here = held & part
            bits += log2(comb(len(part), len(here))) + slow_regret(len(part))
            for c in (c for c in clauses if len(c) > 1):
                left = len(here)
                for i in sorted(c):
                    a = len(here & rows[i])
                    bits += log2(comb(left, a)) + (slow_regret(left) if left else 0)
                    left -= a
                assert left == 0
    if patterns:
        bits += universal(len(patterns))
    for i in range(m):
        rest = rows[i] - set().union(*[s for s, p in zip(support, patterns) if any(i in c for c in p)])
        if rest:
            bits += log2(comb(n, len(rest))) + slow_regret(n)
    return bits


@pytest.mark.parametrize("seed", range(8))
def test_code_length_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.random((90, 12)) < rng.uniform(0.05, 0.5, 12), rng.integers(0, 2, 90)
    X[:, 10], X[:, 11] = True, False  # an item in every row, one in none
    data = TransactionSet.from_csr(X, y)
    patterns = [((0,), (1,)), ((2, 3), (4,)), ((1,), (5, 6, 7)), ((8,),), ((10,), (9,))]
    for number in range(len(patterns) + 1):
        chosen = patterns[:number]
        assert code_length(data, chosen) == pytest.approx(slow_length(X, y, chosen), rel=1e-12)


def test_the_change_is_a_difference_of_lengths():
    rng = np.random.default_rng(1)
    X, y = rng.random((80, 6)) < 0.3, rng.integers(0, 2, 80)
    data = TransactionSet.from_csr(X, y)
    before, after = [((0,), (1,)), ((2,),)], [((2,),), ((0,), (1,), (3,))]
    change = code_length_change(data, before, add=[((0,), (1,), (3,))], remove=[((0,), (1,))])
    assert change == pytest.approx(slow_length(X, y, after) - slow_length(X, y, before), abs=1e-9)


def test_clause_holds_where_exactly_one_item_is_present():
    """Five rows by hand: photo, picture, both, neither, photo; a plain union would hold in row 2 as well."""
    X = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]])
    y = np.array([0, 0, 0, 1, 1])
    pattern = ((0, 1),)
    placing = log2(comb(3, 2)) + log2(comb(2, 1)) + slow_regret(3) + slow_regret(2)
    naming = (log2(comb(2, 1)) + slow_regret(2) + log2(comb(1, 1)) + slow_regret(1)) + (slow_regret(1))
    singles = 2 * (log2(comb(5, 1)) + slow_regret(5))  # row 2 goes back to both items' own codes
    model = universal(1) + log2(comb(2, 2)) + slow_regret(2) + universal(1)
    data = TransactionSet.from_csr(X, y)
    assert code_length(data, [pattern]) == pytest.approx(placing + naming + singles + model, abs=1e-9)


def test_one_item_pattern_by_hand():
    """N = 4 + 4 rows, the item in 3 of label 0 and 1 of label 1."""
    X = np.zeros((8, 1))
    X[[0, 1, 2, 4]] = 1
    data = TransactionSet.from_csr(X, [0, 0, 0, 0, 1, 1, 1, 1])
    assert code_length(data, []) == pytest.approx(log2(70) + slow_regret(8))
    with_pattern = 2 * log2(2.865064) + slow_regret(1) + 2 * log2(4) + 2 * slow_regret(4)
    assert code_length(data, [((0,),)]) == pytest.approx(with_pattern)


def test_naming_is_a_multinomial_and_its_regrets():
    held = np.array([[3, 0], [5, 2], [1, 4]])
    codes = Codes(100, 10, (50, 50))
    multinomial = log2(comb(9, 3) * comb(6, 5)) + log2(comb(6, 2))
    regrets = sum(slow_regret(m) for m in (9, 6, 1, 6, 6, 4))
    assert codes.naming((9, 6), held) == pytest.approx(multinomial + regrets, abs=1e-9)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [((), "empty clause"), (((),), "empty clause"), (((0,), (0,)), "distinct item numbers"), (((7,),), r"0\.\.2")],
)
def test_bad_patterns(pattern, message):
    data = TransactionSet.from_csr(np.eye(3), [0, 1, 1])
    with pytest.raises(ValueError, match=message):
        code_length(data, [pattern])


def test_bad_numbers():
    with pytest.raises(ValueError, match="z=0"):
        universal(0)
    with pytest.raises(ValueError, match="n=-1"):
        binomial_regret(-1)


@pytest.mark.parametrize("seed", range(3))
def test_fisher_is_scipys(seed):
    rng = np.random.default_rng(seed)
    n0, n1 = (int(v) for v in rng.integers(5, 400, 2))
    a, b = rng.integers(0, n0 + 1, 40), rng.integers(0, n1 + 1, 40)
    got = np.exp(log_fisher(a, b, (n0, n1)))
    for p, x0, x1 in zip(got, a, b):
        odds0, odds1 = (x / (n - x) if n > x else np.inf for x, n in ((x0, n0), (x1, n1)))
        table = [[x0, n0 - x0], [x1, n1 - x1]] if odds0 > odds1 else [[x1, n1 - x1], [x0, n0 - x0]]
        assert p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9)


def test_fisher_does_not_underflow():
    log_p = float(log_fisher(20000, 0, (20000, 20000)))
    assert np.isfinite(log_p)
    assert log_p < -20000


@pytest.mark.parametrize("labels", [(30, 70), (5, 200), (3, 3), (60, 60)])
def test_least_support_is_the_smallest_that_can_pass(labels):
    least = least_support(0.01, labels)
    passes = {
        s: min(float(log_fisher(a, s - a, labels)) for a in range(max(0, s - labels[1]), min(s, labels[0]) + 1))
        <= np.log(0.01)
        for s in range(1, sum(labels))
    }
    assert not any(ok for s, ok in passes.items() if s < least)
    if min(labels) > 5:
        assert passes[least]
