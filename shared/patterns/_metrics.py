"""How well found patterns match known ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shared._checks import check_choice
from shared.patterns._codes import Clauses
from shared.patterns._patterns import Pattern


class PrecisionRecall(NamedTuple):
    """How much of what was found is true, and how much of what is true was found.

    Attributes
    ----------
    precision, recall : float
        In [0, 1].
    f1 : float
        Their harmonic mean, 0 where both are 0.
    """

    precision: float
    recall: float
    f1: float


def _with_f1(precision: float, recall: float) -> PrecisionRecall:
    total = precision + recall
    return PrecisionRecall(precision, recall, 2 * precision * recall / total if total else 0.0)


def item_set(pattern: Any) -> frozenset:
    """The items of a pattern: of a `Pattern`, of clauses, or of a plain collection of items."""
    if isinstance(pattern, Pattern):
        return frozenset(pattern.items)
    return frozenset(
        i for part in pattern for i in (part if isinstance(part, tuple | list | set | frozenset) else (part,))
    )


def jaccard(a: frozenset, b: frozenset) -> float:
    """Jaccard similarity of two sets, |a ∩ b| / |a ∪ b|.

    Parameters
    ----------
    a, b : frozenset
        Items.

    Returns
    -------
    float
        In [0, 1]; 0 for two empty sets.
    """
    return len(a & b) / len(a | b) if a | b else 0.0


def soft_f1(found: Iterable[Any], truth: Iterable[Any]) -> PrecisionRecall:
    """Soft precision (mean best Jaccard of each found pattern with a true one), soft recall (the reverse) and F1.

    Parameters
    ----------
    found, truth : iterables of patterns
        Each a `Pattern`, a tuple of clauses or a collection of items; they count as item sets.

    Returns
    -------
    PrecisionRecall
        All 0 where nothing was found, unless nothing was to be found (all 1).
    """
    found = [item_set(p) for p in found]
    truth = [item_set(p) for p in truth]
    if not found or not truth:
        both_empty = float(not found and not truth)
        return _with_f1(both_empty, both_empty)
    precision = sum(max(jaccard(f, t) for t in truth) for f in found) / len(found)
    recall = sum(max(jaccard(f, t) for f in found) for t in truth) / len(truth)
    return _with_f1(precision, recall)


def exact_hits(found: Sequence[Pattern], truth: Sequence[Clauses], *, directions: Sequence[int] | None = None) -> float:
    """Share of the true patterns that were found with exactly their items.

    Parameters
    ----------
    found : sequence of Pattern
        What a search returned.
    truth : sequence of tuples of clauses
        What was planted.
    directions : sequence of int, optional
        The label each true pattern goes with; given, it must be found too.

    Returns
    -------
    float
        In [0, 1]; 1 where nothing was to be found.
    """
    got = {(frozenset(p.items), p.direction if directions is not None else None) for p in found}
    want = [(item_set(t), None if directions is None else directions[k]) for k, t in enumerate(truth)]
    return sum(w in got for w in want) / len(want) if want else 1.0


def clause_accuracy(found: Sequence[Pattern], truth: Sequence[Clauses]) -> float:
    """Share of the true clauses that were found as one clause with no item missing or foreign.

    Parameters
    ----------
    found : sequence of Pattern
        What a search returned.
    truth : sequence of tuples of clauses
        What was planted.

    Returns
    -------
    float
        In [0, 1]; 1 where nothing was to be found.
    """
    got = {frozenset(c) for p in found for c in p.clauses}
    want = [frozenset(c) for t in truth for c in t]
    return sum(w in got for w in want) / len(want) if want else 1.0


def trap_violations(found: Sequence[Pattern], traps: Sequence[Sequence[int]]) -> int:
    """How many found clauses put two items of one trap together.

    Parameters
    ----------
    found : sequence of Pattern
        What a search returned.
    traps : sequence of sequences of int
        Groups of items of which no two belong in one clause.

    Returns
    -------
    int
        Pairs of clause and trap that are at fault.
    """
    return sum(len(set(c) & set(t)) > 1 for p in found for c in p.clauses for t in traps)


def matching_prf(predicted: Sequence[Any], gold: Sequence[Any], *, mode: str = "strict") -> PrecisionRecall:
    """Spotlight's scores: each prediction, in order, takes the first gold pattern left that it matches.

    The order matters: an early match uses a gold pattern up. Source: Hedderich et al., ACL 2025.

    Parameters
    ----------
    predicted, gold : sequences of patterns
        Each a `Pattern`, a tuple of clauses or a collection of tokens.
    mode : "strict" or "soft"
        Match equal token sets, or those with at least one token in common.

    Returns
    -------
    PrecisionRecall
        Precision = matched / predicted, recall = matched / gold.
    """
    check_choice("mode", mode, ("strict", "soft"))
    left = [item_set(g) for g in gold]
    matched = 0
    for p in (item_set(p) for p in predicted):
        hit = next((k for k, g in enumerate(left) if (p == g if mode == "strict" else p & g)), None)
        if hit is not None:
            matched += 1
            left.pop(hit)
    return _with_f1(matched / len(predicted) if predicted else 0.0, matched / len(gold) if gold else 0.0)
