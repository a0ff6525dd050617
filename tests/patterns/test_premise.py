"""The search: the authors' program, ground truth, invariances, bad input."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from shared.patterns import (
    Premise,
    TransactionSet,
    code_length,
    exact_hits,
    jaccard,
    log_fisher,
    soft_f1,
    trap_violations,
)
from shared.patterns._metrics import clause_accuracy, item_set
from shared.patterns._neighbours import nearest_items, upper_quartile
from shared.patterns._search import Search
from shared.worlds import plant_clauses, plant_conjunctions

GOLDEN = Path(__file__).parents[1] / "golden"
PROGRAM = json.loads((GOLDEN / "premise_program.json").read_text())
ORIGIN = {"Singleton": "single", "Pair": "pair", "Comp+Singleton": "extension", "Comp+Comp": "merge"}


def found(model):
    return {(frozenset(map(frozenset, p.clauses)), p.support, p.direction) for p in model.patterns_}


@pytest.fixture(scope="module")
def planted():
    return plant_conjunctions(generator=np.random.default_rng(0), n_rows=1500, n_items=150)


@pytest.mark.parametrize("case", PROGRAM)
def test_equals_the_authors_program(case):
    """Same clauses, supports, directions, p, gains, origins and total length as the original; see tests/golden."""
    want, arrays = PROGRAM[case], np.load(GOLDEN / "premise_program.npz", allow_pickle=False)
    X = np.unpackbits(arrays[f"{case}/x"], axis=1, count=want["items"])
    vectors = arrays[f"{case}/v"] if f"{case}/v" in arrays else None
    model = Premise(n_neighbors=want["neighbours"]).fit(X, arrays[f"{case}/y"], item_vectors=vectors)
    assert model.code_length_ == pytest.approx(want["code_length"], rel=1e-9)
    ours = {tuple(sorted(tuple(sorted(c)) for c in p.clauses)): p for p in model.patterns_}
    theirs = {tuple(sorted(map(tuple, clauses))): rest for clauses, *rest in want["patterns"]}
    assert ours.keys() == theirs.keys()
    for clauses, (support, direction, p, gain, origin) in theirs.items():
        mine = ours[clauses]
        assert (list(mine.support), mine.direction, mine.origin) == (support, direction, ORIGIN[origin])
        assert np.exp(mine.log_p) == pytest.approx(p, rel=1e-4)  # the program prints six digits
        assert mine.gain == pytest.approx(gain, rel=1e-4)


@pytest.mark.parametrize("minority", [0.5, 0.2, 0.05])
def test_recovers_planted_conjunctions(minority):
    scores = []
    for seed in range(3):
        p = plant_conjunctions(generator=np.random.default_rng(seed), minority=minority)
        model = Premise().fit(p.X, p.y)
        scores.append(soft_f1(model.patterns_, p.patterns).f1)
    assert np.mean(scores) > 0.9


def test_finds_patterns_with_the_right_direction(planted):
    assert (
        exact_hits(Premise().fit(planted.X, planted.y).patterns_, planted.patterns, directions=planted.directions)
        >= 0.9
    )


def test_without_the_test_label_neutral_patterns_come_back(planted):
    def decoys(model):
        sets = [item_set(p) for p in model.patterns_]
        return sum(any(jaccard(s, item_set(d)) > 0.5 for s in sets) for d in planted.decoys)

    assert decoys(Premise(alpha=1.0).fit(planted.X, planted.y)) == 5
    assert decoys(Premise().fit(planted.X, planted.y)) <= 1


def test_shuffled_labels_give_next_to_nothing(planted):
    rng = np.random.default_rng(7)
    counts = [len(Premise().fit(planted.X, rng.permutation(planted.y)).patterns_) for _ in range(5)]
    assert np.mean(counts) <= 2


def test_planted_clauses_need_neighbours():
    p = plant_clauses(generator=np.random.default_rng(0), background=0.005)
    plain = Premise().fit(p.X, p.y)
    grown = Premise(n_neighbors=4).fit(p.X, p.y, item_vectors=p.vectors)
    assert soft_f1(grown.patterns_, p.patterns).f1 > soft_f1(plain.patterns_, p.patterns).f1 + 0.2
    assert clause_accuracy(grown.patterns_, p.patterns) > clause_accuracy(plain.patterns_, p.patterns)
    assert trap_violations(grown.patterns_, p.traps) == 0


def test_supports_of_clauses_recounted_over_raw_rows():
    p = plant_clauses(generator=np.random.default_rng(3), n_rows=1500, n_items=200)
    X = p.X.toarray().astype(bool)
    patterns = Premise(n_neighbors=4).fit(p.X, p.y, item_vectors=p.vectors).patterns_
    assert any(len(c) > 1 for q in patterns for c in q.clauses)
    for q in patterns:
        holds = [all(sum(row[i] for i in c) == 1 for c in q.clauses) for row in X]
        assert q.support == tuple(int(np.sum(np.array(holds) & (p.y == v))) for v in (0, 1))


@pytest.mark.parametrize("k", [0, 4])
def test_every_step_shortens_the_code_by_what_it_says(k):
    p = plant_clauses(generator=np.random.default_rng(1), n_rows=1500, n_items=150, background=0.02)
    data = TransactionSet.from_csr(p.X, p.y)
    model = Premise(n_neighbors=k).fit(data, item_vectors=p.vectors)
    lengths = [model.baseline_code_length_, *(t["code_length"] for t in model.trace_)]
    assert (np.diff(lengths) < 0).all()
    assert len(lengths) > 4
    total = sum(t["gain"] for t in model.trace_)
    exact = code_length(data, [q.clauses for q in model.patterns_])
    assert model.baseline_code_length_ == pytest.approx(code_length(data, []), rel=1e-12)
    assert model.baseline_code_length_ + total == pytest.approx(exact, rel=1e-9)
    assert model.code_length_ == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_each_greedy_step_is_the_best_of_all_candidates(seed):
    """First step against an enumeration of every item and pair, scored by the definition."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 200)
    X = rng.random((200, 8)) < 0.25
    X[:, 0] |= (rng.random(200) < 0.6) & (y == 1)
    X[:, 1] |= X[:, 0] & (rng.random(200) < 0.8)
    data = TransactionSet.from_csr(X, y)
    model = Premise(max_patterns=1).fit(data)
    empty, best = code_length(data, []), 0.0
    for items in [*((i,) for i in range(8)), *itertools.combinations(range(8), 2)]:
        held = X[:, list(items)].all(1)
        most = max(X[:, i].sum() for i in items)
        if len(items) == 2 and held.sum() / most <= 0.3:
            continue
        clauses = tuple((i,) for i in items)
        n0, n1 = int((held & (y == 0)).sum()), int((held & (y == 1)).sum())
        if float(log_fisher(n0, n1, data.n_label)) <= np.log(0.01):
            best = min(best, code_length(data, [clauses]) - empty)
    first = model.trace_[0]["gain"] if model.trace_ else 0.0
    assert first == pytest.approx(best, abs=1e-6)


