"""What one would use instead: significant itemsets, subgroups, tree paths, class-wise TF-IDF, log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from shared._checks import check_array, check_choice
from shared.patterns._codes import label_counts
from shared.patterns._data import TransactionSet
from shared.patterns._fisher import direction, log_fisher_of
from shared.patterns._patterns import Items
from shared.patterns._space import pairs_of_items

_BLOCK = 4096  # itemsets whose supports are counted together


class Itemset(NamedTuple):
    """A conjunction of items, as the baselines find it.

    Attributes
    ----------
    items : tuple of int
        Item numbers, ascending.
    support : (int, int)
        Rows that hold them, per label.
    direction : int
        The label with the larger odds.
    log_p : float
        Natural log of Fisher's one-sided p.
    quality : float
        What it was ranked by.
    """

    items: Items
    support: tuple[int, int]
    direction: int
    log_p: float
    quality: float


def frequent_itemsets(data: TransactionSet, min_support: int, *, max_length: int = 3) -> tuple[list[Items], np.ndarray]:
    """All frequent itemsets, level by level.

    Pairs come from co-occurrence counts, longer ones from joining two that share all but the last item.

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    min_support : int
        Least number of rows, of both labels together.
    max_length : int
        Most items in a set.

    Returns
    -------
    sets : list of K tuples of int
        Item numbers, ascending.
    counts : (K, 2) int64
        Rows per label.
    """
    frequent = np.flatnonzero(data.item_counts.sum(0) >= min_support)
    sets: list[Items] = [(int(i),) for i in frequent]
    counts = [data.item_counts[:, frequent].T]
    level = sets
    if max_length >= 2 and len(frequent) > 1:
        pairs, number = pairs_of_items(data, frequent, 0.0)
        enough = number.sum(1) >= min_support
        level = [tuple(p) for p in pairs[enough].tolist()]
        sets = sets + level
        counts.append(number[enough])
    columns = data.words(frequent)
    slot = {int(i): k for k, i in enumerate(frequent)}
    for _ in range(3, max_length + 1):
        grown = _joined(level)
        if not grown:
            break
        number = _supports(columns, np.array([[slot[i] for i in g] for g in grown]), data.split)
        enough = number.sum(1) >= min_support
        level = [g for g, ok in zip(grown, enough) if ok]
        sets = sets + level
        counts.append(number[enough])
    return sets, np.concatenate(counts)


def _joined(level: list[Items]) -> list[Items]:
    """Sets one longer than those of `level`, all of whose parts one shorter are in it (Apriori).

    >>> _joined([(1, 2), (1, 3), (1, 4), (2, 3), (3, 4)])
    [(1, 2, 3), (1, 3, 4)]
    """
    known = set(level)
    groups: dict[Items, list[Items]] = {}
    for s in level:
        groups.setdefault(s[:-1], []).append(s)
    grown = []
    for group in groups.values():
        for n, a in enumerate(group):
            for b in group[n + 1 :]:
                longer = (*a, b[-1])
                # without its last or its last but one item it is a or b
                if all((*longer[:k], *longer[k + 1 :]) in known for k in range(len(a) - 1)):
                    grown.append(longer)
    return grown


def _supports(columns: np.ndarray, index: np.ndarray, split: int) -> np.ndarray:
    """Rows per label (K, 2) that hold all of a set's items; index : (K, length) into the packed columns."""
    counts = []
    for low in range(0, len(index), _BLOCK):
        held = np.bitwise_and.reduce(columns[index[low : low + _BLOCK]], axis=1)
        counts.append(label_counts(held, split))
    return np.concatenate(counts)


def significant_itemsets(
    data: TransactionSet,
    *,
    alpha: float = 0.01,
    min_support: int = 30,
    max_length: int = 3,
    correction: str = "bonferroni",
    k: int | None = None,
) -> list[Itemset]:
    """Frequent itemsets that pass Fisher's test, smallest p first.

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    alpha : float
        Level of the test.
    min_support, max_length : int
        See `frequent_itemsets`.
    correction : "bonferroni" or "none"
        Over the number of frequent itemsets.
    k : int, optional
        Only the first k.

    Returns
    -------
    list of Itemset
        `quality` is -log p.
    """
    check_choice("correction", correction, ("none", "bonferroni"))
    sets, counts = frequent_itemsets(data, min_support, max_length=max_length)
    log_p = log_fisher_of(counts[:, 0], counts[:, 1], data.n_label)
    level = np.log(alpha) - (np.log(max(len(sets), 1)) if correction == "bonferroni" else 0.0)
    order = np.argsort(log_p, kind="stable")
    return _itemsets(data, sets, counts, -log_p, [r for r in order.tolist() if log_p[r] <= level][:k])


