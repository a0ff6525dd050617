"""The printed report: gates, the paper's claims, our own questions; and when two reports say the same."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from shared.compendium.claims import ANSWERS, NEIGHBOURS, Estimate, Gate, Measurement

_HEADS = {
    "gate": ("gate", "measured", "n", "check", "passes"),
    "paper": ("claim", "reported", "measured", "n", "null", "rival", "check", "verdict"),
    "own": ("our question", "measured", "n", "null", "rival", "check", "answer"),
}
_NOTES = {  # printed where their mark is
    "~": "~ the deciding end of the interval lies within rounding of its bound: another processor may say otherwise",
    "†": "† changed after its number was seen; the card says what and why",
    "‡": "‡ measured in seconds: another machine gives other numbers",
}
NO_CLAIM = "this notebook states no claim"
_AFTER = re.compile(r"(?: [†‡])*$")  # the marks behind a verdict


def report(gates: Sequence[Gate], measurements: Sequence[Measurement]) -> str:
    """All tables as aligned text, free of timing: `measured` is the mean and its 95 % interval over the n units."""
    if not gates and not measurements:
        return NO_CLAIM
    blocks = []
    if gates:
        rows = [(g.card.id, shown(g.measured), _count(g.measured), g.card.check.text, _yes(g.passes)) for g in gates]
        blocks.append(_aligned(_HEADS["gate"], rows))
    for kind in ("paper", "own"):
        rows = [_row(m) for m in measurements if m.card.kind == kind]
        if rows:
            blocks.append(_aligned(_HEADS[kind], rows))
    text = "\n\n".join(blocks)
    notes = [note for mark, note in _NOTES.items() if any(mark in row[-1] for row in map(_row, measurements))]
    return "\n\n".join([text, "\n".join(notes)]) if notes else text


def _row(m: Measurement) -> tuple[str, ...]:
    cells = [m.card.id]
    if m.card.kind == "paper":
        cells.append(m.card.reported)
    cells += [shown(m.measured), f"{len(m.values)} {m.card.unit}" if m.values else "–", shown(m.null_measured)]
    marks = (" †" if m.card.post_hoc else "") + (" ‡" if m.card.timed else "")
    cells += [_rival(m), m.card.check.text, f"{'~' if m.near else ''}{m.answer}{marks}"]
    return tuple(cells)


def _rival(m: Measurement) -> str:
    if m.over_rival is None:
        return "–"
    mean = sum(m.rivals[m.best_rival]) / len(m.rivals[m.best_rival])
    return f"{m.best_rival} {_rounded(mean, m.over_rival.step)}, Δ {shown(m.over_rival)}"


def printed(m: Measurement) -> dict[str, str]:
    """The claim's cells as the report prints them, by head, with its `id` and `kind`."""
    return {"id": m.card.id, "kind": m.card.kind, **dict(zip(_HEADS[m.card.kind][1:], _row(m)[1:]))}


def read_report(text: str) -> list[dict[str, str]]:
    """The claims in a text by `report`, each as `printed` gives it."""
    kinds = {_HEADS[kind][0]: kind for kind in ("paper", "own")}
    tables = [table for table in _tables(text) if table[0][0] in kinds]
    return [
        {"id": row[0], "kind": kinds[head[0]], **dict(zip(head[1:], row[1:]))} for head, *rows in tables for row in rows
    ]


def bare(verdict: str) -> str:
    """A printed verdict without its marks."""
    return _AFTER.sub("", verdict.removeprefix("~"))


def shown(found: Estimate | None) -> str:
    """`0.62 [0.55, 0.69]`; a single number or one without spread alone; a dash for nothing."""
    if found is None:
        return "–"
    if not math.isfinite(found.mean):
        return str(found.mean)
    mean = _rounded(found.mean, found.step)
    if found.n < 2 or found.width == 0:
        return mean
    return f"{mean} [{_rounded(found.low, found.step)}, {_rounded(found.high, found.step)}]"


def _rounded(value: float, step: float) -> str:
    """`value` to the decimals of `step`; very small and very large ones in powers of ten, never "-0"."""
    if step == 0 or not math.isfinite(value):
        return f"{value:.2g}"
    decimals = -math.floor(math.log10(step) + 0.5)
    if decimals > 6 or (decimals < -4 and abs(value) >= 1e6):
        text = f"{value:.1e}"
    else:
        text = f"{round(value, decimals):.{max(decimals, 0)}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _count(found: Estimate) -> str:
    return str(found.n)


def _yes(passes: bool) -> str:
    return "yes" if passes else "no"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


