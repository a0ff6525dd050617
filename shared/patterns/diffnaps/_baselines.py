"""What DiffNaps is compared with, each bringing its result into the same form: item sets per class."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from scipy.stats import hypergeom
from sklearn.tree import DecisionTreeClassifier

from shared._checks import check_range
from shared.patterns._patterns import Items
from shared.patterns._premise import Premise
from shared.patterns.diffnaps._rows import rows_and_labels, strict_binary_csr


def tree_patterns(
    X: Any, y: Any, *, max_depth: int = 20, generator: np.random.Generator | None = None
) -> dict[Hashable, list[Items]]:
    """Decision tree (Gini, the paper's depth limit): the items that must be present on the path to each leaf.

    A path belongs to its leaf's majority class; paths that need no item present give no pattern, and absences, which a
    conjunction can't say, are left out (the paper doesn't tell how it reads its trees).

    Parameters
    ----------
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    y : (N,) labels
        A class per row.
    max_depth : int
        Of the tree.
    generator : numpy.random.Generator, optional
        Decides between splits that are equally good; None decides the same way each time.

    Returns
    -------
    {class: list of tuples of int}
        Item numbers.
    """
    X, y = rows_and_labels(X, y)
    seed = 0 if generator is None else int(generator.integers(2**31))
    model = DecisionTreeClassifier(max_depth=max_depth, random_state=seed).fit(X, y)
    tree = model.tree_
    labels = model.classes_.tolist()
    found: dict[Hashable, set[Items]] = {label: set() for label in labels}
    stack: list[tuple[int, Items]] = [(0, ())]
    while stack:
        node, path = stack.pop()
        if tree.children_left[node] < 0:
            if path:
                found[labels[tree.value[node][0].argmax()]].add(tuple(sorted(path)))
            continue
        stack.append((tree.children_left[node], path))
        stack.append((tree.children_right[node], (*path, int(tree.feature[node]))))
    return {label: sorted(patterns) for label, patterns in found.items()}


def premise_patterns(X: Any, y: Any, **options: Any) -> dict[Hashable, list[Items]]:
    """Premise's conjunctions (no clauses) per class; one against all the others where there are more than two.

    Parameters
    ----------
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    y : (N,) labels
        A class per row.
    **options
        For `Premise`.

    Returns
    -------
    {class: list of tuples of int}
        Item numbers.
    """
    X, y = rows_and_labels(X, y)
    classes = np.unique(y).tolist()
    found: dict[Hashable, list[Items]] = {}
    for label in classes[1:] if len(classes) == 2 else classes:
        model = Premise(n_neighbors=0, **options).fit(X, (y == label).astype(int))
        found[label] = sorted(p.items for p in model.patterns_ if p.direction == 1)
        if len(classes) == 2:
            found[classes[0]] = sorted(p.items for p in model.patterns_ if p.direction == 0)
    return {label: found[label] for label in classes}


class TooManyPatternsError(RuntimeError):
    """A level-wise search that passed its limit.

    Parameters
    ----------
    level : int
        The length of the sets at which it did.
    count : int
        How many there were up to then.
    """

    def __init__(self, level: int, count: int) -> None:
        super().__init__(f"{count:,} frequent item sets of length {level} or less: over the limit")
        self.level = level
        self.count = count


def significant_patterns(
    X: Any, y: Any, *, min_support: float = 0.05, alpha: float = 0.05, max_length: int = 14, limit: int = 100_000
) -> dict[Hashable, list[Items]]:
    """All item sets that are frequent in a class and significantly more frequent there than elsewhere.

    Level-wise search per class (Apriori: a set of length k is only counted if its parts were frequent), then Fisher's
    exact test, one-sided, at alpha divided by the number of frequent sets.

    Parameters
    ----------
    X : (N, d) array, sparse matrix or data frame
        Rows of 0 and 1.
    y : (N,) labels
        A class per row.
    min_support : float
        Least share of a class' rows.
    alpha : float
        Level of the test, before Bonferroni's correction.
    max_length : int
        Most items in a set.
    limit : int
        Most frequent sets of a class.

    Returns
    -------
    {class: list of tuples of int}
        Item numbers, two at least.

    Raises
    ------
    TooManyPatternsError
        As soon as a class has over `limit` frequent sets.
    """
    check_range("max_length", max_length, 1)
    check_range("limit", limit, 1)
    X, y = rows_and_labels(X, y)
    check_range("min_support", min_support, 1e-9, 1)
    found: dict[Hashable, list[Items]] = {}
    for label in np.unique(y).tolist():
        mine = y == label
        sets = frequent_sets(X[mine], min_support, max_length, limit)
        if not sets:
            found[label] = []
            continue
        inside, outside = supports(X[mine], sets), supports(X[~mine], sets)
        total = inside + outside
        p = hypergeom.sf(inside - 1, len(y), mine.sum(), total)
        found[label] = sorted(s for s, value in zip(sets, p) if value <= alpha / len(sets) and len(s) > 1)
    return found


def frequent_sets(X: Any, min_support: float, max_length: int, limit: int) -> list[Items]:
    """Item sets of at most `max_length` items that at least `min_support` of the rows hold, by length."""
    columns = strict_binary_csr(X).tocsc()
    least = min_support * columns.shape[0]
    items = np.flatnonzero(np.asarray(columns.sum(0)).ravel() >= least)
    level: dict[Items, np.ndarray] = {(int(i),): columns[:, i].toarray().ravel() > 0 for i in items}
    frequent = list(level)
    while level and len(next(iter(level))) < max_length:
        longer: dict[Items, np.ndarray] = {}
        prefixes: dict[Items, list[int]] = {}
        for pattern in level:
            prefixes.setdefault(pattern[:-1], []).append(pattern[-1])
        for prefix, last in prefixes.items():
            rows = np.array([level[(*prefix, i)] for i in last])
            for a in range(len(last) - 1):
                both = rows[a] & rows[a + 1 :]
                for b in np.flatnonzero(both.sum(1) >= least):
                    longer[(*prefix, last[a], last[a + 1 + b])] = both[b]
            if len(frequent) + len(longer) > limit:
                raise TooManyPatternsError(len(prefix) + 2, len(frequent) + len(longer))
        level = longer
        frequent.extend(level)
    return frequent


def supports(X: Any, sets: list[Items]) -> np.ndarray:
    """Number of rows that hold each set, (P,) int, by AND over bit-packed columns."""
    packed = np.packbits(strict_binary_csr(X).toarray().astype(bool).T, axis=1)
    lengths = np.array([len(s) for s in sets])
    counts = np.zeros(len(sets), dtype=int)
    for length in np.unique(lengths):
        which = np.flatnonzero(lengths == length)
        for part in np.split(which, range(4096, len(which), 4096)):
            items = np.array([sets[i] for i in part])
            counts[part] = np.bitwise_count(np.bitwise_and.reduce(packed[items], axis=1)).sum(1)
    return counts
