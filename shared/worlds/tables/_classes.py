"""Tables with known class-specific patterns, as in DiffNaps' experiments (section 4.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared._checks import check_range

Pattern = tuple[int, ...]


class PlantedClasses(NamedTuple):
    """A table and what was planted in it.

    Attributes
    ----------
    X : ndarray of uint8, shape (n, d)
        Rows of 0 and 1, in random order.
    y : ndarray of int, shape (n,)
    truth : dict of int to list of tuple of int
        The planted patterns of each class: sorted items.
    """

    X: np.ndarray
    y: np.ndarray
    truth: dict[int, list[Pattern]]


def plant_class_patterns(
    n_features: int,
    *,
    generator: np.random.Generator,
    n_classes: int = 2,
    rows_per_class: int = 1000,
    patterns_per_class: int = 10,
    pattern_length: tuple[int, int] = (5, 14),
    patterns_per_row: int = 3,
    additive: int = 10,
    destructive: float = 0.025,
    keep_label: float = 0.9,
    background: int = 0,
) -> PlantedClasses:
    """Draw data whose rows are the OR of some patterns of their class, disturbed by noise.

    Parameters
    ----------
    n_features : int
    generator : numpy.random.Generator
    n_classes, rows_per_class : int
    patterns_per_class : int
        Random item sets of each class.
    pattern_length : (int, int)
        Least and largest number of items of a pattern.
    patterns_per_row : int
        Different patterns of its class that a row is the OR of.
    additive : int
        Random items added to each row, drawn with replacement as in the authors' program.
    destructive : float
        Chance that an item of a pattern that is wholly in a row is flipped, last of all.
    keep_label : float
        Chance that a row keeps its label; else another class is drawn.
    background : int
        Patterns of no class, of 1 to 2.5 % of the items, two per row (the paper: 20 from 1,000 features on).

    Returns
    -------
    PlantedClasses

    Raises
    ------
    ValueError
        For sizes that contradict each other.
    """
    low, high = pattern_length
    check_range("n_classes", n_classes, 2)
    check_range("patterns_per_row", patterns_per_row, 1, patterns_per_class)
    check_range("destructive", destructive, 0, 1)
    check_range("keep_label", keep_label, 0, 1)
    check_range("pattern_length[0]", low, 1, high)
    check_range("pattern_length[1]", high, low, n_features)
    if background == 1:
        raise ValueError("background=1 pattern can't give two to a row; accepted: 0 or at least 2")
    truth = {
        c: [_items(n_features, int(generator.integers(low, high + 1)), generator) for _ in range(patterns_per_class)]
        for c in range(n_classes)
    }
    n = n_classes * rows_per_class
    source = generator.permutation(np.repeat(np.arange(n_classes), rows_per_class))
    X = np.zeros((n, n_features), dtype=bool)
    for c, patterns in truth.items():
        rows = np.flatnonzero(source == c)
        X[rows] = _mixtures(patterns, patterns_per_row, len(rows), n_features, generator)
    if additive:
        X[np.arange(n)[:, None], generator.integers(0, n_features, (n, additive))] = True
    if background:
        lengths = generator.integers(max(1, int(0.01 * n_features)), max(2, int(0.025 * n_features)), background)
        X |= _mixtures([_items(n_features, int(k), generator) for k in lengths], 2, n, n_features, generator)
    for patterns in truth.values():
        for pattern in patterns:
            held = np.flatnonzero(X[:, pattern].all(1))
            X[np.ix_(held, pattern)] ^= generator.random((len(held), len(pattern))) < destructive
    other = (source + generator.integers(1, n_classes, n)) % n_classes
    y = np.where(generator.random(n) < keep_label, source, other)
    return PlantedClasses(X.astype(np.uint8), y, truth)


def _items(n_features: int, length: int, generator: np.random.Generator) -> Pattern:
    return tuple(sorted(generator.choice(n_features, length, replace=False).tolist()))


def _mixtures(patterns: list[Pattern], k: int, n: int, n_features: int, generator: np.random.Generator) -> np.ndarray:
    """n rows (n, n_features), each the OR of k different patterns, all k-subsets being equally likely."""
    chosen = np.argsort(generator.random((n, len(patterns))), axis=1)[:, :k]
    rows = np.zeros((n, n_features), dtype=bool)
    for number, pattern in enumerate(patterns):
        rows[np.ix_(np.flatnonzero((chosen == number).any(1)), pattern)] = True
    return rows
