"""Code lengths in bits: universal integers, binomials with their NML regret, and the Premise score built from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from shared._checks import check_finite, check_shape
from shared.patterns._bits import count, exactly_one
from shared.patterns._data import TransactionSet

Clauses = tuple[tuple[int, ...], ...]


@lru_cache(maxsize=4096)
def universal_code_length(z: int) -> float:
    """Rissanen's universal code of an integer: log2 2.865064 + log2 z + log2 log2 z + … (positive terms).

    Parameters
    ----------
    z : int
        At least 1.

    Returns
    -------
    float
        Its code length in bits.

    Raises
    ------
    ValueError
        For z below 1.
    """
    if z < 1:
        raise ValueError(f"z={z!r} is out of range; the universal code covers integers >= 1")
    bits = float(np.log2(2.865064))
    term = float(np.log2(z))
    while term > 0:
        bits += term
        term = float(np.log2(term))
    return bits


@lru_cache(maxsize=4096)
def binomial_regret(n: int) -> float:
    """Regret of the NML code for the number of successes in n trials.

    r(n) = log2 Σ_k C(n,k) (k/n)^k ((n-k)/n)^(n-k), summed in its fast form log2 Σ_k Π_{j<k} (n-j)/n, of which the first
    2 + √(64 n log2 10) terms reach float precision (Mononen and Myllymäki 2008).

    Parameters
    ----------
    n : int
        Number of trials, at least 0.

    Returns
    -------
    float
        r(n) in bits.

    Raises
    ------
    ValueError
        For negative n.
    """
    if n < 0:
        raise ValueError(f"n={n!r} is out of range; accepted: >= 0")
    if n == 0:
        return 0.0
    terms = min(n, int(np.ceil(2 + np.sqrt(64 * n * np.log2(10)))))
    return float(np.log2(1 + np.cumprod((n - np.arange(terms)) / n).sum()))


def log2_binomial(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    """log2 of n choose k, element by element.

    Parameters
    ----------
    n : int or array of any shape
        Sizes.
    k : int or array of n's shape
        How many are chosen, 0 to n.

    Returns
    -------
    array of n's shape
        log2 C(n, k), float64.
    """
    n = np.asarray(n, dtype=float)
    k = np.asarray(k, dtype=float)
    check_finite("n", n)
    check_finite("k", k)
    if n.ndim and k.ndim:
        check_shape("k", k, n.shape)
    return (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)) / np.log(2)


class Codes:
    """The score's code lengths for N rows, M items and labels (n_0, n_1), from one table of log-factorials."""

    def __init__(self, n_rows: int, n_items: int, n_label: tuple[int, int]) -> None:
        self.n_rows = n_rows
        self.n_items = n_items
        self.n_label = n_label
        self._log_factorial = np.r_[0.0, np.cumsum(np.log2(np.arange(1, max(n_rows, n_items) + 1)))]
        self.regret_rows = binomial_regret(n_rows)
        self.regret_labels = sum(binomial_regret(n) for n in n_label)
        sizes = np.arange(n_rows + 1)
        self._singles = np.where(sizes > 0, self.choose(n_rows, sizes) + self.regret_rows, 0.0)

    def choose(self, n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
        """log2 of n choose k for integers or integer arrays."""
        table = self._log_factorial
        return table[n] - table[k] - table[n - k]

    def singles(self, residual: np.ndarray | int) -> np.ndarray:
        """Bits for the rows of an item that no pattern explains: log2 C(N, |R|) + r(N), nothing if R is empty."""
        return self._singles[residual]

    def placing(self, n0: np.ndarray | int, n1: np.ndarray | int) -> np.ndarray:
        """Bits for where a pattern holds, label by label: Σ_l log2 C(n_l, n_X^l) + r(n_l)."""
        return self.choose(self.n_label[0], n0) + self.choose(self.n_label[1], n1) + self.regret_labels

    def naming(self, supports: Sequence[int], held: np.ndarray) -> float:
        """Bits to say which item of a clause holds where; supports (2,), held (k, 2): rows per item and label."""
        bits = 0.0
        for label, left in enumerate(int(s) for s in supports):
            for a in held[:, label].tolist():
                bits += float(self.choose(left, a)) + binomial_regret(left)
                left -= a
        return bits

    def model(self, sizes: Sequence[int]) -> float:
        """Bits to spell a pattern with clauses of these sizes: L_N(|X|) + Σ_c log2 C(M, |c|) + r(M)."""
        clauses = sum(float(self.choose(self.n_items, s)) + binomial_regret(self.n_items) for s in sizes)
        return universal_code_length(len(sizes)) + clauses

    def size(self, n_patterns: int) -> float:
        """Bits for the number of patterns; an empty set costs nothing."""
        return universal_code_length(n_patterns) if n_patterns else 0.0


def support_words(data: TransactionSet, clauses: Clauses) -> np.ndarray:
    """T_X as packed rows (W,): those where each clause has exactly one of its items."""
    words = exactly_one(data.words(clauses[0]))
    for clause in clauses[1:]:
        words &= exactly_one(data.words(clause))
    return words


def label_counts(words: np.ndarray, split: int) -> np.ndarray:
    """Set bits per label: (..., W) to (..., 2)."""
    return np.stack([count(words[..., :split]), count(words[..., split:])], axis=-1)


def pattern_bits(codes: Codes, data: TransactionSet, clauses: Clauses) -> float:
    """What sending one pattern costs: its items, its rows per label, and which item of each clause holds where."""
    support = support_words(data, clauses)
    n = label_counts(support, data.split)
    bits = codes.model([len(c) for c in clauses]) + float(codes.placing(*n))
    for clause in clauses:
        if len(clause) > 1:
            bits += codes.naming(n, label_counts(data.words(sorted(clause)) & support, data.split))
    return bits


def code_length(data: TransactionSet, patterns: Sequence[Clauses]) -> float:
    """The Premise score L(D, S): the features' code given the labels, with a set of patterns.

    L = Σ_{R_i ≠ ∅} [log2 C(N, |R_i|) + r(N)] + [S ≠ ∅] L_N(|S|) + Σ_X [model + placing + naming], where the residual
    R_i = T_i minus the supports of the patterns that hold item i (Hedderich et al., ICML 2022, Sec. 3; constants as in
    the authors' program).

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    patterns : sequence of tuples of clauses
        A clause is a tuple of item numbers; `((3,), (7,))` is the conjunction of items 3 and 7.

    Returns
    -------
    float
        The length in bits.

    Raises
    ------
    ValueError
        If a pattern has an empty clause, an item twice, or one that isn't in the data.
    """
    codes = Codes(data.n_rows, data.n_items, data.n_label)
    residual = data.item_counts.sum(0).copy()
    covered: dict[int, np.ndarray] = {}
    bits = codes.size(len(patterns))
    for clauses in patterns:
        _check_clauses(data, clauses)
        support = support_words(data, clauses)
        bits += pattern_bits(codes, data, clauses)
        for item in (i for c in clauses for i in c):
            covered[item] = covered[item] | support if item in covered else support
    for item, cover in covered.items():
        residual[item] = count(data.words([item])[0] & ~cover)
    return bits + float(codes.singles(residual).sum())


def code_length_change(
    data: TransactionSet, patterns: Sequence[Clauses], add: Sequence[Clauses], remove: Sequence[Clauses]
) -> float:
    """The change of `code_length` when patterns leave and join the set.

    Parameters
    ----------
    data : TransactionSet
        Rows and labels.
    patterns : sequence of tuples of clauses
        The set before.
    add, remove : sequences of tuples of clauses
        What joins, and what leaves.

    Returns
    -------
    float
        Length after minus length before, in bits; negative is good.
    """
    after = [p for p in patterns if p not in remove] + list(add)
    return code_length(data, after) - code_length(data, patterns)


def _check_clauses(data: TransactionSet, clauses: Clauses) -> None:
    items = [i for clause in clauses for i in clause]
    if not items or not all(clauses):
        raise ValueError(f"pattern {clauses!r} has an empty clause; each clause needs at least one item")
    if min(items) < 0 or max(items) >= data.n_items or len(set(items)) != len(items):
        raise ValueError(f"pattern {clauses!r} must hold distinct item numbers in 0..{data.n_items - 1}")
