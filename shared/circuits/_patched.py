"""Runs of a transformer in which only a circuit's edges carry what they carry; all others carry a corrupted run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_range
from shared.circuits._edges import Circuit, EdgeLayout
from shared.circuits._stream import Head, Stream
from shared.hooks import graph_mode

SOURCE_VALUES = ("online", "cached")


class EdgeGraph:
    """A transformer as a graph of edges in its residual stream (Elhage et al. 2021).

    Works for ViT, CLIP's vision tower and Llama as transformers builds them, from their weights; that their own forward
    comes to the same is checked on a row of every recording. Images enter as `(B, C, H, W)`, tokens as `(B, T)`
    without padding; logits are those of the class token or of the last token.

    Parameters
    ----------
    model : a transformers model in eval mode.
    granularity : as for `EdgeLayout`.
    tower : of a model of two, "vision_model".
    head : from the normed stream `(B, D)` at the class token or last token to logits `(B, C)`; by default the model's
        own `classifier` or `lm_head`. Of CLIP for instance `lambda z: zero_shot(model.visual_projection(z))`.

    Raises
    ------
    ValueError
        Another architecture; no head; attention that isn't one of transformers' own; a compiled model.
    """

    def __init__(
        self, model: nn.Module, *, granularity: str = "attn_in", tower: str = "", head: Head | None = None
    ) -> None:
        self._stream = Stream(model, tower=tower, head=head)
        self.layout = EdgeLayout(self._stream.n_layers, self._stream.n_heads, granularity)


@dataclass
class Recording:
    """A clean and a corrupted run of the same rows; S sources, and K + 1 stages (attentions, MLPs, logits).

    `delta` `(S, B, T, D)` is clean less corrupted, `corrupt` what each source writes in the corrupted run, `base` what
    each stage reads in it, `(B, rows, D)`. Of the last block only the positions that the head reads are kept; the
    others are zero.
    """

    delta: Tensor
    corrupt: Tensor
    base: list[Tensor]
    logits: Tensor
    corrupt_logits: Tensor
    targets: Tensor


@contextmanager
def plain_mode(stream: Stream, gradients: bool = False) -> Iterator[None]:
    """With or without gradients whatever the caller stands in, in the model's own precision."""
    with graph_mode(), torch.set_grad_enabled(gradients), torch.autocast(stream.like.device.type, enabled=False):
        yield


def run_stage(graph: EdgeGraph, stage: int, x: Tensor) -> Tensor:
    """What stage's sources write, `(heads or 1, B, rows, D)`, where its readers read `(R, B, T, D)`."""
    layer = stage // 2
    return graph._stream.mlp(layer, x) if stage % 2 else graph._stream.heads(layer, x)


def window(graph: EdgeGraph, stage: int) -> slice:
    """Positions of its input that a stage uses: all, but behind the last attention."""
    layers = graph._stream.n_layers
    return slice(None) if stage < 2 * layers - 1 else graph._stream.rows(layers - 1)


