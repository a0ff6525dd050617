"""The candidates that don't depend on the pattern set: clauses around one item, and pairs of clauses.

Their supports and Fisher's p never change during a search, so they are listed once, those that fail the test are
dropped for good, and the search only updates how many rows of each item a candidate would leave over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from shared.patterns._bits import count
from shared.patterns._codes import Clauses, Codes, label_counts, universal_code_length
from shared.patterns._codes import binomial_regret as regret
from shared.patterns._data import TransactionSet

_BLOCK_WORDS = 1 << 22  # 32 MB of packed words at a time


@dataclass
class Table:
    """C candidates with at most L items each, padded with -1.

    items, clause : (C, L) int32, item number and which clause it belongs to. counts : (C, 2) support per label.
    fixed : (C,) bits for sending the pattern itself. left : (C, L) rows of each item that it would leave over.
    """

    items: np.ndarray
    clause: np.ndarray
    counts: np.ndarray
    fixed: np.ndarray
    left: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def clauses(self, row: int) -> Clauses:
        """The clauses of one candidate, each sorted."""
        items, clause = self.items[row], self.clause[row]
        return tuple(tuple(sorted(items[clause == c].tolist())) for c in range(clause.max() + 1))

    def take(self, rows: np.ndarray) -> Table:
        """The candidates at `rows`."""
        return Table(self.items[rows], self.clause[rows], self.counts[rows], self.fixed[rows], self.left[rows])


def pairs_of_items(data: TransactionSet, kept: np.ndarray, min_overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """All i < j of `kept` with |T_i ∩ T_j| > min_overlap · max(|T_i|, |T_j|): (P, 2) and their counts per label (P, 2).

    Co-occurrences come from sparse products in blocks of rows of the result, so memory follows the densest block.
    """
    n0 = data.n_label[0]
    X = data.by_label[:, kept]
    size = data.item_counts[:, kept].sum(0)
    halves = [(X[:n0].T.tocsr(), X[:n0]), (X[n0:].T.tocsr(), X[n0:])]
    density = X.nnz / max(X.shape[0] * X.shape[1], 1)
    block = max(1, int(3e7 // max(X.shape[1] * min(1.0, 50 * density + 0.05), 1)))
    found = [np.zeros((0, 2), dtype=np.int64)]
    counts = [np.zeros((0, 2), dtype=np.int64)]
    for low in range(0, len(kept), block):
        c0, c1 = (sp.triu(a[low : low + block] @ b, k=low + 1).tocsr() for a, b in halves)
        both = (c0 + c1).tocoo()
        i, j = both.row + low, both.col
        passing = both.data / np.maximum(size[i], size[j]) > min_overlap
        i, j, total = i[passing], j[passing], both.data[passing].astype(np.int64)
        in0 = np.asarray(c0[i - low, j]).ravel().astype(np.int64) if len(i) else np.zeros(0, np.int64)
        order = np.lexsort((j, i))
        found.append(np.stack([kept[i], kept[j]], axis=1)[order])
        counts.append(np.stack([in0, total - in0], axis=1)[order])
    return np.concatenate(found), np.concatenate(counts)


def table_of_items(codes: Codes, data: TransactionSet, groups: np.ndarray, counts: np.ndarray) -> Table:
    """Candidates whose clauses are one item each: groups (C, k) item numbers, counts (C, 2)."""
    k = groups.shape[1]
    total = counts.sum(1)
    left = data.item_counts.sum(0)[groups] - total[:, None]
    fixed = codes.placing(counts[:, 0], counts[:, 1]) + codes.model([1] * k)
    clause = np.broadcast_to(np.arange(k, dtype=np.int32), groups.shape).copy()
    return Table(groups.astype(np.int32), clause, counts, fixed, left)


def pairs_to_explore(
    data: TransactionSet, numbers: np.ndarray, columns: np.ndarray, min_overlap: float
) -> list[tuple[int, int, int]]:
    """Ordered pairs (i, j, least depth in j) whose clauses, grown along the neighbour lists, overlap enough.

    The rows U_i of i with all its neighbours are held against those of j, grown until a neighbour shares no row with
    U_i; the overlap must exceed min_overlap of both. As in the authors' program the least depth is 0 where the fully
    grown clause passes, else the first depth that does.
    """
    m, k_max = numbers.shape
    chain = np.concatenate([np.arange(m)[:, None], numbers], axis=1)
    grown = [columns]
    for k in range(k_max):
        grown.append(
            grown[-1] | np.where(numbers[:, k, None] >= 0, columns[np.maximum(numbers[:, k], 0)], np.uint64(0))
        )
    sizes = [count(g) for g in grown]
    full = grown[-1]
    out: list[tuple[int, int, int]] = []
    for i in range(m):
        if sizes[-1][i] == 0:
            continue
        touches = count(columns & full[i]) > 0
        others = np.flatnonzero(touches)
        others = others[others != i]
        alive = np.ones(len(others), dtype=bool)
        least, last = np.full(len(others), -1), np.zeros(len(others), dtype=bool)
        for k in range(k_max + 1):
            here = chain[others, k]
            alive &= (here >= 0) & touches[np.maximum(here, 0)]
            overlap = count(grown[k][others] & full[i])
            passing = overlap / np.maximum(sizes[-1][i], sizes[k][others]) > min_overlap
            least = np.where(alive & passing & (least < 0), k, least)
            last = np.where(alive, passing, last)
        least = np.where(last & (least > 0), 0, least)
        out.extend((i, int(j), int(d)) for j, d in zip(others[least >= 0], least[least >= 0]))
    return out


def grow_pairs(pairs: list[tuple[int, int, int]], numbers: np.ndarray, depth: np.ndarray) -> list[Clauses]:
    """All clause pairs of the explored item pairs over the allowed depths, without repetitions, in search order."""
    seen: dict[frozenset, Clauses] = {}
    for i, j, least in pairs:
        first: tuple[int, ...] = ()
        for item in [i, *numbers[i, : depth[i]].tolist()]:
            first = (*first, item)
            second = tuple(n for n in [j, *numbers[j, : max(least - 1, 0)].tolist()][:least] if n not in first)
            for item2 in [j, *numbers[j, : depth[j]].tolist()][least:]:
                if item2 in first:
                    continue
                second = (*second, item2)
                seen.setdefault(frozenset((frozenset(first), frozenset(second))), (first, second))
    return list(seen.values())


def table_of_clauses(codes: Codes, data: TransactionSet, patterns: list[Clauses], columns: np.ndarray) -> Table:
    """Candidates with clauses of several items; supports are counted in blocks of packed words."""
    width = max((sum(map(len, p)) for p in patterns), default=1)
    items = np.full((len(patterns), width), -1, dtype=np.int32)
    clause = np.full((len(patterns), width), -1, dtype=np.int32)
    for row, pattern in enumerate(patterns):
        flat = [(i, c) for c, members in enumerate(pattern) for i in sorted(members)]
        items[row, : len(flat)] = [i for i, _ in flat]
        clause[row, : len(flat)] = [c for _, c in flat]
    counts = np.zeros((len(patterns), 2), dtype=np.int64)
    held = np.zeros((len(patterns), width, 2), dtype=np.int64)
    for block in blocks(len(patterns), columns.shape[1] * (width + 1)):
        words = support_of(items[block], clause[block], columns)
        counts[block] = label_counts(words, data.split)
        for slot in range(width):
            here = np.where(items[block, slot, None] >= 0, columns[np.maximum(items[block, slot], 0)], np.uint64(0))
            held[block, slot] = label_counts(here & words, data.split)
    sizes = np.stack([(clause == c).sum(1) for c in range(clause.max(initial=0) + 1)], axis=1)
    cost = {
        s: float(codes.choose(data.n_items, s)) + regret(data.n_items) if s else 0.0 for s in np.unique(sizes).tolist()
    }
    fixed = codes.placing(counts[:, 0], counts[:, 1]) + np.vectorize(cost.get, otypes=[float])(sizes).sum(1)
    fixed += np.array([0.0, *map(universal_code_length, range(1, sizes.shape[1] + 1))])[(sizes > 0).sum(1)]
    fixed += _naming(codes, clause, sizes, counts, held)
    left = np.where(items >= 0, data.item_counts.sum(0)[np.maximum(items, 0)] - held.sum(2), 0)
    return Table(items, clause, counts, fixed, left)


def _naming(codes: Codes, clause: np.ndarray, sizes: np.ndarray, counts: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Bits for naming the item of each clause of several, for all candidates; see `Codes.naming`."""
    regrets = np.array([regret(n) for n in range(int(counts.max(initial=0)) + 1)])
    bits = np.zeros(len(clause))
    for c in range(sizes.shape[1]):
        several = sizes[:, c] > 1
        for label in range(2):
            m = counts[:, label].copy()
            for slot in range(clause.shape[1]):
                on = several & (clause[:, slot] == c)
                a = np.where(on, held[:, slot, label], 0)
                bits += np.where(on, codes.choose(m, a) + regrets[m], 0.0)
                m -= a
    return bits


def support_of(items: np.ndarray, clause: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Packed supports (C, W) of candidates in table form."""
    words = None
    for c in range(int(clause.max()) + 1):
        member = clause == c
        once = np.zeros((len(items), columns.shape[1]), dtype=np.uint64)
        twice = np.zeros_like(once)
        for slot in np.flatnonzero(member.any(0)):
            column = np.where(member[:, slot, None], columns[np.maximum(items[:, slot], 0)], np.uint64(0))
            twice |= once & column
            once |= column
        held = once & ~twice
        held[~member.any(1)] = ~np.uint64(0)  # a candidate without this clause
        words = held if words is None else words & held
    return words


def blocks(n: int, words_each: int) -> list[slice]:
    """Slices over n candidates so that a block needs about `_BLOCK_WORDS` words."""
    step = max(1, _BLOCK_WORDS // max(words_each, 1))
    return [slice(low, min(low + step, n)) for low in range(0, n, step)]
