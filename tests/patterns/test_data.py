"""Packed rows, and transactions from every kind of input."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.patterns import TransactionSet, tokenize_words
from shared.patterns import _bits as bits


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_packed_words_equal_sets(n, groups, seed):
    dense = np.random.default_rng(seed).random((groups, n)) < 0.3
    group, position = np.nonzero(dense)
    words = bits.pack(group, position, groups, bits.words_for(n))
    assert words.dtype == np.uint64
    for row, word in zip(dense, words):
        np.testing.assert_array_equal(bits.unpack(word), np.flatnonzero(row))
    np.testing.assert_array_equal(bits.count(words), dense.sum(1))
    np.testing.assert_array_equal(bits.unpack(bits.exactly_one(words)), np.flatnonzero(dense.sum(0) == 1))


@pytest.mark.parametrize("seed", range(3))
def test_columns_are_packed_label_by_label(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.random((150, 9)) < 0.2, rng.integers(0, 2, 150)
    data = TransactionSet.from_csr(sp.csr_matrix(X), y)
    words = data.words([3, 0, 8])
    for word, item in zip(words, [3, 0, 8]):
        assert bits.count(word[: data.split]) == X[y == 0, item].sum()
        assert bits.count(word[data.split :]) == X[y == 1, item].sum()
        np.testing.assert_array_equal(data.row_numbers(bits.unpack(word)), np.flatnonzero(X[:, item]))
    np.testing.assert_array_equal(data.item_counts, [X[y == 0].sum(0), X[y == 1].sum(0)])


def test_token_lists_drop_order_and_repetition_and_keep_empty_rows():
    data = TransactionSet.from_token_lists([["b", "a", "b"], [], ["c"]], [0, 1, 1])
    assert data.names == ["a", "b", "c"]
    assert data.n_rows == 3
    np.testing.assert_array_equal(data.rows.toarray(), [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_min_count_drops_rare_tokens():
    data = TransactionSet.from_token_lists([["a", "b"], ["a"], ["c", "a"]], [0, 1, 1], min_count=2)
    assert data.names == ["a"]


def test_frame_gives_flags_categories_and_quantile_bands():
    frame = pd.DataFrame({"flag": [True, False, True, False], "kind": ["x", "y", "x", None], "size": [1.0, 2, 3, 4]})
    data = TransactionSet.from_frame(frame, [0, 1, 0, 1], bins=2)
    assert data.names[:3] == ["flag", "kind=x", "kind=y"]
    assert len(data.names) == 5
    np.testing.assert_array_equal(data.rows[:, 3:].sum(1).ravel(), [[1, 1, 1, 1]])  # one band per row
    np.testing.assert_array_equal(data.rows[3, 1:3].toarray(), [[0, 0]])  # a missing entry gives no item


def test_weights_repeat_rows():
    X = np.array([[1, 0], [0, 1], [1, 1]])
    data = TransactionSet.from_csr(X, [0, 1, 1], weights=[2, 0, 3])
    assert data.n_label == (2, 3)
    np.testing.assert_array_equal(data.item_counts, [[2, 0], [3, 3]])


def test_labels_by_name():
    data = TransactionSet.from_csr(np.eye(3), ["right", "wrong", "right"], positive="right")
    np.testing.assert_array_equal(data.labels, [1, 0, 1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TransactionSet.from_csr(np.zeros((0, 3)), []), r"X is empty \(shape \(0, 3\)\)"),
        (lambda: TransactionSet.from_csr(np.zeros((2, 0)), [0, 1]), r"X is empty \(shape \(2, 0\)\)"),
        (lambda: TransactionSet.from_csr(np.eye(2), [1, 1]), r"y holds 1 distinct labels \(1\)"),
        (lambda: TransactionSet.from_csr(np.eye(3), [0, 1, 2]), "y holds 3 distinct labels"),
        (lambda: TransactionSet.from_csr(np.eye(2), ["a", "b"], positive="c"), "positive='c' is not in y"),
        (lambda: TransactionSet.from_csr(np.eye(3), [0, 1]), "y has 2 labels for 3 rows"),
        (lambda: TransactionSet.from_csr(np.eye(2), [[0, 1]]), r"y has shape \(1, 2\)"),
        (lambda: TransactionSet.from_csr(np.eye(2), [0, 1], names=["a", "a"]), "'a' occurs more than once"),
        (lambda: TransactionSet.from_csr(np.eye(2), [0, 1], names=["a"]), "names has 1 entries for 2 items"),
        (lambda: TransactionSet.from_csr(np.array([[np.nan, 1], [0, 1]]), [0, 1]), "NaN"),
        (lambda: TransactionSet.from_csr(sp.csr_matrix([[np.inf, 1], [0, 1]]), [0, 1]), "NaN or infinite"),
        (lambda: TransactionSet.from_csr(np.zeros(3), [0, 1, 1]), r"X has shape \(3,\)"),
        (lambda: TransactionSet.from_csr(np.eye(2), [0, 1], weights=[1, 0.5]), "weights must be whole numbers"),
        (lambda: TransactionSet.from_csr(np.eye(2), [0, 1], weights=[1, 0]), "y holds 1 distinct"),
        (lambda: TransactionSet.from_csr(np.eye(2), [0, 1], weights=[1]), r"weights has shape \(1,\)"),
        (lambda: TransactionSet.from_token_lists([], []), "lists is empty"),
        (lambda: TransactionSet.from_token_lists([[], []], [0, 1]), "the vocabulary is empty"),
        (
            lambda: TransactionSet.from_token_lists([["a"], ["b"]], [0, 1], vocabulary=["a"]),
            "row 1 holds 'b', a token never seen",
        ),
        (
            lambda: TransactionSet.from_frame(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), [0, 1]),
            "'a' occurs more than once",
        ),
        (lambda: TransactionSet.from_csr(np.eye(2), [0, 1]).item("q"), "token 'q' is not among the 2 items"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_wrong_types():
    with pytest.raises(TypeError, match="row 0 is str; expected a list of tokens"):
        TransactionSet.from_token_lists(["how many"], [0])
    with pytest.raises(TypeError, match="dtype"):
        TransactionSet.from_csr(np.array([["a", "b"], ["c", "d"]]), [0, 1])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("How many? They're 3.", ["How", "many", "?", "They're", "3", "."]),
        ("Hi 👩‍🔬👍🏽🇩🇪 ok :) <3", ["Hi", "👩‍🔬", "👍🏽", "🇩🇪", "ok", ":)", "<3"]),
        ("", []),
    ],
)
def test_tokens_keep_case_emoji_and_emoticons(text, tokens):
    assert tokenize_words(text) == tokens
    assert tokenize_words(text, lowercase=True) == [t.lower() for t in tokens]


def test_tokens_of_no_string():
    with pytest.raises(TypeError, match="text is float"):
        tokenize_words(1.5)


def test_files_of_the_authors_program(tmp_path):
    (tmp_path / "x").write_text("0 2\n\n2 1\n")
    (tmp_path / "y").write_text("0\n1\n1\n")
    (tmp_path / "v").write_text('{"how": 0, "many": 1, "?": 2}')
    data = TransactionSet.from_dat(tmp_path / "x", tmp_path / "y", vocabulary=tmp_path / "v")
    assert data.names == ["how", "many", "?"]
    np.testing.assert_array_equal(data.rows.toarray(), [[1, 0, 1], [0, 0, 0], [0, 1, 1]])
