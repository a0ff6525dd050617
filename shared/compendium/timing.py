"""What a call costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from shared._checks import check_range


def timed(run: Callable[[], Any], *, repeats: int = 1, device: torch.device | str = "cpu") -> tuple[float, Any]:
    """Seconds of a call, and what it gives.

    On the CPU the processor's time, which a busy machine doesn't lengthen; elsewhere the clock's, to the end of the
    device's work.

    Parameters
    ----------
    run : takes nothing.
    repeats : calls, >= 1, of which the shortest counts.
    device : where the work is done.

    Returns
    -------
    Seconds of the shortest call, and the last call's result.
    """
    check_range("repeats", repeats, 1)
    kind = torch.device(device).type
    clock = time.process_time if kind == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(repeats):
        _finish(kind)
        start = clock()
        result = run()
        _finish(kind)
        best = min(best, clock() - start)
    return best, result


def _finish(kind: str) -> None:
    """Wait for the device's queue."""
    module = getattr(torch, kind, None)
    if kind != "cpu" and hasattr(module, "synchronize"):
        module.synchronize()
