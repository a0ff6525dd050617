"""Edges by name and number; circuits of them."""

import pytest
import torch

from shared.circuits import Circuit, EdgeLayout, top_edges


def counted(n_layers, n_heads, readers):
    """The sum over blocks, written out: so many readers of attention, and sources before."""
    attention = sum(readers * (1 + k * (n_heads + 1)) for k in range(n_layers))
    mlp = sum(1 + k * (n_heads + 1) + n_heads for k in range(n_layers))
    return attention + mlp + 1 + n_layers * (n_heads + 1)


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "granularity", "count"),
    [
        (12, 12, "attn_in", 2041),
        (12, 12, "qkv", 32491),
        (4, 4, "attn_in", 105),
        (4, 4, "qkv", 479),
        (2, 2, "qkv", 46),  # AutoCircuit's own count
        (6, 4, "attn_in", 217),
    ],
)
def test_published_counts(n_layers, n_heads, granularity, count):
    assert EdgeLayout(n_layers, n_heads, granularity).n_edges == count


@pytest.mark.parametrize("granularity", ["attn_in", "head", "qkv"])
def test_counts_follow_from_the_sum(granularity):
    readers = {"attn_in": 1, "head": 3, "qkv": 9}[granularity]
    layout = EdgeLayout(5, 3, granularity)
    assert layout.n_edges == counted(5, 3, readers) == len(set(layout.full.edges()))


def test_names_and_places_belong_together():
    layout = EdgeLayout(3, 2, "qkv")
    for edge in layout.full.edges():
        assert layout.circuit([edge]).edges() == [edge]
    assert "m0->a2.h1<q>" in layout.full.edges()


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        ("m0>m1", "source->receiver"),
        ("m7->logits", "nearest: .*m1->logits"),
        ("m0->logit", "doesn't exist in .*nearest: m0->logits"),
        ("m1->a1", "runs backwards"),
    ],
)
def test_an_edge_that_does_not_exist(edge, said):
    with pytest.raises(ValueError, match=said):
        EdgeLayout(2, 2).circuit([edge])


def test_jaccard():
    layout = EdgeLayout(2, 2)
    one, other = layout.circuit(["input->a0", "input->m0"]), layout.circuit(["input->m0", "m0->m1"])
    assert one.jaccard(other) == pytest.approx(1 / 3)
    assert one.jaccard(one) == 1
    empty = layout.circuit([])
    assert empty.jaccard(one) == 0
    assert str(empty.jaccard(empty)) == "nan"
    with pytest.raises(ValueError, match="other"):
        one.jaccard(EdgeLayout(2, 3).full)


@pytest.mark.parametrize("granularity", ["attn_in", "head", "qkv"])
def test_dangling_edges_go_and_paths_stay(granularity):
    layout = EdgeLayout(3, 2, granularity)
    reader = {"attn_in": "a1", "head": "a1.h0", "qkv": "a1.h0<k>"}[granularity]
    path = ["input->m0", f"m0->{reader}", "a1.h0->logits"]
    hanging = ["m1->m2", "input->m1", "a0.h1->logits"]  # of m2 nothing is read; a0 reads nothing
    if granularity != "attn_in":
        hanging.append("a1.h1->logits")  # the other head reads nothing
    assert set(layout.circuit(path + hanging).prune_dangling().edges()) == set(path)
    assert layout.full.prune_dangling().n_edges == layout.n_edges
    assert layout.circuit([]).prune_dangling().n_edges == 0


def test_dangling_edges_against_all_paths():
    layout = EdgeLayout(2, 2)
    mask = torch.rand(layout.valid.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    circuit = Circuit(layout, mask)
    on_paths = set()

    def walk(source, path):
        for edge in circuit.edges():
            first, last = edge.split("->")
            if first != source:
                continue
            if last == "logits":
                on_paths.update([*path, edge])
                continue
            written = [last] if last.startswith("m") else [f"{last}.h{h}" for h in range(2)]
            for name in written:
                walk(name, [*path, edge])

    walk("input", [])
    assert 0 < len(on_paths) < circuit.n_edges
    assert set(circuit.prune_dangling().edges()) == on_paths


@pytest.mark.parametrize("match", ["all", "layer", "receiver"])
@pytest.mark.parametrize("disjoint", [False, True])
def test_random_edges_of_equal_number(match, disjoint):
    layout = EdgeLayout(4, 4)
    circuit = top_edges(layout, torch.rand(layout.valid.shape, generator=torch.Generator().manual_seed(0)), 30)
    drawn = circuit.random_like(generator=torch.Generator().manual_seed(1), match=match, disjoint=disjoint)
    assert drawn.n_edges == circuit.n_edges
    assert not disjoint or not (drawn.mask & circuit.mask).any()
    groups = {"all": torch.zeros(9), "layer": layout.layer_of, "receiver": torch.arange(9)}[match]
    for group in groups.unique():
        assert drawn.mask[groups == group].sum() == circuit.mask[groups == group].sum()
    with pytest.raises(ValueError, match="empty"):
        layout.circuit([]).random_like(generator=torch.Generator())


def test_top_edges_rank_by_size_or_sign():
    layout = EdgeLayout(1, 1)
    scores = torch.zeros(layout.valid.shape)
    scores[layout.index("input->m0")], scores[layout.index("m0->logits")] = -3.0, 2.0
    assert top_edges(layout, scores, 1).edges() == ["input->m0"]
    assert top_edges(layout, scores, 1, absolute=False).edges() == ["m0->logits"]
    assert [top_edges(layout, scores, n).n_edges for n in range(layout.n_edges + 1)] == list(range(layout.n_edges + 1))


def test_json_there_and_back():
    circuit = EdgeLayout(2, 3, "head").circuit(["input->a0.h2", "m1->logits"])
    assert (Circuit.from_json(circuit.to_json()).mask == circuit.mask).all()
    for text in ("{", "[]", '{"n_layers": 2}'):
        with pytest.raises(ValueError, match="text"):
            Circuit.from_json(text)


def test_a_mask_of_another_shape():
    with pytest.raises(ValueError, match="mask"):
        Circuit(EdgeLayout(2, 2), torch.ones(3, 3, dtype=torch.bool))


def test_circuits_are_equal_by_their_edges():
    layout = EdgeLayout(2, 2)
    one, two = layout.circuit(["input->a0"]), layout.circuit(["input->m0"])
    assert Circuit.from_json(one.to_json()) == one
    assert one != two
    assert len({one, Circuit.from_json(one.to_json()), two}) == 2
