"""Claims: one number per independent unit, the check it must satisfy, a null, rivals, and the verdict that follows.

Held: the whole 95 % interval of the mean satisfies the check, and the difference to the null excludes zero. Not
reproduced: the whole interval fails the check. Otherwise open. See papers/README.md, "The claims".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from shared.compendium.card import ClaimCard, GateCard

HELD = "held"
NOT_REPRODUCED = "not reproduced"
OPEN = "open"
NO_TEST = "no test here"
VOID = "void: its null passes too"
ANSWERS = {HELD: "yes", NOT_REPRODUCED: "no", OPEN: "open", NO_TEST: NO_TEST, VOID: VOID}  # words of our own claims
NEIGHBOURS = {OPEN: {HELD, NOT_REPRODUCED}, HELD: {OPEN}, NOT_REPRODUCED: {OPEN}}
LEVEL = 0.95

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARISON = re.compile(rf"^\s*(<=|>=|<|>)\s*(?:({_NUMBER})|rival(?:\s*([-+])\s*({_NUMBER}))?)\s*$")
_INTERVAL = re.compile(rf"^\s*in\s*\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]\s*$")
_FORMS = "'< x', '<= x', '> x', '>= x', 'in [low, high]', or against the best rival '> rival', '< rival - 0.1', …"


class ClaimError(RuntimeError):
    """A claim that can't stand: unknown, made twice, missing, before its gate, or one whose null passes its check."""


@dataclass(frozen=True)
class Check:
    """A condition on one number, as a card writes it.

    Parameters
    ----------
    text : the condition, e.g. `>= 0.7`.
    low, high : its bounds; infinite where there is none.
    strict : whether the bounds themselves fail.
    against_rival : whether the bounds are meant for the difference to the best rival.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    strict: bool = False
    against_rival: bool = False

    @classmethod
    def parse(cls, text: str) -> Check:
        """Read a condition.

        Parameters
        ----------
        text : `< x`, `<= x`, `> x`, `>= x`, `in [low, high]`, or `> rival`, `>= rival + 0.05`, `< rival`, ….

        Returns
        -------
        The condition.

        Raises
        ------
        ValueError
            for any other text; it says what is accepted.
        """
        if match := _COMPARISON.match(text):
            sign, number, plus, margin = match.groups()
            bound = float(number) if number else float(f"{plus or ''}{margin or 0}")
            side = {"low": bound} if sign[0] == ">" else {"high": bound}
            return cls(text.strip(), strict="=" not in sign, against_rival=number is None, **side)
        if match := _INTERVAL.match(text):
            low, high = float(match.group(1)), float(match.group(2))
            if low <= high:
                return cls(text.strip(), low, high)
        raise ValueError(f"{text!r} is no condition; accepted: {_FORMS}")

    def __call__(self, value: float) -> bool:
        """Whether `value` satisfies the condition; NaN never does."""
        if self.strict:
            return self.low < value < self.high
        return self.low <= value <= self.high

    def fails_throughout(self, low: float, high: float) -> bool:
        """Whether nothing in an interval satisfies the condition.

        Parameters
        ----------
        low, high : the interval's ends.

        Returns
        -------
        True where no number from `low` to `high` does; an end that only touches a bound decides nothing.
        """
        if low == high:
            return not self(low)
        return high < self.low or low > self.high

    def merit(self, values: np.ndarray) -> np.ndarray:
        """How well each value does.

        Parameters
        ----------
        values : numbers of any shape.

        Returns
        -------
        Larger is better: the number itself, its negative, or minus its distance to the interval.
        """
        if self.high == math.inf:
            return values
        if self.low == -math.inf:
            return -values
        return -np.maximum(np.maximum(self.low - values, values - self.high), 0)


@dataclass(frozen=True)
class Estimate:
    """A mean over units with its 95 % interval; without one (`low` is `high` is the mean) for a single number."""

    mean: float
    low: float
    high: float
    n: int

    def shifted(self, by: float) -> Estimate:
        """The same interval, elsewhere."""
        return Estimate(self.mean + by, self.low + by, self.high + by, self.n)

    def mirrored(self) -> Estimate:
        """The estimate of the negative."""
        return Estimate(0 - self.mean, 0 - self.high, 0 - self.low, self.n)

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def step(self) -> float:
        """What is printed as one unit of the last digit: two significant digits of the interval's width."""
        scale = self.width if self.width > 0 else abs(self.mean)
        return 10.0 ** (math.floor(math.log10(scale)) - 1) if math.isfinite(scale) and scale > 0 else 0.0

    @property
    def tolerance(self) -> float:
        """How far an end may lie elsewhere on another processor: one printed unit, or a tenth of the width."""
        return max(self.step, self.width / 10)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one number per unit and its interval: `shared.stats.mean_interval`, Wilson's for truth values."""
    mean = float(np.mean(values))
    if len(values) == 1 or not np.isfinite(values).all():
        return Estimate(mean, mean, mean, len(values))
    from shared.stats import mean_interval, wilson_interval  # here: the tools behind `make` shouldn't wait for torch

    if all(isinstance(value, bool) for value in values):  # ten successes in ten don't rule out a failure: no zero width
        found = wilson_interval(sum(values), len(values), level=LEVEL)
    else:
        found = mean_interval(np.asarray(values), level=LEVEL)
    return Estimate(mean, float(found.low), float(found.high), len(values))