def test_row_order_does_not_matter(planted):
    order = np.random.default_rng(0).permutation(len(planted.y))
    a, b = Premise().fit(planted.X, planted.y), Premise().fit(planted.X[order], planted.y[order])
    assert [p[:5] for p in a.patterns_] == [p[:5] for p in b.patterns_]


def test_item_order_only_renames(planted):
    order = np.random.default_rng(1).permutation(planted.X.shape[1])
    a, b = Premise().fit(planted.X, planted.y), Premise().fit(planted.X[:, order], planted.y)
    back = {
        (frozenset(frozenset(int(order[i]) for i in c) for c in p.clauses), p.support, p.direction) for p in b.patterns_
    }
    assert back == found(a)
    assert b.code_length_ == pytest.approx(a.code_length_, rel=1e-12)


def test_swapped_labels_flip_directions_only(planted):
    a, b = Premise().fit(planted.X, planted.y), Premise().fit(planted.X, 1 - planted.y)
    flipped = {(c, (s[1], s[0]), 1 - d) for c, s, d in found(b)}
    assert flipped == found(a)


def test_weights_are_repeated_rows(planted):
    weights = np.random.default_rng(2).integers(0, 3, len(planted.y))
    X, y = planted.X[np.repeat(np.arange(len(weights)), weights)], np.repeat(planted.y, weights)
    assert found(Premise().fit(planted.X, planted.y, weights=weights)) == found(Premise().fit(X, y))


def test_dropping_items_too_rare_for_the_test_changes_nothing(planted, monkeypatch):
    rng = np.random.default_rng(0)
    rare = sp.csr_matrix(rng.random((planted.X.shape[0], 400)) < 0.002)
    X = sp.hstack([planted.X, rare]).tocsr()
    pruned = Premise().fit(X, planted.y)
    monkeypatch.setattr("shared.patterns._premise.least_support", lambda alpha, labels: 0)
    whole = Premise().fit(X, planted.y)
    assert whole.n_candidates_ > pruned.n_candidates_
    assert pruned.patterns_ == whole.patterns_


def test_no_neighbours_is_the_conjunction_search(planted):
    vectors = np.full((planted.X.shape[1], 3), np.nan)  # nobody has a vector, so nobody has a neighbour
    a = Premise(n_neighbors=2).fit(planted.X, planted.y, item_vectors=vectors)
    assert found(a) == found(Premise().fit(planted.X, planted.y))


def test_corrections_are_stricter(planted):
    sizes = {c: len(Premise(correction=c).fit(planted.X, planted.y).patterns_) for c in ("none", "bh", "bonferroni")}
    assert sizes["none"] >= sizes["bh"] >= sizes["bonferroni"] > 0
    assert Premise(alpha=0.0).fit(planted.X, planted.y).patterns_ == []


def test_max_patterns_stops_early(planted):
    assert len(Premise(max_patterns=3).fit(planted.X, planted.y).patterns_) == 3


