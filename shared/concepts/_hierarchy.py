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
    """One group of concepts implies another.

    Attributes
    ----------
    child, parent : int
        Numbers of the groups.
    strength : float
        Share of the child's activation that lies where the parent fires too.
    lift : float
        How much that exceeds chance.
    """

    child: int
    parent: int
    strength: float
    lift: float


@dataclass(frozen=True)
class Hierarchy:
    """An acyclic graph of implications.

    Parameters
    ----------
    groups : tuple of tuple of int
        Latents of each node: those that imply each other are one; dead ones are in none.
    edges : tuple of Edge
        From child to parent.
    """

    groups: tuple[tuple[int, ...], ...]
    edges: tuple[Edge, ...]

    def group_of(self, latent: int) -> int:
        """The node that a latent is part of.

        Parameters
        ----------
        latent : int
            Its number.

        Returns
        -------
        int
            Number of the group.
        """
        found = [number for number, members in enumerate(self.groups) if latent in members]
        if not found:
            raise ValueError(f"latent={latent} is in no group: it fired too seldom, or there is no such latent")
        return found[0]

    def around(self, group: int, *, steps: int = 1) -> tuple[Edge, ...]:
        """The edges of a node's ancestors and descendants.

        Parameters
        ----------
        group : int
            Number of the node.
        steps : int
            How far away.

        Returns
        -------
        tuple of Edge
            Upwards, then downwards.
        """
        check_range("group", group, 0, len(self.groups) - 1)
        found: dict[Edge, None] = {}
        for end, other in (("child", "parent"), ("parent", "child")):  # upwards, then downwards
            reached = {group}
            for _ in range(steps):
                there = [edge for edge in self.edges if getattr(edge, end) in reached]
                reached = {getattr(edge, other) for edge in there}
                found |= dict.fromkeys(there)
        return tuple(found)


def implications(strength: Tensor, *, tau: float = 0.75) -> Tensor:
    """Which latents imply which, by a threshold on how strongly.

    Parameters
    ----------
    strength : Tensor
        `(d, d)`, the row's relation to the column, such as `Relations.conditional()`.
    tau : float
        Threshold; the authors name concepts with 0.75.

    Returns
    -------
    Tensor
        Bool `(d, d)`: does i imply j, so that j is a parent of i; false on the diagonal.
    """
    check_array("strength", strength, ("d", strength.shape[0] if strength.ndim else "d"))
    check_range("tau", tau, 0, 1)
    return (strength > tau).fill_diagonal_(False)


def parents_by_chance(relations: Relations, *, tau: float = 0.75, min_lift: float = 1.5) -> Tensor:
    """Latents that are parents only because they fire nearly everywhere: none of their children with a lift.

    A latent that is on in most patches is "implied" by every other; its lift stays near 1.

    Parameters
    ----------
    relations : Relations
        Of all latents.
    tau : float
        Threshold of `implications`.
    min_lift : float
        Least lift of a real child.

    Returns
    -------
    Tensor
        Bool `(d,)`.
    """
    check_range("min_lift", min_lift, 0)
    found = implications(relations.conditional(), tau=tau)
    return found.any(0) & ~(found & (relations.lift() >= min_lift)).any(0)


def implication_components(implied: Tensor) -> Tensor:
    """Strongly connected components: latents that imply each other, directly or around a cycle.

    Parameters
    ----------
    implied : Tensor
        Bool `(d, d)`, `implications`.

    Returns
    -------
    Tensor
        Int64 `(d,)`, the component's number of each latent.
    """
    check_array("implied", implied, ("d", implied.shape[0] if implied.ndim else "d"))
    _, labels = connected_components(csr_array(implied.cpu().numpy()), directed=True, connection="strong")
    return torch.from_numpy(labels).long()


def hierarchy(
    relations: Relations, *, tau: float = 0.75, min_lift: float = 1.5, min_count: int = 1, reduce: bool = True
) -> Hierarchy:
    """The graph of implications that are strong enough and no accident.

    Latents that imply each other, directly or around a cycle, become one node; between two nodes the strongest
    implication counts.

    Parameters
    ----------
    relations : Relations
        Of all latents.
    tau : float
        Threshold of `implications`.
    min_lift : float
        Least lift of an implication.
    min_count : int
        Least number of patches on which a latent fired: what fired on a few implies all that happened to fire there.
    reduce : bool
        Leave out an edge that follows from others (child → parent → grandparent).

    Returns
    -------
    Hierarchy
        Of the latents that fired often enough.
    """
    check_range("min_lift", min_lift, 0)
    check_range("min_count", min_count, 1)
    strength = relations.conditional().cpu()
    lift = relations.lift().cpu()
    alive = relations.counts.cpu() >= min_count
    edge = implications(strength, tau=tau) & (lift >= min_lift) & alive & alive[:, None]
    labels = implication_components(edge)
    _, labels[alive] = labels[alive].unique(return_inverse=True)  # numbered without gaps
    members = _members(labels, alive)
    child, parent = edge.nonzero(as_tuple=True)
    apart = labels[child] != labels[parent]
    child, parent = child[apart], parent[apart]
    n = len(members)
    at = labels[child] * n + labels[parent]
    table = strength.new_zeros(n * n).scatter_reduce_(0, at, strength[child, parent], "amax").view(n, n)
    lifts = lift.new_zeros(n * n).scatter_reduce_(0, at, lift[child, parent], "amax").view(n, n)
    shown = _reduced(table > 0) if reduce else table > 0
    edges = [Edge(i, j, float(table[i, j]), float(lifts[i, j])) for i, j in shown.nonzero().tolist()]
    return Hierarchy(members, tuple(edges))


def _members(labels: Tensor, alive: Tensor) -> tuple[tuple[int, ...], ...]:
    """The living latents of each component, by its number."""
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
