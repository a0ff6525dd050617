"""A part of the tests: `make test SHARD=units` leaves papers out, `SHARD=2/4` runs every fourth paper only."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PAPER = re.compile(r"^papers/(\w+)/|test_dry_run\.py::\w+\[(\w+)\]$")


def paper_of(nodeid: str) -> str | None:
    """The paper whose notebook or dry run a test is; None for all other tests."""
    match = _PAPER.search(nodeid)
    return next(filter(None, match.groups())) if match else None


def in_shard(nodeid: str, shard: str, papers: Sequence[str]) -> bool:
    """Whether a test belongs to a shard: "" for all, "units", or "k/n" of `papers`.

    Raises `ValueError` for any other shard.
    """
    paper = paper_of(nodeid)
    if shard in ("", "units"):
        return shard == "" or paper is None
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    if not match or int(match[1]) > int(match[2]):
        raise ValueError(f"SHARD={shard!r} is no shard; accepted: units, or k/n with 1 <= k <= n")
    return paper is not None and sorted(papers).index(paper) % int(match[2]) == int(match[1]) - 1
