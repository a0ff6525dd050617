"""Tables with planted conjunctions and clauses: known patterns, decoys and traps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from shared._checks import check_range

Clauses = tuple[tuple[int, ...], ...]  # a pattern: of each clause one item at least


class PlantedTable(NamedTuple):
    """A table, what was planted in it and what must not be reported.

    Attributes
    ----------
    X : csr_matrix of bool, shape (N, M)
    y : ndarray of 0 and 1, shape (N,)
    patterns : list of clauses
        A pattern is a tuple of clauses, a clause a tuple of items of which one occurs.
    directions : list of int
        The label that each pattern goes with.
    decoys : list of clauses
        Patterns equally frequent under both labels.
    traps : list of tuple of int
        Items with near-equal vectors that occur together.
    vectors : ndarray, shape (M, d), or None for plain conjunctions
        Near-equal within a clause.
    """

    X: sp.csr_matrix
    y: np.ndarray
    patterns: list[Clauses]
    directions: list[int]
    decoys: list[Clauses]
    traps: list[tuple[int, ...]]
    vectors: np.ndarray | None


def plant_conjunctions(
    *,
    generator: np.random.Generator,
    n_rows: int = 3000,
    n_items: int = 500,
    minority: float = 0.5,
    noise: float = 0.0,
    background: float = 0.01,
    n_patterns: int = 10,
    n_decoys: int = 5,
    rates: tuple[float, float] = (0.12, 0.02),
    decoy_rate: float = 0.08,
) -> PlantedTable:
    """Disjoint conjunctions of 2–5 items, half of them for each label, over random items.

    Parameters
    ----------
    generator : numpy.random.Generator
    n_rows, n_items : int
    minority : float
        Share of label 0.
    noise : float
        Chance that an item of a present pattern is dropped from the row.
    background : float
        Chance of any item in any row.
    n_patterns, n_decoys : int
    rates : (float, float)
        Chance that a pattern is present under its own and under the other label.
    decoy_rate : float
        The same under both labels.

    Returns
    -------
    PlantedTable

    Raises
    ------
    ValueError
        For a share out of [0, 1] or too few items for the patterns.
    """
    check_range("minority", minority, 0.0, 1.0)
    check_range("noise", noise, 0.0, 1.0)
    y = (generator.random(n_rows) >= minority).astype(np.int8)
    sizes = generator.integers(2, 6, size=n_patterns + n_decoys)
    if sizes.sum() > n_items:
        raise ValueError(f"n_items={n_items} is too small for {sizes.sum()} planted items; give more items")
    items = generator.permutation(n_items)[: sizes.sum()]
    groups = [tuple((int(i),) for i in sorted(g)) for g in np.split(items, np.cumsum(sizes)[:-1])]
    X = generator.random((n_rows, n_items)) < background
    directions = [k % 2 for k in range(n_patterns)]
    for number, clauses in enumerate(groups):
        decoy = number >= n_patterns
        rate = decoy_rate if decoy else np.where(y == directions[number], *rates)
        _plant(X, generator.random(n_rows) < rate, clauses, noise, generator)
    return PlantedTable(sp.csr_matrix(X), y, groups[:n_patterns], directions, groups[n_patterns:], [], None)


def plant_clauses(
    *,
    generator: np.random.Generator,
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
) -> PlantedTable:
    """Patterns of 1–3 clauses, every other clause with several synonyms of which one is drawn per occurrence.

    Synonyms have vectors around one random direction, all other items random ones. A trap is a group of three items
    with near-equal vectors that occur in the same rows.

    Parameters
    ----------
    generator : numpy.random.Generator
    n_rows, n_items : int
    minority : float
        Share of label 0.
    noise : float
        Chance that the drawn item of a present clause is dropped from the row.
    background : float
        Chance of any item in any row.
    n_patterns, n_traps : int
    synonyms : (int, int)
        Least and largest number of synonyms in a clause that has several.
    rates : (float, float)
        Chance that a pattern is present under its own and under the other label.
    dimension : int
        Of the vectors.
    spread : float
        Of synonyms around their unit centre, per coordinate times sqrt(dimension).

    Returns
    -------
    PlantedTable

    Raises
    ------
    ValueError
        For a share out of [0, 1] or too few items for the patterns.
    """
    check_range("minority", minority, 0.0, 1.0)
    y = (generator.random(n_rows) >= minority).astype(np.int8)
    free = generator.permutation(n_items).tolist()
    vectors = generator.normal(size=(n_items, dimension))
    patterns = _clauses(free, n_patterns, synonyms, generator)
    if 3 * n_traps > len(free):
        raise ValueError(f"n_items={n_items} is too small for the patterns and {n_traps} traps; give more items")
    traps = [tuple(sorted(free.pop() for _ in range(3))) for _ in range(n_traps)]
    for group in [c for p in patterns for c in p if len(c) > 1] + traps:
        center = generator.normal(size=dimension)
        center /= np.linalg.norm(center)
        vectors[list(group)] = center + spread * generator.normal(size=(len(group), dimension)) / np.sqrt(dimension)
    X = generator.random((n_rows, n_items)) < background
    directions = [k % 2 for k in range(n_patterns)]
    for clauses, direction in zip(patterns, directions):
        _plant(X, generator.random(n_rows) < np.where(y == direction, *rates), clauses, noise, generator)
    for group in traps:
        rows = generator.random(n_rows) < 0.08
        X[np.ix_(rows, group)] = True
    return PlantedTable(sp.csr_matrix(X), y, patterns, directions, [], traps, vectors)


def _clauses(
    free: list[int], n_patterns: int, synonyms: tuple[int, int], generator: np.random.Generator
) -> list[Clauses]:
    """Patterns of 1–3 clauses whose items are taken from `free`; every other clause has several."""
    patterns: list[Clauses] = []
    several = True
    for _ in range(n_patterns):
        clauses = []
        for _ in range(int(generator.integers(1, 4))):
            size = int(generator.integers(synonyms[0], synonyms[1] + 1)) if several else 1
            if size > len(free):
                raise ValueError(f"n_items is too small for {n_patterns} patterns; give more items")
            clauses.append(tuple(sorted(free.pop() for _ in range(size))))
            several = not several
        patterns.append(tuple(clauses))
    return patterns


def _plant(X: np.ndarray, present: np.ndarray, clauses: Clauses, noise: float, generator: np.random.Generator) -> None:
    """Put a pattern into rows of X: of each clause exactly one item, drawn per row."""
    rows = np.flatnonzero(present)
    for clause in clauses:
        X[np.ix_(rows, clause)] = False
        chosen = np.asarray(clause)[generator.integers(len(clause), size=len(rows))]
        kept = generator.random(len(rows)) >= noise
        X[rows[kept], chosen[kept]] = True
