"""Circuits by removing edges one after another (ACDC, Conmy et al. 2023; Vi-CD, Żukowska et al. 2026)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from shared._checks import check_choice, check_range, wide
from shared.circuits._edge_scores import Metric, row_scores
from shared.circuits._edges import Circuit
from shared.circuits._patched import (
    EdgeGraph,
    Recording,
    known_sums,
    plain_mode,
    record,
    run_from,
    whole_run,
    without,
)

ORDERS = ("late_first", "early_first")


def prune_edges(
    graph: EdgeGraph,
    clean: Tensor,
    corrupt: Tensor,
    target: int | Tensor | None = None,
    *,
    tau: float,
    metric: str | Metric = "logit",
    relative: bool = True,
    order: str = "late_first",
    prefix_cache: bool = True,
    batch_size: int = 64,
    progress: bool = False,
) -> Circuit:
    """The circuit that is left when each edge that the metric hardly misses has been removed.

    Receivers are visited from the logits to the first block and, in each, sources by `order`. An edge goes if the mean
    metric, measured in the circuit as it then is, falls by less than `tau`; so also where it rises. What comes before
    the visited receiver still runs whole, so its outputs are the clean run's, and only it and later parts run anew.

    Parameters
    ----------
    graph : the transformer.
    clean : as for `patched_logits`.
    corrupt : of the same shape.
    target : as for `edge_scores`.
    tau : the fall above which an edge stays.
    metric : as for `edge_scores`: "logit" is Vi-CD's, "kl" ACDC's.
    relative : `tau` is a share of the metric's fall from the clean to the corrupted run; else in its own unit.
    order : of a receiver's sources, "late_first" or "early_first".
    prefix_cache : run from the visited receiver on; False runs all from the input, for comparison.
    batch_size : pairs in one pass; the recordings of all pairs are held at once.
    progress : show a bar over receivers.

    Returns
    -------
    `Circuit`; edges that hang in the air are in it (`prune_dangling`).

    Raises
    ------
    ValueError
        Unknown words; data as `patched_logits` refuses it; a relative tau where the metric doesn't fall.
    """
    check_choice("order", order, ORDERS)
    check_range("tau", tau, -math.inf, math.inf)
    parts = record(graph, clean, corrupt, target, batch_size=batch_size)
    with plain_mode(graph._stream):
        mask = graph.layout.valid.clone()
        base, floor = (_mean(metric, parts, [getattr(p, run) for p in parts]) for run in ("logits", "corrupt_logits"))
        if relative and not base - floor > 1e-9:
            raise ValueError(f"corrupt doesn't lower the metric ({floor:.4g} from {base:.4g}); give relative=False")
        least = tau * (base - floor) if relative else tau
        stages = range(len(graph.layout.stages))
        for stage in tqdm(reversed(stages), total=len(stages), desc="receivers", disable=not progress):
            base = _prune_stage(graph, parts, mask, stage, base, least, metric, order, prefix_cache)
    return Circuit(graph.layout, mask)


def _mean(metric: str | Metric, parts: list[Recording], logits: list[Tensor]) -> float:
    values = [row_scores(metric, one, part.targets, part.logits) for one, part in zip(logits, parts)]
    return float(wide(torch.cat(values)).mean())


def _visited(graph: EdgeGraph, stage: int, order: str) -> list[tuple[int, int]]:
    start, stop, n = graph.layout.stages[stage]
    sources = range(n) if order == "early_first" else range(n - 1, -1, -1)
    return [(reader, source) for reader in range(stop - start - 1, -1, -1) for source in sources]


def _prune_stage(
    graph: EdgeGraph,
    parts: list[Recording],
    mask: Tensor,
    stage: int,
    base: float,
    least: float,
    metric: str | Metric,
    order: str,
    prefix_cache: bool,
) -> float:
    """Remove edges of one stage's readers from `mask`; the metric that is left."""
    start = graph.layout.stages[stage][0]
    sums = [known_sums(graph, part, mask, stage) for part in parts] if prefix_cache else []
    read = [found[0] for found in sums]
    for reader, source in _visited(graph, stage, order):
        mask[start + reader, source] = False  # a run from this stage on takes what it reads from `tried`
        tried = [without(graph, part, stage, x, reader, source) for part, x in zip(parts, read)]
        if prefix_cache:
            logits = [run_from(graph, part, mask, stage, x, known) for part, x, known in zip(parts, tried, sums)]
        else:
            logits = [whole_run(graph, part, mask) for part in parts]
        new = _mean(metric, parts, logits)
        if base - new < least:
            read, base = tried, new
        else:
            mask[start + reader, source] = True
    return base
