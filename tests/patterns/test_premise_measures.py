"""Scores and baselines against hand-worked examples and slow re-implementations."""

import itertools
from math import log, sqrt

import numpy as np
import pytest

from shared.patterns import (
    TransactionSet,
    clause_accuracy,
    ctfidf,
    frequent_itemsets,
    jaccard,
    log_odds,
    matching_prf,
    significant_itemsets,
    soft_f1,
    subgroups,
    tree_paths,
)
from shared.patterns._patterns import Pattern, pattern_text


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    X = rng.random((200, 10)) < 0.25
    X[:, 1] |= X[:, 0] & (y == 1)
    return TransactionSet.from_csr(X, y)


def test_soft_f1_by_hand():
    precision, recall, f1 = soft_f1([((1,), (2,)), ((9,),)], [((1,), (2,), (3,))])
    assert (precision, recall) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert f1 == pytest.approx(4 / 9)
    assert soft_f1([], [(1,)]).f1 == 0
    assert soft_f1([], []).f1 == 1
    assert jaccard(frozenset("ab"), frozenset("bc")) == pytest.approx(1 / 3)


def test_clause_accuracy_by_hand():
    p = Pattern(((1, 2), (3,)), (1, 1), 0, -1.0, -1.0, "pair")
    assert clause_accuracy([p], [((1, 2), (3,)), ((4, 5),)]) == pytest.approx(2 / 3)
    assert clause_accuracy([p], [((1,), (2,))]) == 0


def test_matching_by_hand():
    gold = [{"he"}, {"his"}, {"she", "her"}]
    assert matching_prf([{"he", "his"}], gold, mode="soft") == (1.0, pytest.approx(1 / 3), pytest.approx(0.5))
    assert matching_prf([{"he", "his"}, {"his"}], gold, mode="soft").recall == pytest.approx(2 / 3)
    assert matching_prf([{"he", "his"}, {"his"}], gold, mode="strict") == (
        0.5,
        pytest.approx(1 / 3),
        pytest.approx(0.4),
    )
    assert matching_prf([], gold).f1 == 0


def test_matching_depends_on_the_order():
    """{a, b} first takes {a}, then {a} finds it used up; the other way round both match."""
    gold = [{"a"}, {"b"}]
    assert matching_prf([{"a", "b"}, {"a"}], gold, mode="soft").precision == 0.5
    assert matching_prf([{"a"}, {"a", "b"}], gold, mode="soft").precision == 1.0


def test_matching_mode():
    with pytest.raises(ValueError, match="mode='loose' is unknown"):
        matching_prf([], [], mode="loose")


def test_pattern_text():
    assert pattern_text(((0,), (1, 2)), ["what", "color", "colour"]) == "what ∧ {color | colour}"


def test_frequent_itemsets_are_all_of_them(data):
    sets, counts = frequent_itemsets(data, 12, max_length=3)
    X = data.rows.toarray().astype(bool)
    want = {}
    for length in (1, 2, 3):
        for items in itertools.combinations(range(10), length):
            held = X[:, list(items)].all(1)
            if held.sum() >= 12:
                want[items] = [int((held & (data.labels == v)).sum()) for v in (0, 1)]
    assert dict(zip(sets, counts.tolist())) == want


def test_significant_itemsets_rank_by_p(data):
    found = significant_itemsets(data, min_support=12)
    assert found[0].items in {(1,), (0, 1)}
    assert all(a.log_p <= b.log_p for a, b in itertools.pairwise(found))
    loose = significant_itemsets(data, min_support=12, correction="none")
    assert len(loose) >= len(found)


def test_subgroups_rank_by_weighted_accuracy(data):
    best = subgroups(data, 1, min_support=12)[0]
    n, share = sum(best.support), data.n_label[1] / data.n_rows
    assert best.quality == pytest.approx(abs(n / 200 * (best.support[1] / n - share)))
    assert best.items == (1,)


def test_tree_paths_hold_present_items(data):
    for path in tree_paths(data, purity=1.5):
        assert sum(path.support) > 0


def test_ctfidf_is_its_formula(data):
    counts = data.item_counts
    weights = ctfidf(data)
    average = int(counts.sum() / 2)
    f = counts[:, 4].sum()
    want = sqrt(counts[0, 4] / counts[0].sum()) * log(1 + (average - f + 0.5) / (f + 0.5))
    assert weights[0, 4] == pytest.approx(want)


def test_log_odds_point_to_the_group_with_more(data):
    counts, total = data.item_counts, data.item_counts.sum(1)
    prior = 500 * counts[:, 1].sum() / counts.sum()
    odds = [log((counts[g, 1] + prior) / (total[g] + 500 - counts[g, 1] - prior)) for g in range(2)]
    z = (odds[0] - odds[1]) / sqrt(1 / (counts[0, 1] + prior) + 1 / (counts[1, 1] + prior))
    assert log_odds(data)[1] == pytest.approx(z)
    assert np.argmin(log_odds(data)) == 1  # item 1 was planted under label 1
