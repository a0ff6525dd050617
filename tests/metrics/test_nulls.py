"""A shuffled map has the same values, elsewhere."""

import pytest
import torch

from shared.metrics import reciprocal_rank, shuffled_relevance


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rows_keep_their_values_and_what_is_left_out_its_place():
    relevance, among = torch.randn(40, 7), torch.rand(40, 7, generator=seeded(1)) < 0.6
    mixed = shuffled_relevance(relevance, among=among, generator=seeded())
    assert torch.equal(mixed[~among], relevance[~among])
    assert not torch.equal(mixed[among], relevance[among])
    for row, values, chosen in zip(mixed, relevance, among):
        assert torch.equal(row[chosen].sort().values, values[chosen].sort().values)


def test_every_place_is_as_likely():
    relevance = torch.tensor([[5.0, 1.0, 0.0, 9.0]]).expand(6000, 4)
    among = torch.tensor([[True, True, True, False]]).expand(6000, 4)
    where = shuffled_relevance(relevance, among=among, generator=seeded())[:, :3].argmax(1).bincount() / 6000
    assert (where - 1 / 3).abs().max() < 0.03


def test_maps_of_images_and_what_ranks_see():
    maps = torch.rand(3, 4, 4)
    assert shuffled_relevance(maps, generator=seeded()).shape == maps.shape
    assert torch.equal(shuffled_relevance(maps, generator=seeded()), shuffled_relevance(maps, generator=seeded()))
    perfect = torch.eye(5)
    mixed = torch.stack([shuffled_relevance(perfect, generator=seeded(s)) for s in range(200)])
    ranks = torch.stack([reciprocal_rank(m, perfect.bool()) for m in mixed])
    assert abs(ranks.mean() - (1 + 4 / 3.5) / 5) < 0.03  # on top in one of five; else tied on ranks 2 to 5


def test_bad_shape():
    with pytest.raises(ValueError, match="among has shape"):
        shuffled_relevance(torch.rand(2, 3), among=torch.ones(2, 4, dtype=torch.bool), generator=seeded())
