"""Subset sums against every subset; the layer they build against the wanted one."""

import itertools

import pytest
import torch

from shared.pruning import construct_layer, subset_sum


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_nearest_subset_is_that_of_brute_force(n):
    values, target = torch.rand(20, n, generator=seeded(n)) * 2 - 1, torch.randn(20, generator=seeded())
    chosen, error = subset_sum(values, target, batch_size=7)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    best = (values.double() @ every.T - target.double()[:, None]).abs().min(1).values
    torch.testing.assert_close(error, best)
    torch.testing.assert_close(((values.double() * chosen).sum(1) - target.double()).abs(), best)


def test_more_candidates_come_nearer():
    target = torch.rand(200, generator=seeded()) - 0.5
    errors = [subset_sum(torch.rand(200, n, generator=seeded(n)) * 2 - 1, target)[1].median() for n in (4, 8, 12, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 100


WEIGHT, BIAS = torch.rand(4, 3, generator=seeded(1)).double() - 0.5, torch.rand(4, generator=seeded(2)).double() - 0.5
X = torch.rand(50, 3, generator=seeded(3)).double() * 2 - 1


@pytest.mark.parametrize("pairing", ["independent", "looks-linear"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_construction_is_the_layer_to_its_errors(pairing, nonnegative):
    built = construct_layer(WEIGHT, BIAS, copies=24, pairing=pairing, nonnegative=nonnegative, generator=seeded())
    x = X.abs() if nonnegative else X
    off = (built.model(x) - (x @ WEIGHT.T + BIAS)).abs().max()
    assert off <= 4 * built.errors.max() + 1e-9  # three inputs in [-1, 1] and the bias, each within the worst error
    assert off < 0.1
    again = construct_layer(WEIGHT, BIAS, copies=24, pairing=pairing, nonnegative=nonnegative, generator=seeded())
    assert again.model[2].weight.equal(built.model[2].weight)


def test_looks_linear_needs_half_the_solutions():
    problems = {p: len(construct_layer(WEIGHT, BIAS, copies=8, pairing=p, generator=seeded()).errors) for p in PAIRED}
    assert problems == {"independent": 4 * (2 * 3 + 1), "looks-linear": 4 * (3 + 1)}


PAIRED = ("independent", "looks-linear")


@pytest.mark.parametrize("pairing", PAIRED)
def test_every_entry_is_a_random_one_or_pruned(pairing):
    """The kept hidden weights are single inputs', and nothing exceeds the draws' range."""
    built = construct_layer(WEIGHT, BIAS, copies=8, pairing=pairing, generator=seeded())
    first, second = built.model[0], built.model[2]
    assert ((first.weight != 0).sum(1) + (first.bias != 0) == 1).all()
    assert max(first.weight.abs().max(), second.weight.abs().max()) <= 1
    assert not second.bias.any()
    assert built.kept[0] < built.kept[1]


@pytest.mark.parametrize("changed", [{"copies": 7}, {"copies": 34}, {"copies": 0}, {"pairing": "orthogonal"}])
def test_construct_layer_refuses(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        construct_layer(WEIGHT, BIAS, **{"copies": 8, **changed})


def test_too_many_candidates():
    with pytest.raises(ValueError, match="values has 40"):
        subset_sum(torch.rand(1, 40), torch.rand(1))
