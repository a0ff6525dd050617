"""From relations to a graph: who implies whom, without those that fire everywhere and without cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from shared._checks import check_array, check_range
from shared.concepts._relations import Relations


class Edge(NamedTuple):
    """`child` implies `parent` (numbers of groups): the share of its activation, and how much that exceeds chance."""

    child: int
    parent: int
    strength: float
    lift: float


@dataclass(frozen=True)
class Hierarchy:
    """An acyclic graph. groups : latents that imply each other are one node; dead ones are in none. edges : child to
    parent."""

    groups: tuple[tuple[int, ...], ...]
    edges: tuple[Edge, ...]

    def group_of(self, latent: int) -> int:
        """The node that a latent is part of."""
        found = [number for number, members in enumerate(self.groups) if latent in members]
        if not found:
            raise ValueError(f"latent={latent} is in no group: it fired too seldom, or there is no such latent")
        return found[0]

    def around(self, group: int, steps: int = 1) -> tuple[Edge, ...]:
        """The edges of a node's ancestors and descendants up to so many steps away."""
        check_range("group", group, 0, len(self.groups) - 1)
        found: dict[Edge, None] = {}
        for end, other in (("child", "parent"), ("parent", "child")):  # upwards, then downwards
            reached = {group}
            for _ in range(steps):
                there = [edge for edge in self.edges if getattr(edge, end) in reached]
                reached = {getattr(edge, other) for edge in there}
                found |= dict.fromkeys(there)
        return tuple(found)


def parents(strength: Tensor, tau: float = 0.75) -> Tensor:
    """Entry (i, j): is j a parent of i, that is, `strength[i, j] > tau`. Bool (d, d), false on the diagonal.

    strength : (d, d), the row's relation to the column, such as `Relations.conditional()`. The authors name concepts
    with tau 0.75.
    """
    check_array("strength", strength, ("d", strength.shape[0] if strength.ndim else "d"))
    check_range("tau", tau, 0, 1)
    return (strength > tau).fill_diagonal_(False)


def by_chance(relations: Relations, *, tau: float = 0.75, min_lift: float = 1.5) -> Tensor:
    """Latents that are parents only because they fire nearly everywhere: none of their children with a lift. (d,) bool.

    A latent that is on in most patches is "implied" by every other; its lift stays near 1.
    """
    check_range("min_lift", min_lift, 0)
    found = parents(relations.conditional(), tau)
    return found.any(0) & ~(found & (relations.lift() >= min_lift)).any(0)


def components(parents: Tensor) -> Tensor:
    """Number of the strongly connected component of each latent, (d,) int64: equal if they imply each other."""
    check_array("parents", parents, ("d", parents.shape[0] if parents.ndim else "d"))
    _, labels = connected_components(csr_array(parents.cpu().numpy()), directed=True, connection="strong")
    return torch.from_numpy(labels).long()


def hierarchy(
    relations: Relations, *, tau: float = 0.75, min_lift: float = 1.5, min_count: int = 1, reduce: bool = True
) -> Hierarchy:
    """The graph of implications above `tau` whose lift is at least `min_lift`, among latents that fired on `min_count`
    patches or more: what fired on a few implies all that happened to fire there.

    Latents that imply each other, directly or around a cycle, become one node; between two nodes the strongest
    implication counts. reduce : leave out an edge that follows from others (child → parent → grandparent).
    """
    check_range("min_lift", min_lift, 0)
    check_range("min_count", min_count, 1)
    strength, lift, alive = relations.conditional().cpu(), relations.lift().cpu(), relations.counts.cpu() >= min_count
    edge = parents(strength, tau) & (lift >= min_lift) & alive & alive[:, None]
    labels = components(edge)
    _, labels[alive] = labels[alive].unique(return_inverse=True)
    members = _members(labels, alive)
    child, parent = edge.nonzero(as_tuple=True)
    apart = labels[child] != labels[parent]
    child, parent = child[apart], parent[apart]
    n = len(members)
    at, value = labels[child] * n + labels[parent], strength[child, parent]
    table = value.new_zeros(n * n).scatter_reduce_(0, at, value, "amax").view(n, n)
    lifts = lift.new_zeros(n * n).scatter_reduce_(0, at, lift[child, parent], "amax").view(n, n)
    shown = _reduced(table > 0) if reduce else table > 0
    edges = [Edge(i, j, float(table[i, j]), float(lifts[i, j])) for i, j in shown.nonzero().tolist()]
    return Hierarchy(members, tuple(edges))


def _members(labels: Tensor, alive: Tensor) -> tuple[tuple[int, ...], ...]:
    latents = alive.nonzero()[:, 0]
    order = latents[labels[latents].argsort(stable=True)]
    sizes = torch.bincount(labels[latents]).tolist() if len(latents) else []
    return tuple(tuple(part.tolist()) for part in order.split(sizes))


def _reduced(edge: Tensor) -> Tensor:
    """Without the edges that follow from a longer path; `edge` (n, n) is acyclic."""
    reach = edge.clone()
    while True:
        further = reach | ((reach.float() @ reach.float()) > 0)
        if torch.equal(further, reach):
            break
        reach = further
    return edge & ~((edge.float() @ reach.float()) > 0)
