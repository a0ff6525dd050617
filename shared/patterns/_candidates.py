"""Tables of candidates that don't depend on the pattern set: clauses around one item, and pairs of clauses.

Their supports and Fisher's p never change during a search, so they are listed once, those that fail the test are
dropped for good, and the search only updates how many rows of each item a candidate would leave over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.patterns._bits import columns_or_empty
from shared.patterns._codes import Clauses, Codes, label_counts, universal_code_length
from shared.patterns._codes import binomial_regret as regret
from shared.patterns._data import TransactionSet

_BLOCK_WORDS = 1 << 22  # 32 MB of packed words at a time


@dataclass
class Candidates:
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
        items = self.items[row]
        clause = self.clause[row]
        return tuple(tuple(sorted(items[clause == c].tolist())) for c in range(clause.max() + 1))

    def select(self, rows: np.ndarray) -> Candidates:
        """The candidates at `rows`."""
        return Candidates(self.items[rows], self.clause[rows], self.counts[rows], self.fixed[rows], self.left[rows])


def candidates_of_items(codes: Codes, data: TransactionSet, groups: np.ndarray, counts: np.ndarray) -> Candidates:
    """Candidates whose clauses are one item each: groups (C, k) item numbers, counts (C, 2)."""
    k = groups.shape[1]
    total = counts.sum(1)
    left = data.item_counts.sum(0)[groups] - total[:, None]
    fixed = codes.placing(counts[:, 0], counts[:, 1]) + codes.model([1] * k)
    clause = np.broadcast_to(np.arange(k, dtype=np.int32), groups.shape).copy()
    return Candidates(groups.astype(np.int32), clause, counts, fixed, left)


def candidates_of_clauses(
    codes: Codes, data: TransactionSet, patterns: list[Clauses], columns: np.ndarray
) -> Candidates:
    """Candidates with clauses of several items; supports are counted in blocks of packed words (M, W)."""
    items, clause = padded(patterns)
    counts, held = _counted(items, clause, columns, data.split)
    left = np.where(items >= 0, data.item_counts.sum(0)[np.maximum(items, 0)] - held.sum(2), 0)
    return Candidates(items, clause, counts, fixed_bits(codes, clause, counts, held), left)


def padded(patterns: list[Clauses], *, in_order: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Patterns as item numbers and clause numbers (C, L), filled up with -1; clauses are sorted unless `in_order`.

    >>> items, clause = padded([((4,), (7,)), ((2, 5), (1,))])
    >>> items.tolist(), clause.tolist()
    ([[4, 7, -1], [2, 5, 1]], [[0, 1, -1], [0, 0, 1]])
    """
    width = max((sum(map(len, p)) for p in patterns), default=1)
    items = np.full((len(patterns), width), -1, dtype=np.int32)
    clause = np.full((len(patterns), width), -1, dtype=np.int32)
    for row, pattern in enumerate(patterns):
        flat = [(i, c) for c, members in enumerate(pattern) for i in (members if in_order else sorted(members))]
        items[row, : len(flat)] = [i for i, _ in flat]
        clause[row, : len(flat)] = [c for _, c in flat]
    return items, clause


def _counted(items: np.ndarray, clause: np.ndarray, columns: np.ndarray, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows per label that hold each candidate (C, 2), and of those the rows with each of its items (C, L, 2)."""
    n, width = items.shape
    counts = np.zeros((n, 2), dtype=np.int64)
    held = np.zeros((n, width, 2), dtype=np.int64)
    for block in blocks(n, columns.shape[1] * (width + 1)):
        support = support_of(items[block], clause[block], columns)
        counts[block] = label_counts(support, split)
        for slot in range(width):
            held[block, slot] = label_counts(columns_or_empty(columns, items[block, slot]) & support, split)
    return counts, held


def fixed_bits(codes: Codes, clause: np.ndarray, counts: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Bits (C,) for sending each candidate itself: where it holds, how it is spelt, which item of a clause is where."""
    sizes = np.stack([(clause == c).sum(1) for c in range(clause.max(initial=0) + 1)], axis=1)  # items per clause
    spelling = {
        s: float(codes.choose(codes.n_items, s)) + regret(codes.n_items) if s else 0.0
        for s in np.unique(sizes).tolist()
    }
    number = np.array([0.0, *map(universal_code_length, range(1, sizes.shape[1] + 1))])
    bits = codes.placing(counts[:, 0], counts[:, 1]) + np.vectorize(spelling.get, otypes=[float])(sizes).sum(1)
    bits += number[(sizes > 0).sum(1)]
    bits += _naming(codes, clause, sizes, counts, held)
    return bits


def _naming(codes: Codes, clause: np.ndarray, sizes: np.ndarray, counts: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Bits for naming the item of each clause of several, for all candidates; see `Codes.naming`."""
    regrets = np.array([regret(n) for n in range(int(counts.max(initial=0)) + 1)])
    bits = np.zeros(len(clause))
    for c in range(sizes.shape[1]):
        several = sizes[:, c] > 1
        for label in range(2):
            unnamed = counts[:, label].copy()  # rows whose item is still to be said
            for slot in range(clause.shape[1]):
                on = several & (clause[:, slot] == c)
                here = np.where(on, held[:, slot, label], 0)
                bits += np.where(on, codes.choose(unnamed, here) + regrets[unnamed], 0.0)
                unnamed -= here
    return bits


def support_of(items: np.ndarray, clause: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Packed supports (C, W) of candidates in table form: the rows in which each clause has exactly one of its items.

    Three rows hold items {0}, {0, 1}, {1, 2}; the candidate is "exactly one of 0 and 1, and 2", so only the last row:

    >>> columns = np.array([[0b011], [0b110], [0b100]], dtype=np.uint64)
    >>> f"{support_of(np.array([[0, 1, 2]]), np.array([[0, 0, 1]]), columns)[0, 0]:03b}"
    '100'
    """
    support = None
    for c in range(int(clause.max()) + 1):
        member = clause == c
        once = np.zeros((len(items), columns.shape[1]), dtype=np.uint64)
        twice = np.zeros_like(once)
        for slot in np.flatnonzero(member.any(0)):
            column = columns_or_empty(columns, np.where(member[:, slot], items[:, slot], -1))
            twice |= once & column
            once |= column
        held = once & ~twice
        held[~member.any(1)] = ~np.uint64(0)  # a candidate without this clause
        support = held if support is None else support & held
    return support


def blocks(n: int, words_each: int) -> list[slice]:
    """Slices over n candidates so that a block needs about `_BLOCK_WORDS` words."""
    step = max(1, _BLOCK_WORDS // max(words_each, 1))
    return [slice(low, min(low + step, n)) for low in range(0, n, step)]
