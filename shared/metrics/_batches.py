"""How many rows go through a model or a kernel at once."""

from __future__ import annotations

from shared._checks import check_range


def at_once(batch_size: int | None, rows: int) -> int:
    """`batch_size`, or all rows."""
    if batch_size is None:
        return max(rows, 1)
    check_range("batch_size", batch_size, 1)
    return batch_size
