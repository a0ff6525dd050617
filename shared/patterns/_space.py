"""What a Premise search may choose from: single clauses, the pairs worth exploring, how far clauses may grow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from shared.patterns._bits import columns_or_empty, count
from shared.patterns._candidates import Candidates, candidates_of_clauses, candidates_of_items
from shared.patterns._codes import Clauses, Codes
from shared.patterns._data import TransactionSet
from shared.patterns._neighbours import clause_depth

_BLOCK_CELLS = 3e7  # of the co-occurrence matrix at a time


@dataclass
class SearchSpace:
    """The fixed part of a search, over M items and W packed words.

    columns : (M, W) packed columns. singles : single clauses, a chain per item (its clause grown neighbour by
    neighbour), chains together. pairs : pairs of clauses. neighbours : (M, K) lists. depth : (M,) how far along its
    list an item's clause may grow.
    """

    data: TransactionSet
    columns: np.ndarray
    singles: Candidates
    pairs: Candidates
    neighbours: np.ndarray
    depth: np.ndarray

    def with_pairs(self, rows: np.ndarray) -> SearchSpace:
        """Only these of the pairs."""
        return replace(self, pairs=self.pairs.select(rows))


def conjunction_space(codes: Codes, data: TransactionSet, min_overlap: float) -> SearchSpace:
    """The space without item vectors: every clause is one item.

    Of three items with rows {0, 1, 2}, {1, 2} and {3} it has three singles, and the one pair that overlaps:

    >>> X = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]])
    >>> data = TransactionSet.from_csr(X, [0, 0, 1, 1])
    >>> space = conjunction_space(Codes(4, 3, (2, 2)), data, min_overlap=0.3)
    >>> space.singles.items.ravel().tolist(), space.pairs.items.tolist(), space.pairs.counts.tolist()
    ([0, 1, 2], [[0, 1]], [[1, 1]])
    """
    everything = np.arange(data.n_items)
    pairs, counts = pairs_of_items(data, everything, min_overlap)
    return SearchSpace(
        data=data,
        columns=data.words(everything),
        singles=candidates_of_items(codes, data, everything[:, None], data.item_counts.T),
        pairs=candidates_of_items(codes, data, pairs, counts),
        neighbours=np.zeros((data.n_items, 0), dtype=np.int64),
        depth=np.zeros(data.n_items, dtype=np.int64),
    )


def clause_space(
    codes: Codes,
    data: TransactionSet,
    neighbours: np.ndarray,
    similarity: np.ndarray,
    *,
    min_overlap: float,
    max_overlap: float,
) -> SearchSpace:
    """The space with neighbour lists and similarities (M, K) from `nearest_items`: clauses grow along the lists.

    If item 0 may grow along its list [5, 2] to depth 2, its chain of single clauses is {0}, {0 | 5}, {0 | 5 | 2}.
    """
    columns = data.words(np.arange(data.n_items))
    depth = clause_depth(neighbours, similarity, max_overlap, columns)
    chains = [
        ((i, *neighbours[i, :k].tolist()),)  # a pattern of one clause
        for i in range(data.n_items)
        for k in range(depth[i] + 1)
    ]
    explored = pairs_to_explore(neighbours, columns, min_overlap)
    pairs = grow_pairs(explored, neighbours, depth)
    return SearchSpace(
        data=data,
        columns=columns,
        singles=candidates_of_clauses(codes, data, chains, columns),
        pairs=candidates_of_clauses(codes, data, pairs, columns),
        neighbours=neighbours,
        depth=depth,
    )


def pairs_of_items(data: TransactionSet, kept: np.ndarray, min_overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """All i < j of `kept` with |T_i ∩ T_j| > min_overlap · max(|T_i|, |T_j|): (P, 2) and their counts per label (P, 2).

    Co-occurrences come from sparse products in blocks of rows of the result, so memory follows the densest block.
    """
    n0 = data.n_label[0]
    X = data.by_label[:, kept]
    size = data.item_counts[:, kept].sum(0)
    halves = [(X[:n0].T.tocsr(), X[:n0]), (X[n0:].T.tocsr(), X[n0:])]
    density = X.nnz / max(X.shape[0] * X.shape[1], 1)
    block = max(1, int(_BLOCK_CELLS // max(X.shape[1] * min(1.0, 50 * density + 0.05), 1)))
    found = [np.zeros((0, 2), dtype=np.int64)]
    counts = [np.zeros((0, 2), dtype=np.int64)]
    for low in range(0, len(kept), block):
        under0, under1 = (sp.triu(a[low : low + block] @ b, k=low + 1).tocsr() for a, b in halves)
        both = (under0 + under1).tocoo()
        passing = both.data / np.maximum(size[both.row + low], size[both.col]) > min_overlap
        i = both.row[passing] + low
        j = both.col[passing]
        total = both.data[passing].astype(np.int64)
        in0 = np.asarray(under0[i - low, j]).ravel().astype(np.int64) if len(i) else np.zeros(0, np.int64)
        order = np.lexsort((j, i))
        found.append(np.stack([kept[i], kept[j]], axis=1)[order])
        counts.append(np.stack([in0, total - in0], axis=1)[order])
    return np.concatenate(found), np.concatenate(counts)


def pairs_to_explore(numbers: np.ndarray, columns: np.ndarray, min_overlap: float) -> list[tuple[int, int, int]]:
    """Ordered pairs (i, j, least depth in j) whose clauses, grown along the neighbour lists, overlap enough.

    The rows U_i of i with all its neighbours are held against those of j, grown until a neighbour shares no row with
    U_i; the overlap must exceed min_overlap of both. As in the authors' program the least depth is 0 where the fully
    grown clause passes, else the first depth that does.

    Items 0 and 1 ("photo", "picture") are each other's neighbour and hold rows {0, 1} and {2, 3}; item 2 ("of") has no
    neighbour and holds rows {0, 1, 2, 3}. "of" shares half its rows with "photo" alone and all with {photo | picture}:

    >>> numbers = np.array([[1], [0], [-1]])
    >>> columns = np.array([[0b0011], [0b1100], [0b1111]], dtype=np.uint64)
    >>> pairs_to_explore(numbers, columns, min_overlap=0.6)
    [(0, 1, 0), (0, 2, 0), (1, 0, 0), (1, 2, 0), (2, 0, 0), (2, 1, 0)]

    Where a neighbour spoils the overlap, the depth before it is the least; item 1 now holds rows {2, …, 7}:

    >>> columns = np.array([[0b00001111], [0b11111100], [0b00001111]], dtype=np.uint64)
    >>> pairs_to_explore(numbers, columns, min_overlap=0.6)[-1]
    (2, 0, 0)
    """
    chain = np.concatenate([np.arange(len(numbers))[:, None], numbers], axis=1)  # an item, then its neighbours
    grown = _grown(columns, numbers)
    sizes = [count(rows) for rows in grown]
    out: list[tuple[int, int, int]] = []
    for i, whole in enumerate(grown[-1]):  # U_i
        if sizes[-1][i] == 0:
            continue
        touches = count(columns & whole) > 0
        others = np.flatnonzero(touches)
        others = others[others != i]
        alive = np.ones(len(others), dtype=bool)  # no neighbour so far that shares no row with U_i
        least = np.full(len(others), -1)
        at_end = np.zeros(len(others), dtype=bool)
        for k, rows in enumerate(grown):
            here = chain[others, k]
            alive &= (here >= 0) & touches[np.maximum(here, 0)]
            overlap = count(rows[others] & whole)
            passing = overlap / np.maximum(sizes[-1][i], sizes[k][others]) > min_overlap
            least = np.where(alive & passing & (least < 0), k, least)
            at_end = np.where(alive, passing, at_end)
        least = np.where(at_end & (least > 0), 0, least)
        explored = least >= 0
        out.extend((i, int(j), int(d)) for j, d in zip(others[explored], least[explored]))
    return out


def _grown(columns: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """Rows (M, W) of every item alone, with its first neighbour, with its first two, …"""
    grown = [columns]
    for neighbour in numbers.T:
        grown.append(grown[-1] | columns_or_empty(columns, neighbour))
    return grown


def grow_pairs(pairs: list[tuple[int, int, int]], numbers: np.ndarray, depth: np.ndarray) -> list[Clauses]:
    """All clause pairs of the explored item pairs over the allowed depths, without repetitions, in search order.

    With the neighbour lists of `pairs_to_explore`, "photo" may grow by "picture", "of" by nothing:

    >>> grow_pairs([(0, 2, 0), (2, 0, 0)], np.array([[1], [0], [-1]]), np.array([1, 1, 0]))
    [((0,), (2,)), ((0, 1), (2,))]
    """
    seen: dict[frozenset, Clauses] = {}
    for i, j, least in pairs:
        chain_i = [i, *numbers[i, : depth[i]].tolist()]
        chain_j = [j, *numbers[j, : depth[j]].tolist()]
        before_least = [j, *numbers[j, : max(least - 1, 0)].tolist()][:least]
        first: tuple[int, ...] = ()
        for item in chain_i:
            first = (*first, item)
            second = tuple(n for n in before_least if n not in first)
            for other in chain_j[least:]:
                if other in first:
                    continue
                second = (*second, other)
                seen.setdefault(frozenset((frozenset(first), frozenset(second))), (first, second))
    return list(seen.values())
