"""Planted tables: what is in them is what they say."""

import itertools

import numpy as np
import pytest

from shared.worlds import plant_class_patterns, plant_clauses, plant_conjunctions


def _rng(seed=0):
    return np.random.default_rng([seed, 23])


def test_clean_rows_are_unions_of_patterns_of_their_class():
    data = plant_class_patterns(
        80, rows_per_class=200, patterns_per_class=4, additive=0, destructive=0, keep_label=1, generator=_rng()
    )
    assert data.X.shape == (400, 80)
    assert np.bincount(data.y).tolist() == [200, 200]
    assert (np.diff(data.y) != 0).sum() > 100  # shuffled
    for row, label in zip(data.X, data.y):
        unions = [set().union(*three) for three in itertools.combinations(data.truth[label], 3)]
        assert set(np.flatnonzero(row).tolist()) in unions


def test_the_generators_noise_and_labels_have_their_rates():
    options = dict(n_classes=3, rows_per_class=2000, patterns_per_class=5, keep_label=0.9)
    clean = plant_class_patterns(200, **options, additive=0, destructive=0, generator=_rng())
    added = plant_class_patterns(200, **options, additive=10, destructive=0, generator=_rng())
    flipped = plant_class_patterns(200, **options, additive=0, destructive=0.2, generator=_rng())
    assert added.truth == clean.truth == flipped.truth
    for c, patterns in clean.truth.items():
        for pattern in patterns:
            assert 5 <= len(pattern) <= 14
            whole = clean.X[clean.y == c][:, pattern].all(1).mean()
            assert whole == pytest.approx(0.6 * 0.9, abs=0.05)  # 3 of 5 patterns a row, 9 of 10 labels kept
    more = added.X.mean() - clean.X.mean()
    assert more == pytest.approx((1 - clean.X.mean()) * 10 / 200, rel=0.1)  # less what hits an item that is there
    lost = 1 - flipped.X.sum() / clean.X.sum()
    assert 0.15 < lost < 0.25


def test_background_patterns_belong_to_no_class():
    options = dict(rows_per_class=500, patterns_per_class=5, additive=0, destructive=0, keep_label=1)
    plain = plant_class_patterns(1000, **options, generator=_rng())
    data = plant_class_patterns(1000, **options, background=20, generator=_rng())
    assert data.X.mean() - plain.X.mean() == pytest.approx(2 * 0.0175, abs=0.006)
    outside = np.setdiff1d(np.arange(1000), [i for p in data.truth.values() for q in p for i in q])
    by_class = [data.X[data.y == c][:, outside].mean() for c in (0, 1)]
    assert by_class[0] == pytest.approx(by_class[1], abs=0.004)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_classes": 1}, "n_classes"),
        ({"patterns_per_row": 11}, "patterns_per_row"),
        ({"destructive": 1.5}, "destructive"),
        ({"pattern_length": (5, 400)}, "pattern_length"),
        ({"background": 1}, "background"),
    ],
)
def test_bad_sizes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        plant_class_patterns(100, **options, generator=_rng())


def test_planted_data_is_reproducible_and_as_described():
    a, b = (plant_conjunctions(generator=np.random.default_rng(4), minority=0.2) for _ in range(2))
    assert (a.X != b.X).nnz == 0
    assert a.y.mean() == pytest.approx(0.8, abs=0.03)
    items = [i for p in a.patterns + a.decoys for c in p for i in c]
    assert len(items) == len(set(items))
    with pytest.raises(ValueError, match="n_items=10 is too small"):
        plant_conjunctions(generator=np.random.default_rng(0), n_items=10)


def test_planted_synonyms_exclude_each_other_and_traps_do_not():
    p = plant_clauses(generator=np.random.default_rng(0), background=0.0)
    X = p.X.toarray()
    for clause in (c for q in p.patterns for c in q if len(c) > 1):
        assert (X[:, clause].sum(1) <= 1).all()
    assert all(set(X[:, t].sum(1)) == {0, 3} for t in p.traps)


def test_clauses_need_items():
    for options in ({"n_items": 12}, {"n_items": 60, "n_patterns": 1, "n_traps": 30}):
        with pytest.raises(ValueError, match=r"n_items.* is too small"):
            plant_clauses(generator=_rng(), n_rows=50, **options)