def test_interrupted_search_keeps_what_it_has(planted, monkeypatch):
    step, calls = Search.step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Search, "step", interrupted)
    with pytest.warns(UserWarning, match="patterns found so far"):
        model = Premise().fit(planted.X, planted.y)
    assert model.interrupted_
    assert len(model.trace_) == 2
    monkeypatch.setattr(Search, "step", step)
    whole = Premise().fit(planted.X, planted.y)
    assert model.trace_ == whole.trace_[:2]
    assert model.patterns_


def test_transform_says_which_rows_hold_which_pattern():
    p = plant_clauses(generator=np.random.default_rng(5), n_rows=1500, n_items=200)
    model = Premise(n_neighbors=3).fit(p.X, p.y, item_vectors=p.vectors)
    held = model.transform(p.X)
    assert held.shape == (1500, len(model.patterns_))
    for column, pattern in zip(held.toarray().T, model.patterns_):
        assert tuple(int(column[p.y == v].sum()) for v in (0, 1)) == pattern.support
    assert len(model.get_feature_names_out()) == len(model.patterns_)


def test_tokens_frames_and_matrices_agree():
    rng = np.random.default_rng(0)
    X, y = rng.random((300, 4)) < 0.2, rng.integers(0, 2, 300)
    X[:, 1] = X[:, 0] = (y == 0) & (rng.random(300) < 0.6)
    names = list("abcd")
    tokens = [[n for n, v in zip(names, row) if v] for row in X]
    labels = np.where(y == 1, "right", "wrong")
    by_matrix = Premise().fit(sp.csr_matrix(X), y)
    by_frame = Premise().fit(pd.DataFrame(X, columns=names), y)
    by_tokens = Premise(positive="right").fit(tokens, labels)
    assert found(by_matrix) == found(by_frame) == found(by_tokens)
    assert by_tokens.get_feature_names_out()[0] == "a ∧ b"
    assert by_tokens.to_frame()["towards"][0] == "wrong"
    unseen = by_tokens.transform([["a", "b", "never seen"], []])
    assert unseen[0, 0] == 1
    assert unseen[1].nnz == 0


def test_is_a_scikit_learn_estimator(planted):
    model = Premise(alpha=0.05, max_patterns=2)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        model.transform(planted.X)


def test_nothing_to_find_is_no_error():
    model = Premise().fit(sp.csr_matrix((20, 5)), [0, 1] * 10)
    assert model.patterns_ == []
    assert model.code_length_ == 0
    assert model.transform(np.zeros((3, 5))).shape == (3, 0)
    assert next(iter(model.to_frame().columns)) == "pattern"


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, (np.eye(4), [1, 1, 1, 1]), "needs both labels"),
        ({}, (np.eye(4), [0, 1]), "y has 2 labels for 4 rows"),
        ({}, (np.eye(4), None), "y is missing"),
        ({}, ([], []), "distinct labels"),
        ({"alpha": 2}, (np.eye(4), [0, 1, 0, 1]), "alpha=2 is out of range"),
        ({"correction": "holm"}, (np.eye(4), [0, 1, 0, 1]), "correction='holm' is unknown"),
        ({"n_neighbors": 2}, (np.eye(4), [0, 1, 0, 1]), "needs item_vectors"),
        ({"n_neighbors": 2}, (np.eye(4), [0, 1, 0, 1], np.ones((3, 2))), "item_vectors has 3 rows for 4 items"),
        ({"n_neighbors": 2}, (np.eye(4), [0, 1, 0, 1], np.zeros((4, 2))), "is all zero"),
    ],
)
def test_bad_input(options, arguments, message):
    with pytest.raises(ValueError, match=message):
        Premise(**options).fit(arguments[0], arguments[1], item_vectors=arguments[2] if arguments[2:] else None)


def test_a_million_tokens_name_the_memory_they_need():
    rows, items = 2000, 1_000_000
    ones = np.arange(10 * items)
    X = sp.csr_matrix((np.ones(len(ones), dtype=np.int8), (ones * 7919 % rows, ones // 10)))
    with pytest.raises(ValueError, match=r"1,000,000 items.*2,000 rows they need about \d\.\d GB"):
        Premise(max_memory_gb=0.1).fit(X, np.arange(rows) % 2)


def test_transform_of_another_width(planted):
    with pytest.raises(ValueError, match="fit saw 150"):
        Premise(max_patterns=1).fit(planted.X, planted.y).transform(np.zeros((2, 3)))


def test_nearest_items():
    vectors = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [np.nan, 0]])
    numbers, similarity = nearest_items(vectors, 2)
    assert numbers[0].tolist() == [1, 2]
    assert numbers[3].tolist() == [-1, -1]
    assert 3 not in numbers[:3]
    assert similarity[0, 0] == pytest.approx(0.9 / np.hypot(0.9, 0.1))


@pytest.mark.parametrize(("values", "want"), [([1, 2, 3, 4], 3.5), ([1, 2, 3, 4, 5], 4), ([5], 5)])
def test_upper_quartile_is_the_median_of_the_upper_half(values, want):
    assert upper_quartile(np.array(values, dtype=float)) == want
