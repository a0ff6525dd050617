"""What the searches return: patterns with their counts, and how they read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from shared.patterns._codes import Clauses

Items = tuple[int, ...]  # a plain conjunction: its item numbers, ascending
ClassPatterns = Mapping[Hashable, Sequence[Items]]  # the conjunctions of each class


class Pattern(NamedTuple):
    """A conjunction of clauses, each of which holds where exactly one of its items is present.

    Attributes
    ----------
    clauses : tuple of tuples of int
        Item numbers.
    support : (int, int)
        Rows that hold it, per label.
    direction : int
        The label with the larger odds.
    log_p : float
        Natural log of Fisher's one-sided p.
    gain : float
        Bits by which it changed the code length when it was accepted.
    origin : str
        "single", "pair", "extension" or "merge".
    """

    clauses: Clauses
    support: tuple[int, int]
    direction: int
    log_p: float
    gain: float
    origin: str

    @property
    def items(self) -> Items:
        """All its items, in clause order."""
        return tuple(i for clause in self.clauses for i in clause)

    @property
    def p_text(self) -> str:
        """Fisher's p for a table; `<1e-300` where a float can't hold it."""
        exponent = self.log_p / 2.302585092994046
        return "<1e-300" if exponent < -300 else f"{10**exponent:.1e}"


def pattern_text(clauses: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A pattern as text, such as `how ∧ {many | much}`.

    Parameters
    ----------
    clauses : sequence of sequences of int
        Item numbers; a clause of several stands for "exactly one of".
    names : sequence of str
        The items' names.

    Returns
    -------
    str
        Clauses joined by ∧, those of several items in braces.
    """
    parts = []
    for clause in clauses:
        words = [names[i] for i in clause]
        parts.append(words[0] if len(words) == 1 else "{" + " | ".join(words) + "}")
    return " ∧ ".join(parts)
