"""Premise's greedy search. Each step applies the candidate that shortens the code most and passes Fisher's test.

Four families of candidates: one clause, a pair of clauses, a pattern with one more clause, two patterns merged. The
first two are fixed tables (`_candidates`) of which a step only renews the residual counts it touched; the others are
few and cached until an item of theirs changes. Gains are exact differences of the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import scipy.sparse as sp

from shared.patterns._bits import count, exactly_one, unpack
from shared.patterns._candidates import Candidates, blocks, support_of
from shared.patterns._codes import Clauses, Codes, label_counts
from shared.patterns._extensions import Extensions, extend
from shared.patterns._fisher import log_fisher_of
from shared.patterns._space import SearchSpace

EPSILON = 1e-4  # bits; what the authors' search asks a candidate to gain at least


@dataclass(eq=False)
class Member:
    """A pattern of the current set; `extensions` are the patterns with one more clause that would replace it."""

    clauses: Clauses
    support: np.ndarray  # packed rows (W,)
    counts: np.ndarray  # (2,)
    bits: float  # what sending it costs
    gain: float
    origin: str
    extensions: Extensions | None = None
    items: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.items = tuple(i for clause in self.clauses for i in clause)


@dataclass(eq=False)
class Change:
    """A new pattern and the patterns of the set it would replace (none, one or two)."""

    pattern: Member
    replaces: tuple[Member, ...] = ()
    delta: float | None = None  # of a merge: its gain without the code of the number of patterns, if counted

    @property
    def gain(self) -> float:
        return self.pattern.gain


class Search:
    """The state of one search; `step()` applies the best candidate and says which.

    space : candidates and neighbour lists. codes : code lengths of the whole data. log_alpha : natural log of the level
    of Fisher's test. min_overlap : share of rows that two clauses must have in common to be joined. retire : leave an
    item alone for good once its single clause did not pay.
    """

    def __init__(
        self, space: SearchSpace, codes: Codes, *, log_alpha: float, min_overlap: float, retire: bool = True
    ) -> None:
        self.data = space.data
        self.columns = space.columns
        self.singles = space.singles
        self.pairs = space.pairs
        self.neighbours = space.neighbours
        self.depth = space.depth
        self.codes = codes
        self.log_alpha = log_alpha
        self.min_overlap = min_overlap
        self.retire = retire

        self.members: list[Member] = []
        self.merges: list[Change] = []
        self.residual = self.data.item_counts.sum(0).copy()  # |R_i|
        self._rest = self.columns.copy()  # packed R_i
        self._stamp = np.zeros(self.data.n_items, dtype=np.int64)  # step of the last change of an item
        self._steps = 0
        self._retired = np.zeros(self.data.n_items, dtype=bool)
        self._log_p: dict[tuple[int, int], float] = {}  # Fisher's test of counts it was asked for
        self._passes = log_fisher_of(*self.singles.counts.T, self.data.n_label) <= log_alpha
        self._first = _chain_starts(self.singles, self.depth)
        self._center = _chain_centers(self.singles, self._first)
        self._where = [_rows_by_item(table, self.data.n_items) for table in (self.singles, self.pairs)]

    def log_p(self, member: Member) -> float:
        """Natural log of Fisher's p of a pattern; computed when it is asked for, since few candidates get there."""
        return self._log_p_of(member.counts)

    def _log_p_of(self, held: np.ndarray) -> float:
        counts = (int(held[0]), int(held[1]))
        if counts not in self._log_p:
            self._log_p[counts] = float(log_fisher_of(*counts, self.data.n_label))
        return self._log_p[counts]

    # --- the loop --------------------------------------------------------------------------------------------------
    def step(self) -> Change | None:
        """Apply the best candidate and return it; None when none shortens the code."""
        best = None
        for family in (self._single, self._pair, self._extension, self._merge):
            change = family()
            if change is not None and (best is None or change.gain < best.gain):
                best = change
        if best is None or best.gain >= 0:
            return None
        self._apply(best)
        return best

    def _apply(self, change: Change) -> None:
        self._steps += 1
        self.members = [m for m in self.members if m not in change.replaces] + [change.pattern]
        gone = set(change.replaces)
        self.merges = [c for c in self.merges if gone.isdisjoint(c.replaces)]
        touched = sorted({i for m in (change.pattern, *change.replaces) for i in m.items})
        for merge in self.merges:
            if not set(touched).isdisjoint(merge.pattern.items):
                merge.delta = None
        for item in touched:
            self._rest[item] = self._rest_of(item, self.members)
            self.residual[item] = count(self._rest[item])
            self._stamp[item] = self._steps
        for table, where in zip((self.singles, self.pairs), self._where):
            self._renew_table(table, np.unique(np.concatenate([where[i] for i in touched])), touched)
        self._connect(change.pattern)

    def _rest_of(self, item: int, members: list[Member]) -> np.ndarray:
        """R_i under a set of patterns."""
        rest = self.columns[item].copy()
        for member in members:
            if item in member.items:
                rest &= ~member.support
        return rest

    # --- fixed tables ----------------------------------------------------------------------------------------------
    def _renew_table(self, table: Candidates, rows: np.ndarray, touched: list[int]) -> None:
        """Recount, for the candidates that hold a touched item, the rows of it that they would leave over."""
        for block in blocks(len(rows), self.columns.shape[1] * 3):
            here = rows[block]
            items = table.items[here]
            support = support_of(items, table.clause[here], self.columns)
            for item in touched:
                at, slot = np.nonzero(items == item)
                table.left[here[at], slot] = self.residual[item] - count(support[at] & self._rest[item])

    def _gains(self, table: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Exact gains (C,) of a table's candidates, and whether each of their clauses has something left to explain."""
        real = table.items >= 0
        rest = np.where(real, self.residual[np.maximum(table.items, 0)], 0)
        saved = np.where(real, self.codes.singles(rest) - self.codes.singles(table.left), 0.0).sum(1)
        useful = np.ones(len(table), dtype=bool)
        for c in range(int(table.clause.max()) + 1):
            here = table.clause == c
            useful &= ~here.any(1) | (here & (rest > 0)).any(1)
        return table.fixed - saved + self._size_change(1), useful

    def _size_change(self, added: int) -> float:
        size = len(self.members)
        return self.codes.size(size + added) - self.codes.size(size)

    def _single(self) -> Change | None:
        if not len(self.singles):
            return None
        gains, _ = self._gains(self.singles)
        running = (self.residual[self._center] > 0) & ~self._retired[self._center]
        gaining = _and_along(gains <= -EPSILON, self._first)  # a clause stops growing at the first that doesn't pay
        if self.retire:
            self._retired[self._center[self._first & running & ~gaining]] = True
        return self._best_of(self.singles, gains, running & gaining & self._passes, "single")

    def _pair(self) -> Change | None:
        if not len(self.pairs):
            return None
        gains, useful = self._gains(self.pairs)
        return self._best_of(self.pairs, gains, useful & (gains <= -EPSILON), "pair")

    def _best_of(self, table: Candidates, gains: np.ndarray, offered: np.ndarray, origin: str) -> Change | None:
        if not offered.any():
            return None
        row = int(np.argmin(np.where(offered, gains, np.inf)))
        support = support_of(table.items[row : row + 1], table.clause[row : row + 1], self.columns)[0]
        bits = float(table.fixed[row])
        return Change(Member(table.clauses(row), support, table.counts[row], bits, float(gains[row]), origin))

    # --- changes of patterns in the set ----------------------------------------------------------------------------
    def _connect(self, new: Member) -> None:
        """List what the new pattern can be extended by and merged with; both depend on supports only."""
        new.extensions = extend(new.clauses, new.support, self._chains(new), self.columns, self.codes, self.data.split)
        for old in self.members[:-1]:
            if set(old.items) & set(new.items):
                continue
            both = label_counts(old.support & new.support, self.data.split)
            least = np.minimum(old.counts, new.counts)
            share = both / np.maximum(least, 1)
            if ((share > self.min_overlap) | (least == 0)).all():
                self.merges.append(self._change((*old.clauses, *new.clauses), (old, new), "merge"))

    def _chains(self, member: Member) -> list[list[int]]:
        """The items that a further clause may take, in that order: one list for each item it may grow around."""
        n0 = self.data.n_label[0]
        ordered = self.data.by_label
        held = np.stack([_item_counts(ordered, rows) for rows in self._rows_per_label(member.support, n0)])
        share = held.astype(np.float32) / np.maximum(member.counts, 1).astype(np.float32)[:, None]
        enough = ((share.astype(float) > self.min_overlap) | (member.counts == 0)[:, None]).all(0)
        enough[list(member.items)] = False
        chains = []
        for center in np.flatnonzero(enough).tolist():
            grown = [center, *self.neighbours[center, : self.depth[center]].tolist()]
            chains.append(list(takewhile(lambda item: enough[item], grown)))
        return chains

    def _rows_per_label(self, support: np.ndarray, n0: int) -> list[np.ndarray]:
        split = self.data.split
        return [unpack(support[:split]), unpack(support[split:]) + n0]

    def _change(self, clauses: Clauses, replaces: tuple[Member, ...], origin: str) -> Change:
        support = np.bitwise_and.reduce([exactly_one(self.columns[list(c)]) for c in clauses], axis=0)
        counts = label_counts(support, self.data.split)
        bits = self.codes.model([len(c) for c in clauses]) + float(self.codes.placing(*counts))
        for clause in clauses:
            if len(clause) > 1:
                bits += self.codes.naming(counts, label_counts(self.columns[list(clause)] & support, self.data.split))
        return Change(Member(clauses, support, counts, bits, 0.0, origin), replaces)

    def _counted(self, merge: Change) -> float:
        """A merge's gain without the code of the number of patterns, exact."""
        after = [m for m in self.members if m not in merge.replaces] + [merge.pattern]
        delta = merge.pattern.bits - sum(m.bits for m in merge.replaces)
        for item in merge.pattern.items:
            left = count(self._rest_of(item, after))
            delta += float(self.codes.singles(left) - self.codes.singles(self.residual[item]))
        return delta

    def _extension(self) -> Change | None:
        best, where = 0.0, None
        for member in self.members:
            table = member.extensions
            if (stale := table.stale(self._stamp)).size:
                others = [m for m in self.members if m is not member]
                own = {item: self._rest_of(item, others) for item in member.items}
                table.recount(stale, self.codes, own, self._rest, member.bits)
            rows = np.flatnonzero(table.offered(self.residual) & (table.delta < best))
            for row in rows[np.argsort(table.delta[rows], kind="stable")].tolist():
                if self._log_p_of(table.counts[row]) <= self.log_alpha:
                    best, where = float(table.delta[row]), (member, row)
                    break
                table.failed[row] = True
        return None if where is None else self._extended(*where)

    def _extended(self, member: Member, row: int) -> Change:
        table = member.extensions
        new = (table.clauses_of(row), table.support[row], table.counts[row])
        return Change(Member(*new, float(table.bits[row]), float(table.delta[row]), "extension"), (member,))

    def _merge(self) -> Change | None:
        best, bar = None, -EPSILON
        fewer = self._size_change(-1) if self.merges else 0.0
        for change in self.merges:
            if change.delta is None:
                change.delta = self._counted(change)
            gain = change.delta + fewer
            if gain > bar or (best is not None and gain >= bar):
                continue
            if self.log_p(change.pattern) <= self.log_alpha:
                best, bar = change, gain
        if best is not None:
            best.pattern.gain = bar
        return best


def _chain_starts(singles: Candidates, depth: np.ndarray) -> np.ndarray:
    """Which rows of the singles' table begin a chain: chains have depth + 1 rows each."""
    first = np.zeros(len(singles), dtype=bool)
    if len(singles):
        first[np.r_[0, np.cumsum(depth + 1)[:-1]]] = True
    return first


def _chain_centers(singles: Candidates, first: np.ndarray) -> np.ndarray:
    """The item (C,) around which each of the singles was grown: that of its chain's start."""
    if not len(singles):
        return np.zeros(0, dtype=int)
    return singles.items[first][np.cumsum(first) - 1, 0]


def _and_along(ok: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Running AND within chains."""
    broken = np.cumsum(~ok)
    start = np.maximum.accumulate(np.where(first, np.arange(len(ok)), 0))
    return broken - broken[start] + ~ok[start] == 0


def _rows_by_item(table: Candidates, n_items: int) -> list[np.ndarray]:
    """For every item the table's rows that hold it."""
    row, slot = np.nonzero(table.items >= 0)
    items = table.items[row, slot]
    order = np.argsort(items, kind="stable")
    return np.split(row[order], np.cumsum(np.bincount(items, minlength=n_items))[:-1])


def _item_counts(rows: sp.csr_matrix, numbers: np.ndarray) -> np.ndarray:
    """In how many of the given rows each item occurs."""
    return np.asarray(rows[numbers].sum(axis=0)).ravel()