def _truths(*samples: Sequence[float]) -> bool:
    """Whether all are successes and failures of at least two units."""
    return all(len(values) > 1 and all(isinstance(value, bool) for value in values) for values in samples)


def _difference(values: Sequence[float], others: Sequence[float], paired: bool) -> Estimate:
    """Mean of `values` less mean of `others`: unit by unit where they share units, or one number that is known."""
    numbers, known = np.asarray(values, float), np.asarray(others, float)
    paired = paired and len(values) == len(others)
    if _truths(values) and not _truths(others) and (known == known[0]).all():
        return estimate(values).shifted(-known[0])
    if len(others) == 1 or (paired and not _truths(values, others)):
        return estimate(numbers - known)
    from shared.stats import difference_interval, share_difference_interval

    n, mean = min(len(values), len(others)), float(numbers.mean() - known.mean())
    if n < 2 or not np.isfinite([*numbers, *known]).all():
        return Estimate(mean, mean, mean, n)
    if _truths(values, others):
        found = share_difference_interval(numbers, known, paired=paired, level=LEVEL)
    else:
        found = difference_interval(numbers, known, level=LEVEL)
    return Estimate(mean, float(found.low), float(found.high), n)


@dataclass(frozen=True)
class Gate:
    """A gate of the card with what was measured for it: whether the phenomenon exists here.

    Parameters
    ----------
    card : the gate as the card states it.
    values : one number per unit.
    """

    card: GateCard
    values: tuple[float, ...]

    @cached_property
    def measured(self) -> Estimate:
        return estimate(self.values)

    @property
    def passes(self) -> bool:
        """Whether the whole interval satisfies the gate's check."""
        return self.card.check(self.measured.low) and self.card.check(self.measured.high)

    def as_json(self) -> dict[str, Any]:
        """The gate for results.json."""
        return {
            "id": self.card.id,
            "statement": self.card.statement,
            "measures": self.card.measures,
            "check": self.card.check.text,
            "values": list(map(finite, self.values)),
            **_estimate_json(self.measured),
            "passes": self.passes,
        }


