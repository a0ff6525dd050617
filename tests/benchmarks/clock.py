"""What several benchmarks measure alike: CPU seconds of a call, and the row that `run.py` prints."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def cpu_seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """The smallest CPU time of some calls."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def ratio_row(benchmark: str, ours: float, reference: str, theirs: float, aim: float, note: str) -> dict[str, Any]:
    """Ours beside a reference, both in seconds, and the ratio to reach."""
    row = {"benchmark": benchmark, "ours_s": ours, "reference": reference, "reference_s": theirs}
    return row | {"ratio": ours / theirs, "aim": aim, "note": note}
