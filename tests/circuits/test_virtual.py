"""Virtual neurons: splits of known parts, distances by hand and against numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import nn

from shared.circuits import Purity, VirtualNeurons, distance_correlation, intra_inter, virtual_neurons
from shared.lrp import Composite, attribute, channel_relevance
from shared.nets import ResidualBlock


def two_groups(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(n) % 2
    means = torch.tensor([[0.6, -0.4, 0, 0], [0, 0, 0.5, 0.5]])
    return means[truth] + 0.02 * torch.randn(n, 4, generator=generator), truth


def circuits(block: nn.Module, hidden: torch.Tensor, unit: int) -> torch.Tensor:
    options = {"start_layer": "0", "init": "coefficient", "composite": Composite([])}
    return channel_relevance(attribute(nn.Sequential(block).eval(), hidden, unit, **options).relevance)


def test_circuits_of_a_linear_unit_are_its_contributions():
    torch.manual_seed(0)
    layer, hidden = nn.Conv2d(4, 3, 1, bias=False), torch.rand(6, 4, 3, 3)
    layer.weight.data[2, :, 0, 0] = torch.tensor([1.0, -0.5, 2.0, 0.3])
    contributions = layer.weight[2, :, 0, 0].detach()[:, None, None] * hidden
    fires = contributions.sum(1).clamp(min=0)
    want = (contributions * fires[:, None]).sum((2, 3))
    want = want / want.abs().sum(1, keepdim=True)
    assert torch.allclose(circuits(layer, hidden, 2), want, atol=1e-6)
    moved = hidden.flatten(2)[:, :, torch.randperm(9)].view_as(hidden)
    assert torch.allclose(circuits(layer, moved, 2), want, atol=1e-6)


def test_circuits_go_through_both_ways_of_a_residual_block_and_ignore_the_scale_without_biases():
    torch.manual_seed(1)
    block, hidden = ResidualBlock(4, 4, 1).eval(), torch.rand(5, 4, 6, 6)
    leaf = hidden.clone().requires_grad_(True)
    a = block(leaf)[:, 1]
    (c,) = torch.autograd.grad(a, leaf, a.detach())
    want = (hidden * c).sum((2, 3))
    found = circuits(block, hidden, 1)
    assert torch.allclose(found, want / want.abs().sum(1, keepdim=True), atol=1e-5)
    assert torch.allclose(found.abs().sum(1), torch.ones(5), atol=1e-6)
    assert torch.allclose(circuits(block, 3 * hidden, 1), found, atol=1e-4)


def test_disjoint_circuits_are_told_apart():
    vectors, truth = two_groups()
    assert adjusted_rand_score(truth, virtual_neurons(vectors).labels) == 1.0


def test_the_same_seed_gives_the_same_labels_and_references_are_assigned_to_their_own():
    vectors = torch.rand(40, 6, generator=torch.Generator().manual_seed(1))
    first, again = virtual_neurons(vectors, k=4), virtual_neurons(vectors, k=4)
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(first.assign(vectors), first.labels)
    assert first.centroids.dtype == vectors.dtype


def test_centroids_are_means_of_their_references():
    vectors, _ = two_groups()
    found = virtual_neurons(vectors)
    for number, centroid in enumerate(found.centroids):
        assert torch.allclose(centroid, vectors[found.labels == number].mean(0), atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3, 3)])
def test_virtual_activations_add_up_to_the_units(shape):
    vectors, _ = two_groups()
    activations = torch.rand(20, *shape)
    parts = virtual_neurons(vectors, k=3).split(activations, vectors)
    assert parts.shape == (20, 3, *shape)
    assert torch.equal(parts.sum(1), activations)
    assert ((parts != 0).flatten(2).any(2) if shape else parts != 0).sum(1).max() == 1


def test_one_circuit_does_not_fall_into_parts():
    generator = torch.Generator().manual_seed(2)
    vectors = torch.tensor([0.5, 0.3, 0.2, 0.1]).repeat(60, 1) + 0.05 * torch.randn(60, 4, generator=generator)
    assert silhouette_score(vectors, virtual_neurons(vectors).labels) < 0.35


def test_intra_and_inter_by_hand():
    distances = torch.tensor([[0.0, 1, 4, 5], [1, 0, 6, 7], [4, 6, 0, 2], [5, 7, 2, 0]])
    assert intra_inter(distances, torch.tensor([0, 0, 1, 1])) == Purity(1.5, 5.5)
    assert intra_inter(distances, torch.tensor([0, 0, 1, 1])).gap == 4
    assert intra_inter(distances, torch.tensor([0, 0, 0, 2])) == Purity(11 / 3, 14 / 3)
    mean = 25 / 6
    assert intra_inter(distances, torch.zeros(4)) == Purity(mean, mean)
    assert intra_inter(distances, torch.arange(4)) == Purity(mean, mean)


def test_a_random_split_has_no_gap_on_average():
    generator, points = torch.Generator().manual_seed(3), torch.rand(30, 5, generator=torch.Generator().manual_seed(4))
    distances = torch.cdist(points, points)
    gaps = [intra_inter(distances, torch.randperm(30, generator=generator) % 2).gap for _ in range(400)]
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / 20


def test_distance_correlation_is_pearsons_over_pairs():
    one, other = (torch.rand(9, 3, generator=torch.Generator().manual_seed(s)) for s in (5, 6))
    first, second = torch.cdist(one, one), torch.cdist(other, other)
    upper = np.triu_indices(9, 1)
    want = np.corrcoef(first.numpy()[upper], second.numpy()[upper])[0, 1]
    assert distance_correlation(first, second) == pytest.approx(want, abs=1e-9)
    assert distance_correlation(first, 3 * first) == pytest.approx(1)


def test_the_same_picture_twice_does_not_count():
    points = torch.rand(8, 3, generator=torch.Generator().manual_seed(7))
    twice = torch.cat([points, points[:1]])
    first, second = torch.cdist(twice, twice), torch.cdist(twice**2, twice**2)
    first[0, 8] = first[8, 0] = second[0, 8] = second[8, 0] = 0
    apart = np.ones((9, 9), bool)
    apart[0, 8] = False
    upper = np.triu(apart, 1)
    want = np.corrcoef(first.numpy()[upper], second.numpy()[upper])[0, 1]
    assert distance_correlation(first, second) == pytest.approx(want, abs=1e-9)


def test_units_that_cannot_be_split_are_refused():
    vectors, _ = two_groups()
    with pytest.raises(ValueError, match=r"k=3 virtual neurons of 2 references"):
        virtual_neurons(vectors[:2], k=3)
    with pytest.raises(ValueError, match=r"k=2 .* of 5 references \(1 different\)"):
        virtual_neurons(vectors[:1].repeat(5, 1))
    with pytest.raises(ValueError, match="never fires"):
        virtual_neurons(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="vectors has 1 rows of zeros of 20"):
        virtual_neurons(vectors.index_fill(0, torch.tensor([4]), 0))


def test_bad_arguments_are_named():
    vectors, _ = two_groups()
    found = virtual_neurons(vectors)
    distances = torch.cdist(vectors, vectors)
    with pytest.raises(ValueError, match="vectors"):
        found.assign(vectors[:, :3])
    with pytest.raises(ValueError, match="activations"):
        found.split(torch.rand(3), vectors)
    with pytest.raises(ValueError, match="distances must be distances"):
        intra_inter(-distances, found.labels)
    with pytest.raises(ValueError, match="second holds equal distances"):
        distance_correlation(distances, torch.ones_like(distances))
    with pytest.raises(ValueError, match="k=0"):
        virtual_neurons(vectors, k=0)


def test_a_hand_made_split_is_one_too():
    hand = VirtualNeurons(torch.tensor([0, 1]), torch.tensor([[1.0, 0], [0, 1]]))
    assert hand.assign(torch.tensor([[0.9, 0.2], [0.1, 0.3]])).tolist() == [0, 1]