@dataclass(frozen=True)
class Measurement:
    """A claim of the card with what was measured for it.

    Parameters
    ----------
    card : the claim as the card states it.
    values : one number per independent unit; empty where there is no test here.
    null : the same for the null version: as many (paired), one known number, or another count (unpaired).
    rivals : the same for each rival, by name.
    paired : whether entries of equal place belong to one unit, where there are as many.
    note : printed under the table.
    no_test : why there is no test here: a closed gate, or a claim for the paper's own scale.
    """

    card: ClaimCard
    values: tuple[float, ...]
    null: tuple[float, ...] = ()
    rivals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    paired: bool = True
    note: str = ""
    no_test: str = ""

    @cached_property
    def measured(self) -> Estimate | None:
        return estimate(self.values) if self.values else None

    @cached_property
    def null_measured(self) -> Estimate | None:
        return estimate(self.null) if self.null else None

    @property
    def best_rival(self) -> str | None:
        """The rival that does best by the claim's own check."""
        merit = {name: self.card.check.merit(np.asarray(v)).mean() for name, v in self.rivals.items()}
        return max(merit, key=merit.__getitem__) if merit else None

    @cached_property
    def over_rival(self) -> Estimate | None:
        """The difference to the best rival."""
        rival = self.best_rival
        if rival is None or not self.values:
            return None
        return _difference(self.values, self.rivals[rival], self.paired)

    @cached_property
    def over_null(self) -> Estimate | None:
        """How much better than the null, in the check's direction."""
        if not (self.values and self.null):
            return None
        check = self.card.check
        if _truths(self.values) and math.inf in (-check.low, check.high):  # one-sided: a rival is taken off both
            apart = _difference(self.values, self.null, self.paired)
            return apart if check.high == math.inf else apart.mirrored()
        merits = (check.merit(self._checked(numbers)) for numbers in (self.values, self.null))
        return _difference(*merits, self.paired)

    def _checked(self, values: tuple[float, ...]) -> np.ndarray:
        """The numbers that the check is meant for: as they are, or less the best rival's."""
        numbers = np.asarray(values, dtype=float)
        if not self.card.check.against_rival:
            return numbers
        rival = np.asarray(self.rivals[self.best_rival], dtype=float)
        unit_by_unit = len(rival) == 1 or (self.paired and len(rival) == len(numbers))
        return numbers - (rival if unit_by_unit else rival.mean())

    @property
    def _null_checked(self) -> Estimate:
        """The null in the claim's place."""
        if _truths(self.null):
            rival = self.rivals[self.best_rival] if self.card.check.against_rival else (0.0,)
            return _difference(self.null, rival, self.paired)
        return estimate(self._checked(self.null))

    @property
    def decisive(self) -> Estimate | None:
        """The estimate that the check is held against."""
        return self.over_rival if self.card.check.against_rival else self.measured

    @cached_property
    def verdict(self) -> str:
        """`held`, `not reproduced`, `open`, `no test here` or void, in the paper's words also for our own claims."""
        if self.no_test or not self.values:
            return NO_TEST
        if self.null and self._satisfies(self._null_checked):
            return VOID
        return self._decide(self.decisive, self.over_null)

    @property
    def answer(self) -> str:
        """The verdict in the words of the claim's kind."""
        return ANSWERS[self.verdict] if self.card.kind == "own" else self.verdict

    @cached_property
    def near(self) -> bool:
        """Whether a deciding end lies so near its bound that another processor may come to the neighbouring verdict."""
        if self.verdict in (NO_TEST, VOID):
            return False
        return len({self._decide(*ends) for ends in self._nudged()}) > 1

    def _nudged(self) -> Iterator[tuple[Estimate, Estimate | None]]:
        for a, b, c in product((-1, 0, 1), repeat=3):
            moved, apart = self.decisive, self.over_null
            step = moved.tolerance
            moved = Estimate(moved.mean, moved.low + a * step, moved.high + b * step, moved.n)
            if apart is not None:
                apart = Estimate(apart.mean, apart.low + c * apart.tolerance, apart.high, apart.n)
            yield moved, apart

    def _satisfies(self, found: Estimate) -> bool:
        return self.card.check(found.low) and self.card.check(found.high)

    def _decide(self, found: Estimate, apart: Estimate | None) -> str:
        if found.n < 2 or not math.isfinite(found.mean):
            return OPEN
        if self.card.check.fails_throughout(found.low, found.high):
            return NOT_REPRODUCED
        if self._satisfies(found) and (apart is None or apart.low > 0):
            return HELD
        return OPEN

    @property
    def why_open(self) -> str:
        """What keeps an open claim open."""
        if self.verdict != OPEN:
            return ""
        if not np.isfinite(self.values).all():
            return f"{int((~np.isfinite(self.values)).sum())} of {len(self.values)} numbers are not finite"
        if self.decisive.n < 2:
            return "one number has no interval"
        if self._satisfies(self.decisive):
            return "not apart from its null"
        return "the interval contains the bound"

    def as_json(self) -> dict[str, Any]:
        """The claim for results.json; numbers in full, NaN as null."""
        card = self.card
        return {
            "id": card.id,
            "kind": card.kind,
            "statement": card.statement,
            "reported": card.reported,
            "source": card.source,
            "measures": card.measures,
            "unit": card.unit,
            "check": card.check.text,
            "values": list(map(finite, self.values)),
            **_estimate_json(self.measured),
            "null": {"what": card.null, "values": list(map(finite, self.null)), **_estimate_json(self.null_measured)},
            "over_null": _estimate_json(self.over_null),
            "rivals": {name: list(map(finite, values)) for name, values in self.rivals.items()},
            "best_rival": self.best_rival,
            "over_rival": _estimate_json(self.over_rival),
            "gates": list(card.gates),
            "verdict": self.answer,
            "near": self.near,
            "why": self.no_test or self.why_open,
            "post_hoc": card.post_hoc,
            "note": self.note,
        }


