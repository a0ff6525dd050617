"""One more clause for a pattern of the set: all candidates of a pattern as one table, recounted together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.patterns._bits import columns_or_empty, count
from shared.patterns._candidates import fixed_bits, padded
from shared.patterns._codes import Clauses, Codes, label_counts


@dataclass(eq=False)
class Extensions:
    """C patterns, each a pattern of the set with one more clause; chains (a clause grown item by item) lie together.

    clauses : the pattern's own. added : (C, L) items of the new clause, padded with -1; the first is the one it grew
    around. first : (C,) where a chain begins. support : (C, W) packed rows. counts : (C, 2) rows per label. bits : (C,)
    what sending one costs. delta : (C,) its gain, exact where `stamp` (C,) is that of its items' last change. failed :
    (C,) whether it was tried and did not pass Fisher's test, which depends on counts only.
    """

    clauses: Clauses
    added: np.ndarray
    first: np.ndarray
    support: np.ndarray
    counts: np.ndarray
    bits: np.ndarray
    delta: np.ndarray
    stamp: np.ndarray
    failed: np.ndarray

    def __len__(self) -> int:
        return len(self.added)

    def clauses_of(self, row: int) -> Clauses:
        """One candidate's clauses, the new one last."""
        return (*self.clauses, tuple(sorted(i for i in self.added[row].tolist() if i >= 0)))

    def stale(self, stamps: np.ndarray) -> np.ndarray:
        """Candidates (rows) an item of which changed since they were counted; their stamps are renewed."""
        now = np.where(self.added >= 0, stamps[self.added], -1).max(1, initial=-1)
        now = np.maximum(now, stamps[[i for clause in self.clauses for i in clause]].max())
        rows = np.flatnonzero(now != self.stamp)
        self.stamp = now
        return rows

    def recount(
        self, rows: np.ndarray, codes: Codes, own: dict[int, np.ndarray], rests: np.ndarray, before: float
    ) -> None:
        """Gains of some candidates anew.

        own : per item of the pattern, its rows that no *other* pattern explains. rests : (M, W) rows of every item that
        no pattern explains. before : bits of the pattern that would be replaced.
        """
        covered = ~self.support[rows]
        delta = self.bits[rows] - before
        for item, rest in own.items():
            delta += codes.singles(count(rest & covered)) - codes.singles(count(rests[item]))
        for items in self.added[rows].T:
            rest = columns_or_empty(rests, items)
            delta += codes.singles(count(rest & covered)) - codes.singles(count(rest))
        self.delta[rows] = delta

    def offered(self, residual: np.ndarray) -> np.ndarray:
        """Which (C,) may be taken: their chain's item has rows left, and no shorter clause of the chain gains more."""
        open_ = (residual[self.added[:, 0]] > 0) & ~self.failed
        least = np.minimum(self.delta, 0.0)
        starts = np.flatnonzero(self.first)
        for start, end in zip(starts, [*starts[1:], len(self)]) if self.added.shape[1] > 1 else ():
            least[start:end] = np.minimum.accumulate(least[start:end])
        return open_ & (self.delta <= least)


def extend(
    clauses: Clauses, support: np.ndarray, chains: list[list[int]], columns: np.ndarray, codes: Codes, split: int
) -> Extensions:
    """All candidates that `chains` (items in the order in which a clause takes them) make of a pattern."""
    grown = [(chain[: k + 1], k == 0) for chain in chains for k in range(len(chain))]
    added = padded([(tuple(items),) for items, _ in grown], in_order=True)[0]
    once, twice = np.zeros((len(added), columns.shape[1]), dtype=np.uint64), np.uint64(0)
    for slot in range(added.shape[1]):
        column = columns_or_empty(columns, added[:, slot])
        twice = twice | (once & column)
        once |= column
    held = once & ~twice & support
    counts = label_counts(held, split)
    return Extensions(
        clauses=clauses,
        added=added,
        first=np.array([start for _, start in grown], dtype=bool),
        support=held,
        counts=counts,
        bits=_bits(clauses, [items for items, _ in grown], held, counts, columns, codes, split),
        delta=np.zeros(len(added)),
        stamp=np.full(len(added), -1),
        failed=np.zeros(len(added), dtype=bool),
    )


def _bits(
    clauses: Clauses,
    added: list[list[int]],
    support: np.ndarray,
    counts: np.ndarray,
    columns: np.ndarray,
    codes: Codes,
    split: int,
) -> np.ndarray:
    """What sending each candidate costs (C,)."""
    if all(len(c) == 1 for c in (*clauses, *added)):
        return codes.placing(counts[:, 0], counts[:, 1]) + codes.model([1] * (len(clauses) + 1))
    items, clause = padded([(*clauses, tuple(new)) for new in added])
    held = [label_counts(columns_or_empty(columns, of) & support, split) for of in items.T]
    return fixed_bits(codes, clause, counts, np.stack(held, axis=1))
