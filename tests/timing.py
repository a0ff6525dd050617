"""Where the time of a test run went, by kind of test, and what 75 papers would take at the same rate."""

from __future__ import annotations

from collections import defaultdict

PAPERS = 75
NAMES = ("units", "notebooks", "dry runs", "faults")


def kind(nodeid: str) -> str:
    """`notebooks`, `dry runs`, `faults` (the runner under attack) or `units`."""
    if nodeid.startswith("papers/"):
        return "notebooks"
    if nodeid.startswith("tests/papers/test_dry_run"):
        return "dry runs"
    return "faults" if nodeid.startswith(("tests/faults", "tests/runner")) else "units"


class Clock:
    """Adds up the durations of reports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.seen: dict[str, set[str]] = defaultdict(set)

    def add(self, nodeid: str, duration: float) -> None:
        """Count a phase of a test."""
        self.seconds[kind(nodeid)] += duration
        self.seen[kind(nodeid)].add(nodeid.split("::")[0] if kind(nodeid) == "notebooks" else nodeid)

    def lines(self, workers: int) -> list[str]:
        """The summary: worker seconds by kind, and the arithmetic for 75 papers."""
        parts = [f"{name} {self.seconds[name]:.0f} s ({len(self.seen[name])})" for name in NAMES if self.seen[name]]
        lines = [f"worker seconds: {', '.join(parts)}; workers: {workers}"]
        run = {name: len(self.seen[name]) for name in ("notebooks", "dry runs")}
        if all(run.values()) and self.seen["units"]:
            each = {name: self.seconds[name] / run[name] for name in run}
            fixed = self.seconds["units"] + self.seconds["faults"]
            minutes = (PAPERS * sum(each.values()) + fixed) / workers / 60
            sums = f"{PAPERS} x ({each['notebooks']:.0f} + {each['dry runs']:.0f}) + {fixed:.0f}"
            lines.append(
                f"{PAPERS} papers at this rate, with today's units: ({sums}) s / {workers} = {minutes:.0f} min"
            )
        return lines


CLOCK = Clock()