def per_unit(argument: str, values: ArrayLike) -> tuple[float, ...]:
    """One number, or one per unit, as floats (truth values stay such); anything else is an error naming `argument`."""
    try:
        numbers = np.atleast_1d(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or a tensor that needs grad or lies on a GPU
        raise TypeError(f"{argument} must be a number or a sequence of numbers, one per unit; {error}") from error
    if numbers.dtype.kind not in "biuf":
        raise TypeError(f"{argument} must be a number or a sequence of numbers, one per unit; got {values!r}")
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"{argument} must be a number or a flat sequence, one per unit; got shape {numbers.shape}")
    return tuple(map(bool if numbers.dtype.kind == "b" else float, numbers))


def measurement(
    card: ClaimCard,
    values: ArrayLike,
    null: ArrayLike,
    rival: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    paired: bool = True,
    note: str = "",
    no_test: str = "",
) -> Measurement:
    """A claim's measurement from arrays; see `Paper.claim`."""
    rivals = rival if isinstance(rival, Mapping) else {} if rival is None else {"rival": rival}
    by_name = {name: per_unit(f"rival[{name!r}]", numbers) for name, numbers in rivals.items()}
    if card.check.against_rival and not by_name:
        raise ValueError(f"claim {card.id!r} is checked against a rival ({card.check.text}); pass rival=")
    if by_name and not card.rival:
        raise ValueError(f"rival is given for claim {card.id!r}, whose card names none")
    return Measurement(card, per_unit("values", values), per_unit("null", null), by_name, paired, note, no_test)


def count_verdicts(claims: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How often each verdict stands in the claims of a results.json, by kind: the papers' and our own apart."""
    counts: dict[str, dict[str, int]] = {"paper": {}, "own": {}}
    for claim in claims:
        of_kind = counts[claim["kind"]]
        of_kind[claim["verdict"]] = of_kind.get(claim["verdict"], 0) + 1
    return counts


def finite(value: float) -> float | None:
    """`value` as a float, or None for NaN and infinity, which JSON can't hold."""
    return float(value) if math.isfinite(value) else None


def _estimate_json(found: Estimate | None) -> dict[str, Any]:
    if found is None:
        return {"value": None, "interval": None}
    interval = [finite(found.low), finite(found.high)] if found.n > 1 else None
    return {"value": finite(found.mean), "interval": interval}
