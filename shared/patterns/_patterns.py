"""What the search returns: patterns with their counts, and how they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.patterns._codes import Clauses


class Pattern(NamedTuple):
    """A conjunction of clauses, each of which holds where exactly one of its items is present.

    clauses : item numbers. support : rows that hold it, per label. direction : the label with the larger odds.
    log_p : natural log of Fisher's one-sided p. gain : bits by which it changed the code length when it was accepted.
    origin : "single", "pair", "extension" or "merge".
    """

    clauses: Clauses
    support: tuple[int, int]
    direction: int
    log_p: float
    gain: float
    origin: str

    @property
    def items(self) -> tuple[int, ...]:
        """All its items, in clause order."""
        return tuple(i for clause in self.clauses for i in clause)

    @property
    def p_text(self) -> str:
        """Fisher's p for a table; `<1e-300` where a float can't hold it."""
        exponent = self.log_p / 2.302585092994046
        return "<1e-300" if exponent < -300 else f"{10**exponent:.1e}"


def pattern_text(clauses: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A pattern as text: items joined by ∧, a clause of several in braces with | for "exactly one of"."""
    parts = []
    for clause in clauses:
        words = [names[i] for i in clause]
        parts.append(words[0] if len(words) == 1 else "{" + " | ".join(words) + "}")
    return " ∧ ".join(parts)
