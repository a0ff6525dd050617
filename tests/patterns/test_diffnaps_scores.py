"""Generator, scores and baselines around DiffNaps."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import fisher_exact

from shared.patterns import (
    TooManyPatternsError,
    conjunction_matrix,
    coverage_curve,
    mean_log_odds,
    pattern_table,
    premise_patterns,
    significant_patterns,
    soft_f1_by_class,
    tree_patterns,
)
from shared.patterns.diffnaps._baselines import frequent_sets, supports
from shared.worlds import plant_class_patterns


def _rng(seed=0):
    return np.random.default_rng([seed, 23])


# --- scores ---------------------------------------------------------------------------------------------------
def test_conjunctions_against_loops():
    rng = _rng()
    X = (rng.random((40, 12)) < 0.6).astype(int)
    patterns = [(0, 1), (2,), (), (3, 4, 5, 11), (7, 9)]
    held = conjunction_matrix(X, patterns).toarray()
    for row in range(40):
        assert held[row].tolist() == [int(all(X[row, i] for i in p)) for p in patterns]
    assert (conjunction_matrix(sparse.csc_matrix(X), patterns).toarray() == held).all()
    assert conjunction_matrix(X, []).shape == (40, 0)
    with pytest.raises(ValueError, match="item 12"):
        conjunction_matrix(X, [(0, 12)])


def test_soft_f1_by_hand():
    truth = {"a": [(0, 1, 2, 3), (4, 5)], "b": [(6, 7)], "c": [(8, 9)]}
    found = {"a": [(0, 1), (4, 5), (10,)], "b": [(6, 7)]}
    precision, recall = (0.5 + 1 + 0) / 3, (0.5 + 1) / 2
    score = soft_f1_by_class(found, truth)
    f1 = 2 * precision * recall / (precision + recall)
    assert score.per_class == pytest.approx({"a": f1, "b": 1.0, "c": 0.0})
    assert score.f1 == pytest.approx((f1 + 1) / 3)
    assert score.precision == pytest.approx((precision + 1) / 3)
    assert score.recall == pytest.approx((recall + 1) / 3)


def _labelled():
    X = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]])
    return X, np.array(["a", "a", "a", "a", "b", "b", "b", "b"])


def test_pattern_table_by_hand():
    X, y = _labelled()
    table = pattern_table({"a": [(0,), (0, 1)], "b": [(2,)]}, X, y, names=["p", "q", "r"])
    rows = table.set_index("pattern")
    assert rows.loc["p & q", ["support_in", "support_out", "p_class"]].tolist() == pytest.approx([2 / 4, 1 / 4, 2 / 3])
    assert rows.loc["p", "log_odds"] == pytest.approx(math.log(3))
    assert rows.loc["r", "class"] == "b"
    assert table["pattern"].tolist()[0] in ("p", "r")  # the largest gap in support first
    assert mean_log_odds({"a": [(0,), (0, 1)], "b": [(2,)]}, X, y) == pytest.approx((2 * math.log(3) + math.log(2)) / 3)


def test_log_odds_leave_out_what_is_undefined():
    X, y = _labelled()
    assert mean_log_odds({"a": [(0,), (1, 2)]}, X[y == "a"].repeat(2, 0), np.repeat(["a", "b"], 4)) != 0
    X[4] = 0
    assert pattern_table({"a": [(0,)]}, X, y)["log_odds"].tolist() == [math.inf]
    assert math.isnan(mean_log_odds({"a": [(0,)]}, X, y))
    assert math.isnan(mean_log_odds({}, X, y))


def _slow_coverage(patterns, X, y, points=21):
    grid, classes = np.linspace(0, 1, points), sorted(set(y))
    means = []
    for q in grid:
        covered = []
        for label in classes:
            rows = X[y == label]
            hit = np.zeros(len(rows), dtype=bool)
            for p in patterns.get(label, []):
                has = X[:, p].all(1)
                share = (y[has] == label).mean() if has.any() else 0
                if share > q and share > 1 / len(classes) + 0.1:
                    hit |= rows[:, p].all(1)
            covered.append(hit.mean())
        means.append(np.mean(covered))
    return np.array(means)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coverage_curve_against_loops(seed):
    rng = _rng(seed)
    X, y = (rng.random((60, 8)) < 0.5).astype(int), rng.integers(0, 3, 60)
    patterns = {c: [tuple(rng.choice(8, 2, replace=False).tolist()) for _ in range(5)] for c in (0, 1)}
    curve = coverage_curve(patterns, X, y)
    expected = _slow_coverage(patterns, X, y)
    np.testing.assert_allclose(curve.coverage, expected)
    assert curve.auc == pytest.approx(expected.mean())
    assert (np.diff(curve.coverage) <= 0).all()


# --- baselines ------------------------------------------------------------------------------------------------
def _planted():
    return plant_class_patterns(
        40, rows_per_class=300, patterns_per_class=3, patterns_per_row=1, additive=2, generator=_rng()
    )


def test_frequent_sets_against_all_subsets():
    X = (_rng().random((50, 7)) < 0.6).astype(int)
    expected = sorted(
        p for k in range(1, 5) for p in itertools.combinations(range(7), k) if X[:, p].all(1).sum() >= 0.3 * 50
    )
    found = frequent_sets(X, 0.3, 4, 1000)
    assert sorted(found) == expected
    assert supports(X, found).tolist() == [X[:, p].all(1).sum() for p in found]
    with pytest.raises(TooManyPatternsError, match="over the limit"):
        frequent_sets(X, 0.01, 7, 20)


def test_significant_patterns_pass_fishers_test():
    data = _planted()
    found = significant_patterns(data.X, data.y, min_support=0.2, max_length=2)
    assert sum(map(len, found.values())) > 0
    for label, patterns in found.items():
        mine = data.y == label
        number = len(frequent_sets(data.X[mine], 0.2, 2, 10**6))
        for p in patterns:
            a, b = (int(data.X[rows][:, p].all(1).sum()) for rows in (mine, ~mine))
            table = [[a, mine.sum() - a], [b, (~mine).sum() - b]]
            assert fisher_exact(table, alternative="greater").pvalue <= 0.05 / number


def test_tree_patterns_are_its_paths():
    X = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 10)
    y = np.where(X.all(1), "both", "not")
    found = tree_patterns(X, y)
    assert found["both"] == [(0, 1)]
    assert found["not"] in ([(0,)], [(1,)])  # present on the way to a leaf of the other class
    assert tree_patterns(X, y.astype(object)) == found  # labels as pandas gives them


def test_premise_patterns_for_two_and_three_classes():
    data = _planted()
    names = np.array(["u", "v"])[data.y]
    found = premise_patterns(data.X, names)
    truth = {"u": data.truth[0], "v": data.truth[1]}
    assert soft_f1_by_class(found, truth).f1 > 0.5
    three = plant_class_patterns(
        60, n_classes=3, rows_per_class=300, patterns_per_class=2, patterns_per_row=1, additive=2, generator=_rng(1)
    )
    found = premise_patterns(pd.DataFrame(three.X), three.y)
    assert list(found) == [0, 1, 2]
    assert soft_f1_by_class(found, three.truth).f1 > 0.5
