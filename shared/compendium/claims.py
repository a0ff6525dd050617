"""Claims: a measured number, the check it must satisfy, and a control that must not satisfy it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shared.compendium.card import ClaimCard

HELD = "held"
NOT_REPRODUCED = "not reproduced"
NOT_SHOWN = "not shown at this scale"
VOID = "void: its control passes too"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARISON = re.compile(rf"^\s*(<=|>=|<|>)\s*({_NUMBER})\s*$")
_INTERVAL = re.compile(rf"^\s*in\s*\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]\s*$")


class ClaimError(RuntimeError):
    """A claim that can't stand: unknown, made twice, missing, or one whose control passes its check."""


@dataclass(frozen=True)
class Check:
    """A condition on one number, as a card writes it: `< x`, `<= x`, `> x`, `>= x` or `in [low, high]`."""

    text: str
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    @classmethod
    def parse(cls, text: str) -> Check:
        """Read a condition; `ValueError` says what is accepted."""
        if match := _COMPARISON.match(text):
            sign, bound = match.group(1), float(match.group(2))
            side = {"low": bound} if sign[0] == ">" else {"high": bound}
            return cls(text.strip(), strict="=" not in sign, **side)
        if match := _INTERVAL.match(text):
            low, high = float(match.group(1)), float(match.group(2))
            if low <= high:
                return cls(text.strip(), low, high)
        raise ValueError(f"{text!r} is no condition; accepted: '< x', '<= x', '> x', '>= x', 'in [low, high]'")

    def __call__(self, value: float) -> bool:
        """Whether `value` satisfies the condition; NaN never does."""
        if self.strict:
            return self.low < value < self.high
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Measurement:
    """A claim with what was measured for it: one number per seed, whose means are checked."""

    card: ClaimCard
    values: tuple[float, ...]
    controls: tuple[float, ...]
    note: str = ""

    @property
    def value(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def control(self) -> float:
        return float(np.mean(self.controls)) if self.controls else math.nan

    @property
    def verdict(self) -> str:
        if not self.values:
            return NOT_SHOWN
        if self.card.check(self.control):
            return VOID
        return HELD if self.card.check(self.value) else NOT_REPRODUCED

    def as_json(self) -> dict:
        """The claim for results.json; numbers in full, NaN as null."""
        return {
            "id": self.card.id,
            "statement": self.card.statement,
            "reported": self.card.reported,
            "source": self.card.source,
            "measures": self.card.measures,
            "check": self.card.check.text,
            "value": _finite(self.value),
            "values": list(map(_finite, self.values)),
            "control": self.card.control,
            "control_value": _finite(self.control),
            "control_values": list(map(_finite, self.controls)),
            "verdict": self.verdict,
            "note": self.note,
            "digits": self.card.digits,
        }


def per_seed(argument: str, value: float | Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """One number, or one per seed, as a tuple of floats; anything else is an error that names `argument`."""
    try:
        numbers = np.atleast_1d(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or a tensor that needs grad or lies on a GPU
        raise TypeError(f"{argument} must be a number or a sequence of numbers, one per seed; {error}") from error
    if numbers.dtype.kind not in "biuf":
        raise TypeError(f"{argument} must be a number or a sequence of numbers, one per seed; got {value!r}")
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(
            f"{argument} must be a number or a flat sequence, one number per seed; got shape {numbers.shape}"
        )
    return tuple(map(float, numbers))


def table(measurements: Sequence[Measurement]) -> str:
    """The claims as aligned text, free of timing and rounded to each claim's significant digits."""
    rows = [("claim", "reported", "measured", "control", "check", "verdict")]
    for m in measurements:
        measured = "–" if not m.values else _rounded(m.value, m.card.digits)
        control = "–" if not m.controls else _rounded(m.control, m.card.digits)
        rows.append((m.card.id, m.card.reported, measured, control, m.card.check.text, m.verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def same_table(one: str, other: str) -> bool:
    """Whether two texts by `table` agree: claims, reports, checks and verdicts to the letter, numbers nearly.

    Optimisers amplify rounding, so a measured number's last digit depends on the processor. It and its control may
    differ by one unit in the last digit printed or by 2 % of what sets the two apart, whichever is more.
    """
    rows, others = _cells(one), _cells(other)
    return len(rows) == len(others) and all(map(_same_row, rows, others))


def _cells(text: str) -> list[list[str]]:
    """The rows of a printed table, cut where its second line's dashes say."""
    lines = text.splitlines()
    if len(lines) < 2 or not re.fullmatch(r"(-+ *)+", lines[1]):
        raise ValueError(f"text must be a table of claims, got {text[:80]!r}")
    spans = [dashes.span() for dashes in re.finditer("-+", lines[1])]
    return [[line[begin:end].strip() for begin, end in spans] for line in (lines[0], *lines[2:])]


def _same_row(row: list[str], other: list[str]) -> bool:
    if row[:2] + row[4:] != other[:2] + other[4:]:
        return False
    if row[2:4] == other[2:4]:
        return True
    try:
        (a, b), (c, d) = (tuple(map(Decimal, cells[2:4])) for cells in (row, other))
    except InvalidOperation:  # "–": not measured here
        return False
    gap = abs(c - d) / 50
    return all(abs(x - y) <= max(gap, _unit(x), _unit(y)) for x, y in ((a, c), (b, d)))


def _unit(x: Decimal) -> Decimal:
    """One unit in the last digit, or in the second where `%g` has dropped a zero there."""
    return Decimal(1).scaleb(min(x.as_tuple().exponent, x.adjusted() - 1)) if x else Decimal(0)


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return "0" if float(text) == 0 else text  # no "-0"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
