"""How well found patterns match known ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shared._checks import check_choice
from shared.patterns._codes import Clauses
from shared.patterns._patterns import Pattern


class Score(NamedTuple):
    """Precision, recall and their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


def _score(precision: float, recall: float) -> Score:
    total = precision + recall
    return Score(precision, recall, 2 * precision * recall / total if total else 0.0)


def item_set(pattern: Any) -> frozenset:
    """The items of a pattern: of a `Pattern`, of clauses, or of a plain collection of items."""
    if isinstance(pattern, Pattern):
        return frozenset(pattern.items)
    return frozenset(
        i for part in pattern for i in (part if isinstance(part, tuple | list | set | frozenset) else (part,))
    )


def jaccard(a: frozenset, b: frozenset) -> float:
    """|a ∩ b| / |a ∪ b|, 0 for two empty sets."""
    return len(a & b) / len(a | b) if a | b else 0.0


def soft_f1(found: Iterable[Any], truth: Iterable[Any]) -> Score:
    """Soft precision (mean best Jaccard of each found pattern with a true one), soft recall (the reverse) and F1.

    Patterns count as item sets. Nothing found scores 0, unless nothing was to be found (1).
    """
    found, truth = [item_set(p) for p in found], [item_set(p) for p in truth]
    if not found or not truth:
        return _score(float(not found and not truth), float(not found and not truth))
    precision = sum(max(jaccard(f, t) for t in truth) for f in found) / len(found)
    recall = sum(max(jaccard(f, t) for f in found) for t in truth) / len(truth)
    return _score(precision, recall)


def exact_hits(found: Sequence[Pattern], truth: Sequence[Clauses], directions: Sequence[int] | None = None) -> float:
    """Share of the true patterns that were found with exactly their items (and direction, where given)."""
    got = {(frozenset(p.items), p.direction if directions is not None else None) for p in found}
    want = [(item_set(t), None if directions is None else directions[k]) for k, t in enumerate(truth)]
    return sum(w in got for w in want) / len(want) if want else 1.0


def clause_accuracy(found: Sequence[Pattern], truth: Sequence[Clauses]) -> float:
    """Share of the true clauses that were found as one clause with no item missing or foreign."""
    got = {frozenset(c) for p in found for c in p.clauses}
    want = [frozenset(c) for t in truth for c in t]
    return sum(w in got for w in want) / len(want) if want else 1.0


def trap_violations(found: Sequence[Pattern], traps: Sequence[Sequence[int]]) -> int:
    """How many found clauses put two items of one trap together."""
    return sum(len(set(c) & set(t)) > 1 for p in found for c in p.clauses for t in traps)


def matching_prf(predicted: Sequence[Any], gold: Sequence[Any], mode: str = "strict") -> Score:
    """Spotlight's scores: each prediction, in order, takes the first gold pattern left that it matches.

    mode : "strict" (equal token sets) or "soft" (at least one token in common). Precision = matched / predicted,
    recall = matched / gold (Hedderich et al., ACL 2025). The order matters: an early match uses a gold pattern up.
    """
    check_choice("mode", mode, ("strict", "soft"))
    left = [item_set(g) for g in gold]
    matched = 0
    for p in (item_set(p) for p in predicted):
        hit = next((k for k, g in enumerate(left) if (p == g if mode == "strict" else p & g)), None)
        if hit is not None:
            matched += 1
            left.pop(hit)
    return _score(matched / len(predicted) if predicted else 0.0, matched / len(gold) if gold else 0.0)
