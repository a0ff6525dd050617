"""Edges of a transformer: which part reads what another has written into the residual stream; circuits of them."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shared._checks import UnknownNameError, check_array, check_choice, check_range

GRANULARITIES = ("attn_in", "head", "qkv")
MATCHES = ("all", "layer", "receiver")


@dataclass(frozen=True)
class EdgeLayout:
    """Names of a transformer's edges: of the input, each head and each MLP into whatever reads the stream later.

    An edge is called `m0->a2.h1<q>`: what block 0's MLP writes, read by the queries of head 1 in block 2. The input
    (embeddings and positions) is `input`, what the head of the network reads is `logits`.

    Parameters
    ----------
    n_layers : blocks, each attention and then an MLP.
    n_heads : heads of each.
    granularity : what of an attention reads on its own: the whole ("attn_in", as in Vi-CD), each "head", or queries,
        keys and values of each head ("qkv", as in EAP-IG).
    """

    n_layers: int
    n_heads: int
    granularity: str = "attn_in"

    def __post_init__(self) -> None:
        check_range("n_layers", self.n_layers, 1)
        check_range("n_heads", self.n_heads, 1)
        check_choice("granularity", self.granularity, GRANULARITIES)

    @cached_property
    def sources(self) -> list[str]:
        """Names of what writes, in the order of the network."""
        heads = [[f"a{layer}.h{head}" for head in range(self.n_heads)] for layer in range(self.n_layers)]
        return ["input", *(name for layer, names in enumerate(heads) for name in [*names, f"m{layer}"])]

    @cached_property
    def receivers(self) -> list[str]:
        """Names of what reads, in the order of the network."""
        blocks = [[*self._readers(layer), f"m{layer}"] for layer in range(self.n_layers)]
        return [*(name for block in blocks for name in block), "logits"]

    def _readers(self, layer: int) -> list[str]:
        if self.granularity == "attn_in":
            return [f"a{layer}"]
        parts = [""] if self.granularity == "head" else ["<q>", "<k>", "<v>"]
        return [f"a{layer}.h{head}{part}" for part in parts for head in range(self.n_heads)]

    @cached_property
    def stages(self) -> list[tuple[int, int, int]]:
        """First and last (excluded) receiver, and sources before, of each attention and MLP in turn and the logits."""
        found, start, sources = [], 0, 1
        for _ in range(self.n_layers):
            for width, written in ((len(self._readers(0)), self.n_heads), (1, 1)):
                found.append((start, start + width, sources))
                start, sources = start + width, sources + written
        return [*found, (start, start + 1, sources)]

    @cached_property
    def valid(self) -> Tensor:
        """bool `(receivers, sources)`, True where the source comes before."""
        before = torch.cat([torch.full((stop - start,), n) for start, stop, n in self.stages])
        return torch.arange(len(self.sources)) < before[:, None]

    @cached_property
    def layer_of(self) -> Tensor:
        """Block of each receiver; the number of blocks for the logits."""
        return torch.cat([torch.full((b - a,), k // 2) for k, (a, b, _) in enumerate(self.stages)])

    @property
    def n_edges(self) -> int:
        """All of them: 2,041 of ViT-B with one reader per attention, 32,491 with queries, keys and values."""
        return int(self.valid.sum())

    @property
    def full(self) -> Circuit:
        """The circuit of all edges."""
        return Circuit(self, self.valid)

    def circuit(self, edges: Iterable[str]) -> Circuit:
        """The circuit of some edges.

        Parameters
        ----------
        edges : their names; none gives the empty circuit.

        Returns
        -------
        `Circuit`.

        Raises
        ------
        ValueError
            A name that isn't an edge's; the nearest source or receiver is named.
        """
        if isinstance(edges, str):
            raise ValueError(f"edges must be names; got the one string {edges!r}")
        mask = torch.zeros_like(self.valid)
        for name in edges:
            mask[self.index(name)] = True
        return Circuit(self, mask)

    def index(self, edge: str) -> tuple[int, int]:
        """Receiver and source of an edge, as numbers.

        Parameters
        ----------
        edge : "source->receiver".

        Returns
        -------
        Row and column of a mask.

        Raises
        ------
        ValueError
            As for `circuit`.
        """
        first, arrow, last = edge.partition("->")
        if not arrow:
            raise ValueError(f"edge {edge!r} must be 'source->receiver', such as 'input->{self.receivers[0]}'")
        if first not in self.sources or last not in self.receivers:
            near = difflib.get_close_matches(edge, self.full.edges(), n=3, cutoff=0)
            raise UnknownNameError(f"edge {edge!r} doesn't exist in {self}; nearest: {', '.join(near)}")
        receiver, source = self.receivers.index(last), self.sources.index(first)
        if not self.valid[receiver, source]:
            names = self.sources[: int(self.valid[receiver].sum())]
            raise ValueError(f"edge {edge!r} runs backwards: {last} reads {', '.join(names)}")
        return receiver, source


@dataclass(frozen=True, eq=False)
class Circuit:
    """Some of a transformer's edges.

    Parameters
    ----------
    layout : the edges there are.
    mask : bool `(receivers, sources)`, True where the edge is in the circuit.
    """

    layout: EdgeLayout
    mask: Tensor

    def __post_init__(self) -> None:
        want, mask = self.layout.valid, self.mask
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != want.shape:
            got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"mask must be bool {tuple(want.shape)}, receivers by sources; got {got}")
        object.__setattr__(self, "mask", mask.cpu() & want)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Circuit) and self.layout == other.layout and torch.equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.layout, self.n_edges))

    @property
    def n_edges(self) -> int:
        """How many."""
        return int(self.mask.sum())

    @property
    def share(self) -> float:
        """Of all edges."""
        return self.n_edges / self.layout.n_edges

    def edges(self) -> list[str]:
        """Their names, in the order of receivers.

        Returns
        -------
        "source->receiver" of each.
        """
        names, receivers = self.layout.sources, self.layout.receivers
        return [f"{names[s]}->{receivers[r]}" for r, s in self.mask.nonzero().tolist()]

    def jaccard(self, other: Circuit) -> float:
        """Edges in both over edges in either; NaN where both are empty.

        Parameters
        ----------
        other : of the same layout.

        Returns
        -------
        Share in [0, 1], or NaN.

        Raises
        ------
        ValueError
            A circuit of another layout.
        """
        if other.layout != self.layout:
            raise ValueError(f"other must be of {self.layout}; got {other.layout}")
        either = int((self.mask | other.mask).sum())
        return int((self.mask & other.mask).sum()) / either if either else math.nan

    def prune_dangling(self) -> Circuit:
        """Without the edges that no path leads over from the input to the logits.

        What is left gives the same logits when a source's change is what the input's brings about: an edge whose source
        has no kept edge behind it carries none.

        Returns
        -------
        `Circuit`.
        """
        reached = self._along(self.mask)
        return Circuit(self.layout, reached & self._back(reached))

    def _along(self, mask: Tensor) -> Tensor:
        """Edges whose source the input reaches."""
        kept, alive = mask.clone(), torch.zeros(len(self.layout.sources), dtype=torch.bool)
        alive[0] = True
        for (start, stop, n), (_, _, after) in zip(self.layout.stages, [*self.layout.stages[1:], (0, 0, 0)]):
            kept[start:stop] &= alive
            if after:
                alive[n:after] = self._feeds(kept[start:stop].any(1), after - n)
        return kept

    def _back(self, mask: Tensor) -> Tensor:
        """Edges whose receiver reaches the logits."""
        kept = torch.zeros_like(mask)
        for k in reversed(range(len(self.layout.stages))):
            start, stop, n = self.layout.stages[k]
            if k == len(self.layout.stages) - 1:
                kept[start:stop] = mask[start:stop]
                continue
            read = kept[:, n : self.layout.stages[k + 1][2]].any(0)  # of the sources that this stage writes
            kept[start:stop] = mask[start:stop] & self._feeds(read, stop - start)[:, None]
        return kept

    def _feeds(self, active: Tensor, count: int) -> Tensor:
        """Readers to writers of one stage, or back: one for all, or by head (three readers for each)."""
        if len(active) == 1 or count == 1:
            return active.any().expand(count)
        heads = active.view(-1, self.layout.n_heads).any(0)
        return heads.repeat(count // self.layout.n_heads)

    def random_like(self, *, generator: torch.Generator, match: str = "layer", disjoint: bool = False) -> Circuit:
        """Random edges of the same number: what a circuit is to be better than.

        Parameters
        ----------
        generator : source of randomness.
        match : the number is the same in "all", in each "layer" (block) of receivers, or for each "receiver".
        disjoint : draw from edges outside this circuit only, as many as there are.

        Returns
        -------
        `Circuit`.

        Raises
        ------
        ValueError
            Another word for match; an empty circuit.
        """
        check_choice("match", match, MATCHES)
        if not self.n_edges:
            raise ValueError("the circuit is empty: there is nothing to draw a likeness of")
        receivers = torch.arange(len(self.layout.receivers))
        groups = {"all": torch.zeros_like(receivers), "layer": self.layout.layer_of, "receiver": receivers}[match]
        choice = self.layout.valid & ~self.mask if disjoint else self.layout.valid
        drawn = torch.zeros_like(self.mask)
        for group in groups.unique():
            rows = (groups == group)[:, None]
            at = (choice & rows).nonzero()
            kept = at[torch.randperm(len(at), generator=generator)[: int((self.mask & rows).sum())]]
            drawn[kept[:, 0], kept[:, 1]] = True
        return Circuit(self.layout, drawn)

    def to_json(self) -> str:
        """As text that `from_json` reads.

        Returns
        -------
        JSON with the layout and the edges' names.
        """
        layout = {name: getattr(self.layout, name) for name in ("n_layers", "n_heads", "granularity")}
        return json.dumps({**layout, "edges": self.edges()})

    @classmethod
    def from_json(cls, text: str) -> Circuit:
        """A circuit that `to_json` wrote.

        Parameters
        ----------
        text : the JSON.

        Returns
        -------
        `Circuit`.

        Raises
        ------
        ValueError
            Text that isn't such JSON; an edge that doesn't exist.
        """
        try:
            read = json.loads(text)
            layout = EdgeLayout(read["n_layers"], read["n_heads"], read["granularity"])
            edges = read["edges"]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError("text must be JSON with n_layers, n_heads, granularity and edges") from error
        return layout.circuit(edges)


def top_edges(layout: EdgeLayout, scores: Tensor, n_edges: int, *, absolute: bool = True) -> Circuit:
    """The circuit of the edges with the highest scores.

    Parameters
    ----------
    layout : the edges there are.
    scores : float `(receivers, sources)`, of `edge_scores`.
    n_edges : how many to keep, from 0 to all. Of edges that tie, later receivers and sources go first.
    absolute : rank by size; else by what supports the metric.

    Returns
    -------
    `Circuit`.

    Raises
    ------
    ValueError
        Scores of another shape or not finite; a number out of range.
    """
    check_array("scores", scores, tuple(layout.valid.shape))
    check_range("n_edges", n_edges, 0, layout.n_edges)
    values = scores.detach().cpu().to(torch.float64)
    values = (values.abs() if absolute else values).masked_fill(~layout.valid, -math.inf).flatten()
    order = values.flip(0).sort(descending=True, stable=True).indices
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[len(values) - 1 - order[:n_edges]] = True
    return Circuit(layout, mask.view_as(layout.valid))
