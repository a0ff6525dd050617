"""Graphs of small families whose edges are known."""

import networkx as nx
import pytest
import torch

from shared.concepts import Cooccurrence, hierarchy, implication_components, implications, parents_by_chance
from tests.concepts.cases import codes, family


def relations(f):
    return Cooccurrence(f.shape[-1]).update(f).relations()


def test_parents_of_a_family():
    found = implications(relations(family()).conditional(), tau=0.75)
    assert found[1, 0]
    assert found[2, 0]
    assert not found[0, 1]
    assert found[:5, 3].tolist() == [True, True, True, False, True]  # the always-on latent is everybody's parent
    assert not found.diagonal().any()
    assert not found[5].any()


def test_an_always_on_latent_is_flagged_by_its_lift():
    found = relations(family())
    assert parents_by_chance(found).tolist() == [False, False, False, True, False, False]
    graph = hierarchy(found)
    assert {(graph.groups[e.child], graph.groups[e.parent]) for e in graph.edges} == {((1,), (0,)), ((2,), (0,))}
    everything = hierarchy(found, min_lift=0)
    assert everything.group_of(3) in {e.parent for e in everything.edges}


def test_edges_carry_share_and_lift():
    found = relations(family())
    graph = hierarchy(found)
    edge = next(e for e in graph.edges if graph.groups[e.child] == (1,))
    assert edge.strength == pytest.approx(float(found.conditional()[1, 0]))
    assert edge.lift == pytest.approx(float(found.lift()[1, 0]))


def test_two_latents_that_imply_each_other_are_one_node():
    f = family()
    twin = torch.cat([f, f[:, :1] * 0.9], 1)
    graph = hierarchy(relations(twin))
    assert (0, 6) in graph.groups
    assert graph.group_of(0) == graph.group_of(6)
    assert {(graph.groups[e.child], graph.groups[e.parent]) for e in graph.edges} == {((1,), (0, 6)), ((2,), (0, 6))}


def test_cycles_are_collapsed_and_the_graph_is_networkxs():
    f = codes(n=150, d=25, share=0.25, seed=4)
    f[:, 7] = f[:, 3] * 2
    f[:, 9] = torch.where(f[:, 3] > 0, 1.0, f[:, 9])
    found = relations(f)
    edge = implications(found.conditional(), tau=0.45) & (found.lift() >= 1)
    theirs = nx.from_numpy_array(edge.numpy().astype(int), create_using=nx.DiGraph)
    labels = implication_components(edge)
    assert {frozenset((labels == n).nonzero()[:, 0].tolist()) for n in labels.unique()} == set(
        map(frozenset, nx.strongly_connected_components(theirs))
    )
    graph = hierarchy(found, tau=0.45, min_lift=1)
    condensed = nx.condensation(theirs.subgraph([n for n in theirs if found.alive[n]]))
    reduced = nx.transitive_reduction(condensed)
    members = condensed.nodes(data="members")
    want = {(frozenset(members[a]), frozenset(members[b])) for a, b in reduced.edges}
    assert {(frozenset(graph.groups[e.child]), frozenset(graph.groups[e.parent])) for e in graph.edges} == want
    assert len(want) > 5
    assert len(hierarchy(found, tau=0.45, min_lift=1, reduce=False).edges) == condensed.number_of_edges()


def test_a_chain_shows_no_shortcut():
    on = torch.zeros(400, 3)
    on[:200, 0], on[:100, 1], on[:50, 2] = 1, 1, 1
    assert len(hierarchy(relations(on)).edges) == 2
    assert len(hierarchy(relations(on), reduce=False).edges) == 3
    graph = hierarchy(relations(on))
    assert len(graph.around(graph.group_of(2))) == 1
    assert len(graph.around(graph.group_of(2), steps=2)) == 2
    assert len(graph.around(graph.group_of(1))) == 2


def test_rare_latents_can_be_left_out():
    f = torch.cat([family(), torch.zeros(2000, 1)], 1)
    here = ((f[:, 1] > 0) & (f[:, 4] > 0)).nonzero()[:2, 0]
    f[here, 6] = 1.0  # fires twice, where two others happen to
    everything, often = hierarchy(relations(f)), hierarchy(relations(f), min_count=3)
    assert (6,) in everything.groups
    assert everything.group_of(6) in {e.child for e in everything.edges}
    assert (6,) not in often.groups
    assert {(often.groups[e.child], often.groups[e.parent]) for e in often.edges} == {((1,), (0,)), ((2,), (0,))}
    with pytest.raises(ValueError, match="min_count=0 is out of range"):
        hierarchy(relations(f), min_count=0)


def test_nothing_fires():
    graph = hierarchy(relations(torch.zeros(5, 3)))
    assert graph.groups == graph.edges == ()
    with pytest.raises(ValueError, match="latent=1 is in no group"):
        graph.group_of(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: implications(torch.rand(3, 4)), r"strength has shape \(3, 4\)"),
        (lambda: implications(torch.rand(3, 3), tau=1.2), "tau=1.2 is out of range"),
        (lambda: implications(torch.full((2, 2), torch.nan)), "strength has 4 NaN"),
        (lambda: implication_components(torch.zeros(3, 4, dtype=torch.bool)), r"implied has shape \(3, 4\)"),
        (lambda: hierarchy(relations(torch.ones(4, 2)), min_lift=-1), "min_lift=-1 is out of range"),
        (lambda: parents_by_chance(relations(torch.ones(4, 2)), min_lift=-1), "min_lift=-1 is out of range"),
        (lambda: hierarchy(relations(torch.ones(4, 2))).around(7), "group=7 is out of range"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
