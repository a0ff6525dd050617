"""Steering of single edges against a loop over edges written out."""

import pytest
import torch

from shared.circuits import Circuit, EdgeGraph, edge_directions, steered_logits
from tests.circuits.test_patched import made, run_by_name


@pytest.mark.parametrize("granularity", ["attn_in", "head", "qkv"])
@pytest.mark.parametrize("kind", ["vit", "llama"])
def test_each_edge_is_steered_by_itself(kind, granularity):
    graph, x, corrupt, _ = made(kind, granularity)
    layout = graph.layout
    circuit = Circuit(layout, torch.rand(layout.valid.shape, generator=torch.Generator().manual_seed(2)) < 0.5)
    directions = edge_directions(graph, x, corrupt)
    model, plain = graph._stream.model, run_by_name(graph._stream.model, layout, x, None)

    def reads(receiver, live):
        row = layout.receivers.index(receiver)
        total = plain["bias before " + receiver.split(".")[0]]
        for column, name in enumerate(layout.sources):
            if layout.valid[row, column]:
                z, d = live[name], directions[column]
                steer = circuit.mask[row, column] * 0.7 * (z * d).sum(-1, keepdim=True).clamp(min=0) * d
                total = total + z - steer
        return total

    want = run_by_name(model, layout, x, reads)["logits"]
    got = steered_logits(graph, circuit, x, directions, alpha=0.7, batch_size=2)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


def test_no_strength_is_the_model_itself():
    graph, x, corrupt, logits = made("vit")
    got = steered_logits(graph, graph.layout.full, x, edge_directions(graph, x, corrupt), alpha=0)
    torch.testing.assert_close(got, logits(x).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("unit_first", [False, True])
def test_directions_by_their_definition(unit_first):
    graph, clean, corrupt, _ = made("vit")
    one, other = (run_by_name(graph._stream.model, graph.layout, x, None) for x in (clean, corrupt))
    mean = edge_directions(graph, clean, corrupt, unit_first=unit_first, batch_size=2)
    medoid = edge_directions(graph, clean, corrupt, unit_first=unit_first, aggregate="medoid")
    for column, name in enumerate(graph.layout.sources[:5]):  # of the last block only the class token is kept
        moved = (other[name] - one[name])[:, 1:]
        if unit_first:
            moved = moved / moved.norm(dim=-1, keepdim=True)
        want = moved.mean(0)
        torch.testing.assert_close(mean[column, 1:], want / want.norm(dim=-1, keepdim=True), atol=1e-4, rtol=1e-3)
        far = torch.stack([torch.stack([(a - b).norm(dim=-1) for b in moved]).sum(0) for a in moved])
        want = moved.gather(0, far.argmin(0)[None, :, None].expand_as(moved))[0]
        torch.testing.assert_close(medoid[column, 1:], want / want.norm(dim=-1, keepdim=True), atol=1e-4, rtol=1e-3)
    assert (mean - medoid).abs().max() > 0.1


def test_swapped_runs_turn_directions_round_and_nothing_moved_is_zero():
    graph, clean, corrupt, _ = made("vit")
    torch.testing.assert_close(edge_directions(graph, clean, corrupt), -edge_directions(graph, corrupt, clean))
    corrupt = clean.clone()
    corrupt[:, :, :2, :2] += 1  # one patch
    directions = edge_directions(graph, clean, corrupt)
    assert directions[0].norm(dim=-1).tolist() == pytest.approx([0, 1, 0, 0, 0])


def test_an_empty_circuit():
    graph, clean, corrupt, _ = made("vit")
    with pytest.raises(ValueError, match="circuit is empty"):
        steered_logits(graph, graph.layout.circuit([]), clean, edge_directions(graph, clean, corrupt), alpha=1)
    other = EdgeGraph(graph._stream.model, granularity="qkv").layout.full
    with pytest.raises(ValueError, match="circuit must be of EdgeLayout"):
        steered_logits(graph, other, clean, edge_directions(graph, clean, corrupt), alpha=1)
