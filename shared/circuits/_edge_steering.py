"""Taking out of some edges what a corruption puts into them (Vi-CD, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared._checks import check_array, check_choice, check_range
from shared.circuits._edges import Circuit
from shared.circuits._patched import EdgeGraph, check_layout, plain_mode, record, trace, window

AGGREGATES = ("mean", "medoid")


def edge_directions(
    graph: EdgeGraph,
    clean: Tensor,
    corrupt: Tensor,
    *,
    aggregate: str = "mean",
    unit_first: bool = True,
    batch_size: int = 64,
) -> Tensor:
    """Where a corruption moves what each source writes, by position.

    Parameters
    ----------
    graph : the transformer.
    clean : as for `patched_logits`.
    corrupt : of the same shape, such as the same images with a written word.
    aggregate : over pairs, "mean" or "medoid", the pair's whose summed distance to the others is least.
    unit_first : each pair's difference counts by its direction alone.
    batch_size : pairs in one pass.

    Returns
    -------
    `(sources, T, D)` of length one; zero where nothing moves, and of the last block but where the head reads.

    Raises
    ------
    ValueError
        Another aggregate; data as `patched_logits` refuses it.
    """
    check_choice("aggregate", aggregate, AGGREGATES)
    moved = [-part.delta for part in record(graph, clean, corrupt, batch_size=batch_size)]
    with plain_mode(graph._stream):
        return torch.stack([_direction(torch.cat(of_pair), aggregate, unit_first) for of_pair in zip(*moved)])


def _direction(moved: Tensor, aggregate: str, unit_first: bool) -> Tensor:
    """`(T, D)` of `(B, T, D)`"""
    if unit_first:
        moved = _unit(moved)
    if aggregate == "mean":
        return _unit(moved.mean(0))
    by_place = moved.transpose(0, 1)
    chosen = torch.cdist(by_place, by_place).sum(2).argmin(1)
    return _unit(by_place[torch.arange(len(by_place), device=moved.device), chosen])


def _unit(x: Tensor) -> Tensor:
    return torch.where(x.norm(dim=-1, keepdim=True) > 1e-8, normalize(x, dim=-1), 0.0)


def steered_logits(
    graph: EdgeGraph, circuit: Circuit, x: Tensor, directions: Tensor, *, alpha: float, batch_size: int = 256
) -> Tensor:
    """Logits where each of a circuit's edges carries `z - alpha · ReLU(z · d) d` in place of z, at each position.

    The receiver reads the corrected value, other receivers of the same source what it wrote; later sources compute
    theirs from what they read here.

    Parameters
    ----------
    graph : the transformer.
    circuit : the edges that are steered.
    x : images `(B, C, H, W)` or token ids `(B, T)`.
    directions : `(sources, T, D)`, of `edge_directions`.
    alpha : strength, 0 or more; at 1 nothing of the direction is left.
    batch_size : rows in one pass.

    Returns
    -------
    `(B, C)`.

    Raises
    ------
    ValueError
        A circuit without edges or of another layout; directions of another shape; data as `patched_logits` refuses it.
    """
    check_layout(graph, circuit, "circuit")
    if not circuit.n_edges:
        raise ValueError("circuit is empty: there is no edge to steer")
    rows, stream = graph._stream.check("x", x), graph._stream
    check_range("alpha", alpha, 0)
    check_range("batch_size", batch_size, 1)
    found = []
    for part in rows.split(batch_size):
        with plain_mode(stream):
            z = stream.embed(part)
            check_array("directions", directions, (len(graph.layout.sources), *z.shape[1:]))
            steer = _Steering(graph, circuit.mask, directions.detach().to(z), alpha)
            found.append(trace(graph, z, steer)[2])
    return torch.cat(found)


class _Steering:
    """What each reader reads instead: corrections of the sources so far, each made once, by the mask."""

    def __init__(self, graph: EdgeGraph, mask: Tensor, directions: Tensor, alpha: float) -> None:
        self.graph, self.mask, self.directions, self.alpha = graph, mask, directions, alpha
        self.last = window(graph, len(graph.layout.stages) - 1)
        self.made: list[Tensor] = []

    def __call__(self, stage: int, total: Tensor, written: list[Tensor]) -> Tensor:
        start, stop, _ = self.graph.layout.stages[stage]
        self.made += [self._correction(z, len(self.made) + k) for k, z in enumerate(written[-1])]
        read = total.expand(stop - start, *total.shape[1:]).clone()
        for source, correction in enumerate(self.made):
            if (weights := self.mask[start:stop, source]).any():
                short = correction.shape[-2] > read.shape[-2]
                read -= weights.to(read)[:, None, None, None] * (correction[:, self.last] if short else correction)
        return read

    def _correction(self, z: Tensor, source: int) -> Tensor:
        """`(B, rows, D)`"""
        d = self.directions[source]
        d = d if z.shape[-2] == len(d) else d[self.last]
        return self.alpha * (z * d).sum(-1, keepdim=True).clamp(min=0) * d
