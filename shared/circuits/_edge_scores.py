"""What each edge is worth to a metric: exactly, by one gradient (EAP), or by gradients along a path (EAP-IG)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.circuits._edges import top_edges
from shared.circuits._patched import (
    EdgeGraph,
    Recording,
    known_sums,
    patched_logits,
    plain_mode,
    record,
    run_from,
    split_pairs,
    targets_of,
    trace,
    window,
    without,
)

METHODS = ("eap", "eap_ig", "exact")
METRICS = ("logit", "log_prob", "kl")
RULES = ("left", "midpoint")
Metric = Callable[[Tensor, Tensor], Tensor]


def edge_scores(
    graph: EdgeGraph,
    clean: Tensor,
    corrupt: Tensor,
    target: int | Tensor | None = None,
    *,
    method: str = "eap_ig",
    metric: str | Metric = "logit",
    steps: int = 5,
    rule: str = "left",
    batch_size: int = 64,
) -> Tensor:
    """How much the metric falls where one edge alone carries the corrupted run, a mean over pairs.

    With `s_uv = sum (z_u - z'_u) · grad_v`, EAP takes the gradient at what v reads in the clean run (Syed et al. 2024),
    EAP-IG its mean over runs whose embeddings lie between corrupted and clean (Hanna et al. 2024). Their code has the
    other sign.

    Parameters
    ----------
    graph : the transformer.
    clean : as for `patched_logits`.
    corrupt : of the same shape.
    target : classes `(B,)`, or one for all; by default each clean run's largest logit.
    method : "eap", two forward passes and a backward one; "eap_ig"; "exact", a run for each edge from its receiver on.
    metric : "logit" of the target, its "log_prob", "kl" (minus the divergence of the logits from the clean ones), or a
        function of logits `(B, C)` and targets `(B,)` that gives `(B,)`; higher is better.
    steps : points of the path, for EAP-IG.
    rule : "left", from the corrupted run on as in the authors' code, or "midpoint".
    batch_size : pairs in one pass.

    Returns
    -------
    float `(receivers, sources)` in the layout's order; zero where there is no edge.

    Raises
    ------
    ValueError
        Unknown words; data as `patched_logits` refuses it; targets that aren't classes.

    Warns
    -----
    UserWarning
        "eap" of "kl", whose gradient is zero at the clean run: what is left is rounding.
    """
    check_choice("method", method, METHODS)
    check_choice("rule", rule, RULES)
    check_range("steps", steps, 1)
    if method == "eap" and metric == "kl":
        warnings.warn(
            'metric="kl" is flat at the clean run: "eap" scores rounding; take "eap_ig" or "exact"', stacklevel=2
        )
    if method == "exact":
        parts = record(graph, clean, corrupt, target, batch_size=batch_size)
        with plain_mode(graph._stream):
            total = sum(_exact(graph, part, metric) for part in parts)
    else:
        points = [1.0] if method == "eap" else [(k + (rule == "midpoint") / 2) / steps for k in range(steps)]
        pairs = split_pairs(graph, clean, corrupt, target, batch_size)
        total = sum(_by_gradient(graph, x, other, some, points, metric) for x, other, some in pairs)
    return (total / len(clean)).cpu()


def faithfulness_curve(
    graph: EdgeGraph,
    scores: Tensor,
    clean: Tensor,
    corrupt: Tensor,
    target: int | Tensor | None = None,
    *,
    shares: Sequence[float],
    metric: str | Metric = "logit",
    absolute: bool = True,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """What circuits of the highest-scored edges keep of the metric and of the targets called.

    Parameters
    ----------
    graph : the transformer.
    scores : float `(receivers, sources)`, of `edge_scores`.
    clean : as for `patched_logits`; other pairs than those of the scores.
    corrupt : of the same shape.
    target : as for `edge_scores`.
    shares : of all edges, each from 0 to 1.
    metric : as for `edge_scores`.
    absolute : as for `top_edges`.
    batch_size : pairs in one pass.

    Returns
    -------
    "share" of edges as rounded, "faithfulness" (metric less that of no edge, over all edges less no edge; may be beyond
    1), "accuracy" (share of rows whose largest logit is the target), each `(len(shares),)`.

    Raises
    ------
    ValueError
        As for `top_edges` and `patched_logits`; shares out of range; pairs whose metric doesn't differ.
    """
    for share in shares:
        check_range("shares", share, 0, 1)
    layout = graph.layout
    counts = [round(share * layout.n_edges) for share in shares]
    circuits = [top_edges(layout, scores, n, absolute=absolute) for n in (*counts, 0, layout.n_edges)]
    logits = patched_logits(graph, circuits, clean, corrupt, batch_size=batch_size)
    targets = targets_of(target, logits[-1])
    means = torch.stack([row_scores(metric, one, targets, logits[-1]).mean() for one in logits])
    none, whole = means[-2], means[-1]
    if not (whole - none).abs() > 1e-12:
        raise ValueError("corrupt leaves the metric as it is: there is nothing to be faithful to")
    accuracy = (logits.argmax(-1) == targets).float().mean(1)
    return {
        "share": torch.tensor([n / layout.n_edges for n in counts]),
        "faithfulness": ((means - none) / (whole - none))[:-2],
        "accuracy": accuracy[:-2],
    }


def row_scores(metric: str | Metric, logits: Tensor, targets: Tensor, clean_logits: Tensor) -> Tensor:
    """The metric of each row, `(B,)`."""
    if not callable(metric):
        check_choice("metric", metric, METRICS)
    elif not isinstance(found := metric(logits, targets), Tensor) or found.shape != targets.shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"metric must give one number per row, {tuple(targets.shape)}; got {got}")
    else:
        return found
    if metric == "kl":
        whole = clean_logits.detach().log_softmax(-1)
        return (whole.exp() * (logits.log_softmax(-1) - whole)).sum(-1)
    values = logits if metric == "logit" else logits.log_softmax(-1)
    return values.gather(1, targets[:, None])[:, 0]


def _by_gradient(
    graph: EdgeGraph, x: Tensor, other: Tensor, target: Any, points: Sequence[float], metric: str | Metric
) -> Tensor:
    """Sum over rows of `(z_u - z'_u) · grad_v`, the gradient a mean over points between corrupted (0) and clean (1)."""
    stream, eap = graph._stream, points == [1.0]  # EAP's gradient is that of the clean run, which runs once
    with plain_mode(stream):
        z, bad = stream.embed(x), stream.embed(other)
        theirs = trace(graph, bad)[0]
        ours, read, logits = ([], [], bad) if eap else trace(graph, z)
    gradients: list[Any] = [0] * len(graph.layout.stages)
    for point in points:
        with plain_mode(stream, gradients=True):
            probes: list[Tensor] = []
            seen = trace(graph, bad + point * (z - bad), partial(_probed, graph, probes))
            ours, read, logits = seen if eap else (ours, read, logits)
            value = row_scores(metric, seen[2], targets_of(target, logits.detach()), logits).sum()
            new = torch.autograd.grad(value, probes)
        gradients = [old + g / len(points) for old, g in zip(gradients, new)]
    with plain_mode(stream):
        stream.check_model(x[:1], read[-1][:1].detach())
        return _products(graph, ours, theirs, gradients)


def _probed(graph: EdgeGraph, probes: list[Tensor], stage: int, total: Tensor, _: Any) -> Tensor:
    """A zero for each reader, whose gradient is that of what it reads."""
    start, stop, _ = graph.layout.stages[stage]
    probes.append(total.new_zeros(stop - start, *total.shape[1:]).requires_grad_())
    return total + probes[-1]


def _products(graph: EdgeGraph, ours: list[Tensor], theirs: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Every source's change times every later reader's gradient; a part at a time, so that no stack is copied."""
    stages = graph.layout.stages
    found = gradients[0].new_zeros(graph.layout.valid.shape)
    last = window(graph, len(stages) - 1)
    whole = torch.cat([g.flatten(1) for g in gradients[:-2]])  # readers of all positions; the last two read one
    for k, n in enumerate([0, *(n for _, _, n in stages[:-1])]):  # part k is read from stage k on
        delta = (ours[k].detach() - theirs[k]).detach()
        columns, first, rest = slice(n, n + len(delta)), stages[k][0], stages[-2][0]
        if first < rest:
            found[first:rest, columns] = whole[first:] @ delta.flatten(1).T
        delta = delta if delta.shape[-2] == gradients[-1].shape[-2] else delta[:, :, last]
        for stage in range(max(k, len(stages) - 2), len(stages)):
            found[stages[stage][0], columns] = delta.flatten(1) @ gradients[stage].flatten()
    return found


def _exact(graph: EdgeGraph, part: Recording, metric: str | Metric) -> Tensor:
    """Sum over rows of the metric's fall, for each edge, run from its receiver on; what comes before is clean."""
    found = part.delta.new_zeros(graph.layout.valid.shape)
    whole = row_scores(metric, part.logits, part.targets, part.logits).sum()
    for k, (start, stop, n) in enumerate(graph.layout.stages):
        sums = known_sums(graph, part, graph.layout.valid, k)
        for reader, source in itertools.product(range(stop - start), range(n)):
            logits = run_from(
                graph, part, graph.layout.valid, k, without(graph, part, k, sums[0], reader, source), sums
            )
            found[start + reader, source] = whole - row_scores(metric, logits, part.targets, part.logits).sum()
    return found
