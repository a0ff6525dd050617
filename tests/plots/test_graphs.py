"""Edges of a transformer, drawn."""

import pytest

from shared.plots import figure, stream_edges


def drawn(edges, **sizes):
    _, (ax,) = figure()
    return stream_edges(ax, edges, **{"n_layers": 2, "n_heads": 3, **sizes})


def test_edges_run_from_source_to_receiver():
    ax = drawn(["input->a1", "a0.h2->m1", "m1->logits"])
    (lines,) = ax.collections
    ends = [(*path.vertices[0], *path.vertices[-1]) for path in lines.get_paths()]
    assert [tuple(round(float(v), 2) for v in end) for end in ends] == [(0, 1, 2.62, 1), (1, 2, 4, 2.9), (4, 2.9, 5, 1)]
    assert sorted(t.get_text() for t in ax.texts).count("H0") == 2


def test_weights_are_widths():
    (lines,) = drawn({"input->a0": 1.0, "input->m0": -4.0, "m0->logits": 0.0}).collections
    assert list(lines.get_linewidths()) == [1.0, 2.5, 0.5]


def test_an_empty_circuit_has_parts_and_no_edges():
    ax = drawn([])
    assert len(ax.collections[0].get_paths()) == 0
    assert "MLP" in [t.get_text() for t in ax.texts]


@pytest.mark.parametrize("edge", ["input", "input->a9", "a0.h7->m1", "b0->m1", "a0.h1<q>x->m1"])
def test_parts_that_are_not_there(edge):
    with pytest.raises(ValueError, match="edges"):
        drawn([edge])
