"""`Premise` among scikit-learn's tools: its own checks, tables cut as in fit, names, labels, what is missing."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from shared.patterns import Premise, TransactionSet


def pair_table(n=600, seed=0):
    """Errors (0) where `a` and `b` come together; numbers, a flag and noise beside."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    both = (y == 0) & (rng.random(n) < 0.5)
    frame = pd.DataFrame({"a": both | (rng.random(n) < 0.05), "b": both | (rng.random(n) < 0.05)})
    frame["size"] = np.where(both, rng.normal(10, 1, n), rng.normal(0, 1, n))
    frame["noise"] = rng.normal(size=n)
    return frame, y


def counts(model):
    return sorted((p.support, p.direction) for p in model.patterns_)


def test_passes_scikit_learns_own_checks():
    done = check_estimator(Premise(), on_fail=None, on_skip=None)
    failed = [(d["check_name"], str(d["exception"])) for d in done if d["status"] == "failed"]
    assert failed == []
    assert sum(d["status"] == "passed" for d in done) > 40


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f, gone: f.astype({"a": "boolean"}).mask(gone),
        lambda f, gone: f.astype({"a": object}).mask(gone),
        lambda f, gone: f.astype({"a": float}).mask(gone),
        lambda f, gone: f.astype({"a": float}).mask(gone, None),
        lambda f, gone: f.assign(a=f["a"].astype("Int64")).mask(gone),
        lambda f, gone: f.assign(a=pd.arrays.SparseArray(f["a"].astype(float).mask(gone["a"]), fill_value=0.0)),
        lambda f, gone: f.assign(a=pd.arrays.SparseArray(f["a"].astype(float).mask(gone["a"]), fill_value=np.nan)),
    ],
    ids=["nullable boolean", "object", "float", "None", "Int64", "sparse, zeros left out", "sparse, missing left out"],
)
def test_a_missing_entry_is_no_item(spoil):
    """As if the flag were false there, whatever the column's type; the right value is that of the plain table."""
    frame, y = pair_table()
    gone = pd.DataFrame(False, index=frame.index, columns=frame.columns)
    gone["a"] = np.random.default_rng(1).random(len(frame)) < 0.2
    want = TransactionSet.from_frame(frame.assign(a=frame["a"] & ~gone["a"]), y)
    data = TransactionSet.from_frame(spoil(frame, gone), y)
    assert data.names == want.names
    np.testing.assert_array_equal(data.rows.toarray(), want.rows.toarray())
    assert counts(Premise().fit(spoil(frame, gone), y)) == counts(Premise().fit(data))