def trace(
    graph: EdgeGraph, z: Tensor, probe: Callable[[int, Tensor, list[Tensor]], Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Run a stream from its embeddings: what each stage wrote and read, and the logits.

    `probe` sees each stage's sum `(1, B, T, D)` and what was written so far, and gives what its readers read instead.
    """
    written, read, total = [z[None]], [], z
    for stage in range(len(graph.layout.stages)):
        read.append(total)
        x = total[None] if probe is None else probe(stage, total[None], written)
        if stage == len(graph.layout.stages) - 1:
            return written, read, graph._stream.logits(x[0])
        new = run_stage(graph, stage, x)
        written.append(new)
        total = total[..., graph._stream.rows(stage // 2), :] + new.sum(0) + _bias(graph, stage)
    raise AssertionError


def _bias(graph: EdgeGraph, stage: int) -> Tensor | int:
    bias = None if stage % 2 else graph._stream.module("output", stage // 2).bias
    return 0 if bias is None else bias


def record(graph: EdgeGraph, clean: Any, corrupt: Any, target: Any = None, *, batch_size: int) -> list[Recording]:
    """Clean and corrupted runs of all pairs, in parts of `batch_size`."""
    with plain_mode(graph._stream):
        return [_record_part(graph, *pair) for pair in split_pairs(graph, clean, corrupt, target, batch_size)]


def split_pairs(
    graph: EdgeGraph, clean: Any, corrupt: Any, target: Any, batch_size: int
) -> list[tuple[Tensor, Tensor, Any]]:
    """Both as the model takes them, of one shape and not the same, and targets, in parts."""
    x, other = graph._stream.check("clean", clean), graph._stream.check("corrupt", corrupt)
    if x.shape != other.shape:
        raise ValueError(f"corrupt must have the shape of clean, {tuple(x.shape)}; got {tuple(other.shape)}")
    if torch.equal(x, other):
        raise ValueError("corrupt is the same as clean: no edge would carry anything")
    check_range("batch_size", batch_size, 1)
    if isinstance(target, Tensor) and target.shape != (len(x),):
        raise ValueError(f"target must be one class or whole numbers ({len(x)},); got {tuple(target.shape)}")
    rows = [slice(start, start + batch_size) for start in range(0, len(x), batch_size)]
    return [(x[r], other[r], target[r] if isinstance(target, Tensor) else target) for r in rows]


def targets_of(target: Any, logits: Tensor) -> Tensor:
    """A class for each row, `(B,)`; by default its largest logit."""
    rows, classes = logits.shape
    if target is None:
        return logits.argmax(-1)
    found = torch.full((rows,), target) if isinstance(target, int) else target
    if not isinstance(found, Tensor) or found.dtype not in (torch.int32, torch.int64) or found.shape != (rows,):
        got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"target must be one class or whole numbers ({rows},); got {got}")
    if int(found.min()) < 0 or int(found.max()) >= classes:
        raise ValueError(f"target must lie from 0 to {classes - 1}; got {int(found.min())} to {int(found.max())}")
    return found.to(logits.device, torch.int64)


def _record_part(graph: EdgeGraph, x: Tensor, other: Tensor, target: Any) -> Recording:
    written, read, logits = trace(graph, graph._stream.embed(x))
    graph._stream.check_model(x[:1], read[-1][:1])
    theirs, base, corrupt_logits = trace(graph, graph._stream.embed(other))
    corrupt, targets = stacked(graph, theirs), targets_of(target, logits)
    return Recording(stacked(graph, written) - corrupt, corrupt, base, logits, corrupt_logits, targets)


def stacked(graph: EdgeGraph, written: list[Tensor]) -> Tensor:
    """All sources, `(S, B, T, D)`."""
    first, last = written[0], graph._stream.rows(graph._stream.n_layers - 1)
    found = first.new_zeros(len(graph.layout.sources), *first.shape[1:])
    for part, n in zip(written, [0, *(n for _, _, n in graph.layout.stages)]):
        rows = last if part.shape[-2] < first.shape[-2] else slice(None)
        found[n : n + len(part), :, rows] = part.detach()
    return found


def mixed(weights: Tensor, values: Tensor) -> Tensor:
    """Sums of sources `(R, B, T, D)` by `weights (R, S)`."""
    return (weights.to(values) @ values.flatten(1)).view(len(weights), *values.shape[1:])


def known_sums(graph: EdgeGraph, part: Recording, mask: Tensor, stage: int) -> list[Tensor]:
    """What each stage from `stage` on reads of sources before it, those unchanged: the cached prefix."""
    n = graph.layout.stages[stage][2]
    sums = []
    for k, (start, stop, _) in enumerate(graph.layout.stages[stage:], stage):
        known = part.delta[:n, :, window(graph, k)]
        sums.append(part.base[k] + mixed(mask[start:stop, :n], known))
    return sums


def without(graph: EdgeGraph, part: Recording, stage: int, x: Tensor, reader: int, source: int) -> Tensor:
    """What stage's readers read, `(R, B, T, D)`, where one of them has the corrupted run's source, unchanged so far."""
    less = x.clone()
    less[reader] -= part.delta[source, :, window(graph, stage)]
    return less


def run_from(
    graph: EdgeGraph, part: Recording, mask: Tensor, stage: int, x: Tensor, sums: list[Tensor], cached: bool = False
) -> Tensor:
    """Logits where stage's readers read `x` and later ones by the mask; `sums` are `known_sums` of this stage."""
    sums, n, first = list(sums), graph.layout.stages[stage][2], stage
    while stage < len(graph.layout.stages) - 1:
        new = run_stage(graph, stage, x)
        stop_n = graph.layout.stages[stage + 1][2]
        old = slice(n, stop_n)
        rows = slice(None) if new.shape[-2] == part.corrupt.shape[-2] else window(graph, 2 * graph._stream.n_layers)
        delta = part.delta[old, :, rows] if cached else new - part.corrupt[old, :, rows]
        for k, (start, stop, _) in enumerate(graph.layout.stages[stage + 1 :], stage + 1):
            if (weights := mask[start:stop, old]).any():
                at = window(graph, k) if delta.shape[-2] == part.corrupt.shape[-2] else slice(None)
                sums[k - first] = sums[k - first] + mixed(weights, delta[:, :, at])
        stage, n = stage + 1, stop_n
        x = sums[stage - first]
    return graph._stream.logits(x[0])


def patched_logits(
    graph: EdgeGraph,
    circuits: Circuit | Sequence[Circuit],
    clean: Tensor,
    corrupt: Tensor,
    *,
    source_values: str = "online",
    batch_size: int = 64,
) -> Tensor:
    """Logits where a circuit's edges carry the clean run and all others the corrupted one (Vi-CD, figure 2; ACDC).

    A receiver reads `sum z'_u` over all sources, and `z_u - z'_u` over its edges in the circuit: z' of the corrupted
    run, z as the source computes it from what *it* reads here. All edges give the clean logits, none the corrupted.

    Parameters
    ----------
    graph : the transformer.
    circuits : one or several, of the graph's layout.
    clean : images `(B, C, H, W)` or token ids `(B, T)`.
    corrupt : of the same shape, row by row the counterfactual.
    source_values : "online", as above; "cached", z of the clean run, where edges in series don't act on one another, so
        that only those into the logits matter.
    batch_size : pairs in one pass.

    Returns
    -------
    `(B, C)`; of several circuits `(M, B, C)`.

    Raises
    ------
    ValueError
        Circuits of another layout; data of another shape, not finite, or the same twice; a model in training mode or
        with hooks that change what it computes.
    """
    check_choice("source_values", source_values, SOURCE_VALUES)
    several = [circuits] if isinstance(circuits, Circuit) else list(circuits)
    if not several:
        raise ValueError("circuits is empty; give at least one")
    for circuit in several:
        check_layout(graph, circuit)
    found = []
    for part in record(graph, clean, corrupt, batch_size=batch_size):
        with plain_mode(graph._stream):
            logits = [whole_run(graph, part, circuit.mask, source_values == "cached") for circuit in several]
        found.append(torch.stack(logits))
    logits = torch.cat(found, 1)
    return logits[0] if isinstance(circuits, Circuit) else logits


def whole_run(graph: EdgeGraph, part: Recording, mask: Tensor, cached: bool = False) -> Tensor:
    sums = known_sums(graph, part, mask, 0)
    return run_from(graph, part, mask, 0, sums[0], sums, cached)


def check_layout(graph: EdgeGraph, circuit: Any, argument: str = "circuits") -> None:
    """A circuit must be of the graph's edges."""
    if not isinstance(circuit, Circuit) or circuit.layout != graph.layout:
        got = circuit.layout if isinstance(circuit, Circuit) else type(circuit).__name__
        raise ValueError(f"{argument} must be of {graph.layout}; got {got}")
