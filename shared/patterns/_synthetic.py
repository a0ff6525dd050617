"""Synthetic tables with planted patterns, for which the right answer is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from shared._checks import check_range
from shared.patterns._codes import Clauses


class Planted(NamedTuple):
    """X (N, M) CSR, labels y (N,), the planted patterns and the label each goes with, and what must not be reported.

    decoys : patterns equally frequent under both labels. traps : groups of items with near-equal vectors that occur
    together. vectors : (M, d), near-equal within a clause (None for plain conjunctions).
    """

    X: sp.csr_matrix
    y: np.ndarray
    patterns: list[Clauses]
    directions: list[int]
    decoys: list[Clauses]
    traps: list[tuple[int, ...]]
    vectors: np.ndarray | None


def plant_conjunctions(
    rng: np.random.Generator,
    *,
    n_rows: int = 3000,
    n_items: int = 500,
    minority: float = 0.5,
    noise: float = 0.0,
    background: float = 0.01,
    n_patterns: int = 10,
    n_decoys: int = 5,
    rates: tuple[float, float] = (0.12, 0.02),
    decoy_rate: float = 0.08,
) -> Planted:
    """Disjoint conjunctions of 2–5 items, half of them for each label, over random items.

    minority : share of label 0. noise : chance that an item of a present pattern is dropped from the row. rates :
    chance that a pattern is present under its own and the other label; decoys have one rate under both.
    """
    check_range("minority", minority, 0.0, 1.0)
    check_range("noise", noise, 0.0, 1.0)
    y = (rng.random(n_rows) >= minority).astype(np.int8)
    sizes = rng.integers(2, 6, size=n_patterns + n_decoys)
    if sizes.sum() > n_items:
        raise ValueError(f"n_items={n_items} is too small for {sizes.sum()} planted items; give more items")
    items = rng.permutation(n_items)[: sizes.sum()]
    groups = [tuple((int(i),) for i in sorted(g)) for g in np.split(items, np.cumsum(sizes)[:-1])]
    X = rng.random((n_rows, n_items)) < background
    directions = [k % 2 for k in range(n_patterns)]
    for number, clauses in enumerate(groups):
        decoy = number >= n_patterns
        rate = decoy_rate if decoy else np.where(y == directions[number], *rates)
        _plant(X, rng.random(n_rows) < rate, clauses, noise, rng)
    return Planted(sp.csr_matrix(X), y, groups[:n_patterns], directions, groups[n_patterns:], [], None)


def plant_clauses(
    rng: np.random.Generator,
    *,
    n_rows: int = 3000,
    n_items: int = 600,
    minority: float = 0.5,
    noise: float = 0.0,
    background: float = 0.01,
    n_patterns: int = 8,
    n_traps: int = 3,
    synonyms: tuple[int, int] = (2, 4),
    rates: tuple[float, float] = (0.12, 0.02),
    dimension: int = 50,
    spread: float = 0.15,
) -> Planted:
    """Patterns of 1–3 clauses, every other clause with several synonyms of which one is drawn per occurrence.

    synonyms : least and largest number of synonyms in a clause that has several.
    Synonyms have vectors around one random direction (`spread` per coordinate, relative to a unit centre), all other
    items random ones. A trap is a group of three items with near-equal vectors that occur in the same rows.
    """
    check_range("minority", minority, 0.0, 1.0)
    y = (rng.random(n_rows) >= minority).astype(np.int8)
    free = rng.permutation(n_items).tolist()
    vectors = rng.normal(size=(n_items, dimension))
    patterns, several = [], True
    for _ in range(n_patterns):
        clauses = []
        for _ in range(int(rng.integers(1, 4))):
            size = int(rng.integers(synonyms[0], synonyms[1] + 1)) if several else 1
            clauses.append(tuple(sorted(free.pop() for _ in range(size))))
            several = not several
        patterns.append(tuple(clauses))
    traps = [tuple(sorted(free.pop() for _ in range(3))) for _ in range(n_traps)]
    for group in [c for p in patterns for c in p if len(c) > 1] + traps:
        center = rng.normal(size=dimension)
        center /= np.linalg.norm(center)
        vectors[list(group)] = center + spread * rng.normal(size=(len(group), dimension)) / np.sqrt(dimension)
    X = rng.random((n_rows, n_items)) < background
    directions = [k % 2 for k in range(n_patterns)]
    for clauses, direction in zip(patterns, directions):
        _plant(X, rng.random(n_rows) < np.where(y == direction, *rates), clauses, noise, rng)
    for group in traps:
        rows = rng.random(n_rows) < 0.08
        X[np.ix_(rows, group)] = True
    return Planted(sp.csr_matrix(X), y, patterns, directions, [], traps, vectors)


def _plant(X: np.ndarray, present: np.ndarray, clauses: Clauses, noise: float, rng: np.random.Generator) -> None:
    """Put a pattern into rows of X: of each clause exactly one item, drawn per row."""
    rows = np.flatnonzero(present)
    for clause in clauses:
        X[np.ix_(rows, clause)] = False
        chosen = np.asarray(clause)[rng.integers(len(clause), size=len(rows))]
        kept = rng.random(len(rows)) >= noise
        X[rows[kept], chosen[kept]] = True
