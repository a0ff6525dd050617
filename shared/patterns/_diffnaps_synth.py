"""Synthetic data with known class-specific patterns, as in DiffNaps' experiments (section 4.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared._checks import check_range

Pattern = tuple[int, ...]


class PlantedData(NamedTuple):
    """Rows X (n, d) of 0 and 1 (uint8) in random order, labels y (n,), and the planted patterns of each class."""

    X: np.ndarray
    y: np.ndarray
    truth: dict[int, list[Pattern]]


def class_patterns(
    n_features: int,
    *,
    n_classes: int = 2,
    rows_per_class: int = 1000,
    patterns_per_class: int = 10,
    pattern_length: tuple[int, int] = (5, 14),
    patterns_per_row: int = 3,
    additive: int = 10,
    destructive: float = 0.025,
    keep_label: float = 0.9,
    background: int = 0,
    rng: np.random.Generator,
) -> PlantedData:
    """Draw data whose rows are the OR of some patterns of their class, disturbed by noise.

    Each class has `patterns_per_class` random item sets of a length in `pattern_length` (both ends included); a row is
    the OR of `patterns_per_row` different ones of its class, plus `additive` random items (drawn with replacement, as
    in the authors' program). A label is kept with probability `keep_label`, else another class is drawn. `background`
    patterns of 1 to 2.5 % of the items, two per row, belong to no class (the paper has 20 from 1,000 features on).
    Last, each item of a pattern that is wholly in a row is flipped with probability `destructive`.

    `ValueError` for sizes that contradict each other.
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
        c: [_items(n_features, int(rng.integers(low, high + 1)), rng) for _ in range(patterns_per_class)]
        for c in range(n_classes)
    }
    n = n_classes * rows_per_class
    source = rng.permutation(np.repeat(np.arange(n_classes), rows_per_class))
    X = np.zeros((n, n_features), dtype=bool)
    for c, patterns in truth.items():
        rows = np.flatnonzero(source == c)
        X[rows] = _mixtures(patterns, patterns_per_row, len(rows), n_features, rng)
    if additive:
        X[np.arange(n)[:, None], rng.integers(0, n_features, (n, additive))] = True
    if background:
        lengths = rng.integers(max(1, int(0.01 * n_features)), max(2, int(0.025 * n_features)), background)
        X |= _mixtures([_items(n_features, int(k), rng) for k in lengths], 2, n, n_features, rng)
    for patterns in truth.values():
        for pattern in patterns:
            held = np.flatnonzero(X[:, pattern].all(1))
            X[np.ix_(held, pattern)] ^= rng.random((len(held), len(pattern))) < destructive
    other = (source + rng.integers(1, n_classes, n)) % n_classes
    y = np.where(rng.random(n) < keep_label, source, other)
    return PlantedData(X.astype(np.uint8), y, truth)


def _items(n_features: int, length: int, rng: np.random.Generator) -> Pattern:
    return tuple(sorted(rng.choice(n_features, length, replace=False).tolist()))


def _mixtures(patterns: list[Pattern], k: int, n: int, n_features: int, rng: np.random.Generator) -> np.ndarray:
    """n rows (n, n_features), each the OR of k different patterns, all k-subsets being equally likely."""
    chosen = np.argsort(rng.random((n, len(patterns))), axis=1)[:, :k]
    rows = np.zeros((n, n_features), dtype=bool)
    for number, pattern in enumerate(patterns):
        rows[np.ix_(np.flatnonzero((chosen == number).any(1)), pattern)] = True
    return rows