@pytest.mark.parametrize("padding", [None, np.nan, float("nan"), pd.NA, pd.NaT], ids=str)
def test_padding_of_token_lists_is_no_token(padding):
    rows = [["how", "many"], ["how", padding], [padding, padding]]
    data = TransactionSet.from_token_lists(rows, [0, 1, 1])
    assert data.names == ["how", "many"]
    np.testing.assert_array_equal(data.rows.toarray(), [[1, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("table", [np.asarray, sp.csr_matrix, sp.coo_array], ids=["dense", "csr", "coo"])
def test_a_missing_entry_of_a_matrix_is_an_error(table):
    X = np.array([[1.0, np.nan], [0, 1], [1, 0]])
    with pytest.raises(ValueError, match="X holds NaN"):
        TransactionSet.from_csr(table(X), [0, 1, 1])
    with pytest.raises(ValueError, match="X holds NaN"):
        Premise().fit(table(X), [0, 1, 1])


@pytest.mark.parametrize("y", [[0, 1, np.nan], ["a", None, "b"]])
def test_a_missing_label_is_an_error(y):
    with pytest.raises(ValueError, match="y holds 1 missing labels"):
        Premise().fit(np.eye(3), y)


def test_held_out_tables_keep_the_bins_of_fit():
    frame, y = pair_table()
    model = Premise().fit(frame[:400], y[:400])
    held = model.transform(frame).toarray()
    np.testing.assert_array_equal(held[:400], model.transform(frame[:400]).toarray())
    for row in (frame[400:401], frame[500:]):  # a single row has no quantiles of its own
        np.testing.assert_array_equal(model.transform(row).toarray(), held[frame.index.get_indexer(row.index)])
    edge = next(c for c in model._frame.columns if c.name == "size").edges[-1]
    pattern = [any(f"size>{edge:.3g}" in part for part in n.split(" ∧ ")) for n in model.get_feature_names_out()]
    assert any(pattern)
    far = frame.assign(size=1e6, a=True, b=True)[:5]
    assert model.transform(far).toarray()[:, pattern].all()


def test_columns_come_by_name():
    frame, y = pair_table()
    model = Premise().fit(frame, y)
    assert model.feature_names_in_.tolist() == list(frame.columns)
    assert model.n_features_in_ == 4
    turned = model.transform(frame[frame.columns[::-1]])
    np.testing.assert_array_equal(turned.toarray(), model.transform(frame).toarray())
    with pytest.raises(ValueError, match=r"X lacks the columns \['b'\]"):
        model.transform(frame.drop(columns="b"))
    with pytest.raises(ValueError, match=r"X has the columns \['c'\]"):
        model.transform(frame.assign(c=1))
    with pytest.raises(ValueError, match="column 'size' holds what is no finite number"):
        model.transform(frame.assign(size="large"))
    with pytest.raises(ValueError, match="not equal to feature_names_in_"):
        model.get_feature_names_out(["x"] * 4)
    with pytest.warns(UserWarning, match="valid feature names"):
        np.testing.assert_array_equal(
            model.transform(frame.to_numpy(float)).toarray(), model.transform(frame).toarray()
        )


def test_flags_and_bounds_read_well():
    frame = pd.DataFrame(
        {"on": [0.0, 1, 1, 0, 1, 0], "x": [0.123456, 1.23456, 2.3456, 3.4567, 4.5, 9], "n": [1, 2, 2, 1, 2, 1]}
    )
    names = TransactionSet.from_frame(frame, [0, 1, 0, 1, 0, 1]).names
    assert names == ["on", "x<=1.98", "1.98<x<=3.8", "x>3.8", "n=1", "n=2"]
    close = TransactionSet.from_frame(pd.DataFrame({"x": 1000 + np.arange(9) / 100}), [0, 1, 1] * 3).names
    assert len(set(close)) == 3  # as many digits as tell the bounds apart


def test_words_of_a_vectoriser_name_the_patterns():
    texts = ["how many cats"] * 30 + ["what cats"] * 40 + ["many cats"] * 3
    y = [0] * 30 + [1] * 43
    pipe = make_pipeline(CountVectorizer(binary=True), Premise()).fit(texts, y)
    names = pipe.get_feature_names_out().tolist()
    assert "how ∧ many" in names
    words = pipe[0].get_feature_names_out()
    assert pipe[1].to_frame(input_features=words)["pattern"].isin(names).all()
    with pytest.raises(ValueError, match="length equal to number of features"):
        pipe[1].get_feature_names_out(["a"])
    score = make_pipeline(CountVectorizer(), Premise(), LogisticRegression()).fit(texts, y).score(texts, y)
    assert score > 0.9


def test_output_as_a_table():
    frame, y = pair_table()
    model = Premise().set_output(transform="pandas").fit(frame, y)
    table = model.transform(frame[::2])
    assert list(table.columns) == model.get_feature_names_out().tolist()
    assert table.index.equals(frame[::2].index)
    plain = Premise().fit(frame, y).transform(frame[::2])
    np.testing.assert_array_equal(table.to_numpy(), plain.toarray())


@pytest.mark.parametrize("labels", [(-1, 1), ("right", "wrong"), (2, 7), (0.0, 1.0), (False, True)])
def test_labels_of_any_two_kinds(labels):
    frame, y = pair_table()
    model = Premise().fit(frame, np.asarray(labels)[y])
    assert model.classes_ == labels
    assert counts(model) == counts(Premise().fit(frame, y))
    turned = Premise(positive=labels[0]).fit(frame, np.asarray(labels)[y])
    assert sorted((s[::-1], 1 - d) for s, d in counts(turned)) == counts(model)
