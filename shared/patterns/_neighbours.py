"""Neighbour lists of items from vectors, and how far into them a clause may grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared._checks import check_finite, check_range, check_shape
from shared.patterns._bits import count

_BLOCK = 512


def nearest_items(vectors: np.ndarray, k: int, *, names: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar other items of each item by cosine.

    Parameters
    ----------
    vectors : (M, d) array
        One row per item. A row of NaN stands for "no vector": such an item has no neighbours and is nobody's neighbour.
    k : int
        How many neighbours.
    names : M strings, optional
        The items' names, for the error message.

    Returns
    -------
    numbers : (M, k) int64
        Neighbours, nearest first; -1 where there is none.
    similarity : (M, k) float64
        Their cosines; -inf where there is none.

    Raises
    ------
    ValueError
        For a zero vector, which has no direction.
    """
    check_range("k", k, 0)
    return nearest_as("vectors", vectors, k, names)


def nearest_as(
    argument: str, vectors: np.ndarray, k: int, names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest_items` of what the caller calls `argument`."""
    vectors = np.asarray(vectors, dtype=float)
    check_shape(argument, vectors, ("M", "d"))
    known = ~np.isnan(vectors).any(axis=1)
    if known.any() or not vectors.size:
        check_finite(argument, vectors[known])
    lengths = np.linalg.norm(np.where(known[:, None], vectors, 1.0), axis=1)
    if (zero := np.flatnonzero(lengths == 0)).size:
        name = names[zero[0]] if names is not None else zero[0]
        raise ValueError(f"{argument} of {name!r} is all zero; give NaN for an item without a vector")
    unit = np.where(known[:, None], vectors, 0.0) / lengths[:, None]
    m = len(unit)
    numbers = np.full((m, k), -1, dtype=np.int64)
    similarity = np.full((m, k), -np.inf)
    kept = min(k, m - 1)
    for low in range(0, m, _BLOCK):
        block = unit[low : low + _BLOCK] @ unit.T
        block[:, ~known] = -np.inf
        block[~known[low : low + _BLOCK]] = -np.inf
        block[np.arange(len(block)), np.arange(low, low + len(block))] = -np.inf
        nearest = np.argsort(-block, axis=1, kind="stable")[:, :kept]
        similarity[low : low + len(block), :kept] = np.take_along_axis(block, nearest, axis=1)
        numbers[low : low + len(block), :kept] = nearest
    numbers[similarity == -np.inf] = -1
    return numbers, similarity


def upper_quartile(values: np.ndarray) -> float:
    """Median of the upper half (the middle value included when their number is odd)."""
    ordered = np.sort(values)
    return float(np.median(ordered[len(ordered) // 2 :]))


def clause_depth(numbers: np.ndarray, similarity: np.ndarray, max_overlap: float, columns: np.ndarray) -> np.ndarray:
    """How many neighbours each item's clause may take, (M,).

    Cut before the first neighbour that (a) makes the rows held twice exceed `max_overlap` of the clause's rows, or
    (b) is less similar than the upper quartile of all items' similarities at that rank. columns : packed, (M, W).
    """
    m, k_max = numbers.shape
    depth = np.full(m, k_max)
    union = columns.copy()
    twice = np.zeros_like(columns)
    for k in range(k_max):
        here = numbers[:, k]
        other = columns[np.maximum(here, 0)]
        twice |= union & other
        union |= other
        share = count(twice) / np.maximum(count(union), 1)
        known = similarity[:, k] > -np.inf
        quartile = upper_quartile(similarity[known, k]) if known.any() else np.inf
        cut = (share.astype(np.float32) > max_overlap) | (similarity[:, k] < quartile) | (here < 0)
        depth = np.where(cut, np.minimum(depth, k), depth)
    return depth