def subgroups(data: TransactionSet, k: int, *, min_support: int = 30, max_length: int = 3) -> list[Itemset]:
    """The itemsets with the largest weighted relative accuracy, for either label: n_X/N · (n_X^l/n_X - n_l/N).

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    k : int
        How many.
    min_support, max_length : int
        See `frequent_itemsets`.

    Returns
    -------
    list of Itemset
        Best first; `quality` is the weighted relative accuracy.
    """
    sets, counts = frequent_itemsets(data, min_support, max_length=max_length)
    total = counts.sum(1)
    n = data.n_rows
    quality = np.abs(counts[:, 0] / n - total / n * data.n_label[0] / n)  # equal and opposite for the two labels
    return _itemsets(data, sets, counts, quality, np.argsort(-quality, kind="stable")[:k].tolist())


def tree_paths(
    data: TransactionSet,
    *,
    max_depth: int = 5,
    purity: float = 2.0,
    generator: np.random.Generator | None = None,
) -> list[Itemset]:
    """Items present on the path to each leaf of a decision tree where a label is enriched.

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    max_depth : int
        Of the tree.
    purity : float
        How many times its base rate a label must have in a leaf.
    generator : numpy.random.Generator, optional
        Decides between splits that are equally good; None decides the same way each time.

    Returns
    -------
    list of Itemset
        `quality` is the number of rows.
    """
    seed = 0 if generator is None else int(generator.integers(2**31))
    tree = DecisionTreeClassifier(max_depth=max_depth, min_samples_leaf=5, random_state=seed)
    fitted = tree.fit(data.rows, data.labels).tree_
    base = np.array(data.n_label) / data.n_rows
    found: list[Items] = []
    stack: list[tuple[int, Items]] = [(0, ())]
    while stack:
        node, path = stack.pop()
        if fitted.children_left[node] >= 0:
            stack.append((fitted.children_left[node], path))
            stack.append((fitted.children_right[node], (*path, fitted.feature[node])))
            continue
        share = fitted.value[node, 0] / fitted.value[node, 0].sum()
        if path and (share >= np.minimum(purity * base, 0.999)).any():
            found.append(tuple(sorted(int(i) for i in set(path))))
    sets = list(dict.fromkeys(found))
    words = [np.bitwise_and.reduce(data.words(s), axis=0) for s in sets]
    counts = label_counts(np.stack(words), data.split) if words else np.zeros((0, 2), dtype=np.int64)
    return _itemsets(data, sets, counts, counts.sum(1).astype(float), range(len(sets)))


def ctfidf(data: TransactionSet, *, counts: np.ndarray | None = None) -> np.ndarray:
    """Class-wise TF-IDF with BM25 weighting and damped frequent words, as BERTopic's and Spotlight's baseline.

    √(share of the token in the class) · log(1 + (A - f + 0.5) / (f + 0.5)), f the token's count in both classes and A
    the mean number of tokens per class (whole).

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    counts : (2, M) array, optional
        Token counts per class; rows that hold the token unless told.

    Returns
    -------
    (2, M) float64
        A score per class and token.
    """
    counts = np.asarray(data.item_counts if counts is None else counts, dtype=float)
    check_array("counts", counts, (2, data.n_items))
    frequency = counts.sum(0)
    average = int(counts.sum() / 2)
    inverse = np.log(1 + (average - frequency + 0.5) / (frequency + 0.5))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return np.sqrt(share) * inverse


def log_odds(data: TransactionSet, *, prior: float = 500.0) -> np.ndarray:
    """z-scores of the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008).

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    prior : float
        How many tokens the prior is worth, spread as in both groups together.

    Returns
    -------
    (M,) float64
        Positive towards label 0.
    """
    counts = data.item_counts.astype(float)
    alpha = prior * counts.sum(0) / counts.sum() + 1e-9
    total = counts.sum(1)
    each = [np.log((counts[g] + alpha) / (total[g] + prior - counts[g] - alpha)) for g in range(2)]
    return (each[0] - each[1]) / np.sqrt(1 / (counts[0] + alpha) + 1 / (counts[1] + alpha))


def _itemsets(
    data: TransactionSet, sets: list[Items], counts: np.ndarray, quality: np.ndarray, rows: Sequence[int]
) -> list[Itemset]:
    towards = direction(counts[:, 0], counts[:, 1], data.n_label)
    log_p = log_fisher_of(counts[:, 0], counts[:, 1], data.n_label)
    return [
        Itemset(sets[r], (int(counts[r, 0]), int(counts[r, 1])), int(towards[r]), float(log_p[r]), float(quality[r]))
        for r in rows
    ]