# --- when two reports agree ---------------------------------------------------------------------------------------

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf"
_VALUE = re.compile(rf"({_NUMBER})(?: \[({_NUMBER}), ({_NUMBER})\])?$")
_COMPARED = {"measured", "null", "rival"}
_MARKED = {"verdict", "answer", "passes"}


class _Number(NamedTuple):
    mean: float
    low: float
    high: float
    unit: float


def same_table(one: str, other: str) -> bool:
    """Whether two texts by `report` say the same: ids, reports, checks to the letter; numbers and verdicts nearly.

    Optimisers amplify rounding, so numbers depend on the processor. Two agree when each mean lies within the other's
    interval and the ends differ by no more than half its width (a null's: its width; a number without interval: a unit
    of its last digit or 2 %; a rival's, printed before its difference: half the width of the difference's interval,
    too). A verdict may be its neighbour where both runs mark it `~`, or one does: nowhere else.
    """
    ours, theirs = _tables(one), _tables(other)
    return [t[0] for t in ours] == [t[0] for t in theirs] and all(
        len(a) == len(b) and all(_same_row(a[0], x, y) for x, y in zip(a[1:], b[1:])) for a, b in zip(ours, theirs)
    )


def _tables(text: str) -> list[list[list[str]]]:
    """Each table as rows of cells, its head first, cut where the line of dashes says; notes are left out."""
    if text.strip() == NO_CLAIM:
        return []
    found = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        if len(lines) > 1 and re.fullmatch(r"(-+ *)+", lines[1]):
            begins = [dashes.start() for dashes in re.finditer("-+", lines[1])]
            spans = list(zip(begins, [*begins[1:], None]))
            found.append([[line[begin:end].strip() for begin, end in spans] for line in (lines[0], *lines[2:])])
    if not found:
        raise ValueError(f"text must be a report of claims, got {text[:80]!r}")
    return found


def _same_row(head: list[str], row: list[str], other: list[str]) -> bool:
    timed = row[-1].endswith("‡") and other[-1].endswith("‡")
    for name, a, b in zip(head, row, other):
        if name in _COMPARED and not (timed or _same_numbers(a, b, share=1.0 if name == "null" else 0.5)):
            return False
        if name in _MARKED and not _same_verdict(a, b):
            return False
        if name not in _COMPARED | _MARKED and a != b:
            return False
    return True


def _same_verdict(a: str, b: str) -> bool:
    if a.removeprefix("~") == b.removeprefix("~"):
        return True
    words = {answer: verdict for verdict, answer in ANSWERS.items()} | {verdict: verdict for verdict in ANSWERS}
    one, other = (words.get(bare(text), text) for text in (a, b))
    return (a.startswith("~") or b.startswith("~")) and other in NEIGHBOURS.get(one, ())


def _same_numbers(a: str, b: str, *, share: float = 0.5) -> bool:
    """The numbers of two cells; a rival's name may differ where its numbers don't (two may be level).

    The ends of intervals differ by at most that share of their width.
    """
    if a == b:
        return True
    ours, theirs = ([_read(part) for part in re.split(r", Δ ", cell)] for cell in (a, b))
    if None in ours or None in theirs or len(ours) != len(theirs):
        return False
    if len(ours) == 2 and _agree(ours[1], theirs[1], share):
        return _level(ours[0], theirs[0], share * min(o[1].high - o[1].low for o in (ours, theirs)))
    return all(_agree(one, other, share) for one, other in zip(ours, theirs))


def _read(part: str) -> _Number | None:
    match = _VALUE.search(part)
    if match is None:
        return None
    mean, low, high = match.groups()
    unit = max(_unit(text) for text in (mean, low, high) if text)
    return _Number(float(mean), float(low or mean), float(high or mean), unit)


def _unit(text: str) -> float:
    """One unit in the last digit as printed."""
    mantissa, _, power = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(power or 0) - decimals)


def _agree(a: _Number, b: _Number, share: float) -> bool:
    if a.low == a.high or b.low == b.high:  # a single number, or no spread
        return _level(a, b)
    if not (a.low - a.unit <= b.mean <= a.high + a.unit and b.low - b.unit <= a.mean <= b.high + b.unit):
        return False
    slack = max(a.unit, b.unit, share * min(a.high - a.low, b.high - b.low))
    return abs(a.low - b.low) <= (1 + 1e-9) * slack and abs(a.high - b.high) <= (1 + 1e-9) * slack


def _level(a: _Number, b: _Number, slack: float = 0.0) -> bool:
    """Whether the means differ by at most a unit as printed, 2 %, or the slack (and rounding)."""
    return abs(a.mean - b.mean) <= (1 + 1e-9) * max(a.unit, b.unit, 0.02 * abs(a.mean), slack)
