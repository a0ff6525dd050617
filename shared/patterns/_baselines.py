"""What one would use instead: significant itemsets, subgroups, tree paths, class-wise TF-IDF, log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from shared._checks import check_array, check_choice
from shared.patterns._candidates import pairs_of_items
from shared.patterns._codes import label_counts
from shared.patterns._data import TransactionSet
from shared.patterns._fisher import direction, log_fisher_of


class Itemset(NamedTuple):
    """Items (ascending numbers), rows per label, direction, log p of Fisher's test and the quality behind its rank."""

    items: tuple[int, ...]
    support: tuple[int, int]
    direction: int
    log_p: float
    quality: float


def frequent_itemsets(
    data: TransactionSet, min_support: int, max_length: int = 3
) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All itemsets of up to `max_length` items in at least `min_support` rows, and their rows per label (K, 2).

    Level by level: pairs from co-occurrence counts, longer ones by joining two that share all but the last item.
    """
    frequent = np.flatnonzero(data.item_counts.sum(0) >= min_support)
    sets = [(int(i),) for i in frequent]
    counts = [data.item_counts[:, frequent].T]
    level: list[tuple[int, ...]] = sets
    if max_length >= 2 and len(frequent) > 1:
        pairs, number = pairs_of_items(data, frequent, 0.0)
        enough = number.sum(1) >= min_support
        level = [tuple(p) for p in pairs[enough].tolist()]
        sets, counts = sets + level, [*counts, number[enough]]
    columns = data.words(frequent)
    slot = {int(i): k for k, i in enumerate(frequent)}
    for length in range(3, max_length + 1):
        known = set(level)
        grown = [
            (*a, b[-1])
            for group in _by_prefix(level)
            for n, a in enumerate(group)
            for b in group[n + 1 :]
            if all((*a[:k], *a[k + 1 :], b[-1]) in known for k in range(length - 2))
        ]
        if not grown:
            break
        index = np.array([[slot[i] for i in g] for g in grown])
        number = np.concatenate(
            [
                label_counts(np.bitwise_and.reduce(columns[index[low : low + 4096]], axis=1), data.split)
                for low in range(0, len(index), 4096)
            ]
        )
        enough = number.sum(1) >= min_support
        level = [g for g, ok in zip(grown, enough) if ok]
        sets, counts = sets + level, [*counts, number[enough]]
    return sets, np.concatenate(counts) if counts else np.zeros((0, 2), dtype=np.int64)


def significant_itemsets(
    data: TransactionSet,
    *,
    alpha: float = 0.01,
    min_support: int = 30,
    max_length: int = 3,
    correction: str = "bonferroni",
    k: int | None = None,
) -> list[Itemset]:
    """Frequent itemsets that pass Fisher's test, smallest p first; `correction` is "bonferroni" or "none"."""
    check_choice("correction", correction, ("none", "bonferroni"))
    sets, counts = frequent_itemsets(data, min_support, max_length)
    log_p = log_fisher_of(counts[:, 0], counts[:, 1], data.n_label)
    level = np.log(alpha) - (np.log(max(len(sets), 1)) if correction == "bonferroni" else 0.0)
    order = np.argsort(log_p, kind="stable")
    return _itemsets(data, sets, counts, -log_p, [r for r in order.tolist() if log_p[r] <= level][:k])


def subgroups(data: TransactionSet, k: int, *, min_support: int = 30, max_length: int = 3) -> list[Itemset]:
    """The k itemsets with the largest weighted relative accuracy, for either label: n_X/N · (n_X^l/n_X - n_l/N)."""
    sets, counts = frequent_itemsets(data, min_support, max_length)
    total, n = counts.sum(1), data.n_rows
    quality = np.abs(counts[:, 0] / n - total / n * data.n_label[0] / n)  # equal and opposite for the two labels
    return _itemsets(data, sets, counts, quality, np.argsort(-quality, kind="stable")[:k].tolist())


def tree_paths(data: TransactionSet, *, max_depth: int = 5, purity: float = 2.0, seed: int = 0) -> list[Itemset]:
    """Items present on the path to each leaf of a decision tree where a label has `purity` times its base rate."""
    tree = DecisionTreeClassifier(max_depth=max_depth, min_samples_leaf=5, random_state=seed)
    fitted = tree.fit(data.rows, data.labels).tree_
    found, base = [], np.array(data.n_label) / data.n_rows
    stack: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while stack:
        node, path = stack.pop()
        if fitted.children_left[node] >= 0:
            stack += [(fitted.children_left[node], path), (fitted.children_right[node], (*path, fitted.feature[node]))]
            continue
        share = fitted.value[node, 0] / fitted.value[node, 0].sum()
        if path and (share >= np.minimum(purity * base, 0.999)).any():
            found.append(tuple(sorted(int(i) for i in set(path))))
    sets = list(dict.fromkeys(found))
    words = [np.bitwise_and.reduce(data.words(s), axis=0) for s in sets]
    counts = label_counts(np.stack(words), data.split) if words else np.zeros((0, 2), dtype=np.int64)
    return _itemsets(data, sets, counts, counts.sum(1).astype(float), range(len(sets)))


def ctfidf(data: TransactionSet, counts: np.ndarray | None = None) -> np.ndarray:
    """Class-wise TF-IDF (2, M) with BM25 weighting and damped frequent words, as BERTopic's and Spotlight's baseline.

    √(share of the token in the class) · log(1 + (A - f + 0.5) / (f + 0.5)), f the token's count in both classes and A
    the mean number of tokens per class (whole). counts : (2, M) token counts per class (default: rows that hold it).
    """
    counts = np.asarray(data.item_counts if counts is None else counts, dtype=float)
    check_array("counts", counts, (2, data.n_items))
    frequency, average = counts.sum(0), int(counts.sum() / 2)
    inverse = np.log(1 + (average - frequency + 0.5) / (frequency + 0.5))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return np.sqrt(share) * inverse


def log_odds(data: TransactionSet, prior: float = 500.0) -> np.ndarray:
    """z-scores (M,) of the log-odds ratio with an informative Dirichlet prior; positive towards label 0.

    The prior is worth `prior` tokens, spread as in both groups together (Monroe, Colaresi and Quinn 2008).
    """
    counts = data.item_counts.astype(float)
    alpha = prior * counts.sum(0) / counts.sum() + 1e-9
    total = counts.sum(1)
    each = [np.log((counts[g] + alpha) / (total[g] + prior - counts[g] - alpha)) for g in range(2)]
    return (each[0] - each[1]) / np.sqrt(1 / (counts[0] + alpha) + 1 / (counts[1] + alpha))


def _itemsets(data, sets, counts, quality, rows: Sequence[int]) -> list[Itemset]:
    towards = direction(counts[:, 0], counts[:, 1], data.n_label)
    log_p = log_fisher_of(counts[:, 0], counts[:, 1], data.n_label)
    return [
        Itemset(sets[r], (int(counts[r, 0]), int(counts[r, 1])), int(towards[r]), float(log_p[r]), float(quality[r]))
        for r in rows
    ]


def _by_prefix(sets: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for s in sets:
        groups.setdefault(s[:-1], []).append(s)
    return list(groups.values())
