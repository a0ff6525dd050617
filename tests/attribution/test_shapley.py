"""Sampled Shapley values: exact on few features, additive, for several outputs and any batch size."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from shared.attribution import shapley_values


def game(x):
    """An interaction of three features and a lonely one."""
    return x[:, 0] * x[:, 1] + x[:, 0] * x[:, 1] * x[:, 2] + 2 * x[:, 3]


def exact(function, x, baseline):
    """By all orders."""
    d = x.shape[1]
    total = torch.zeros_like(x)
    for order in itertools.permutations(range(d)):
        z, before = baseline.clone(), function(baseline)
        for i in order:
            z[:, i] = x[:, i]
            total[:, i] += function(z) - before
            before = function(z)
    return total / math.factorial(d)


def test_many_permutations_approach_the_exact_values():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 0.0]], dtype=torch.float64)
    baseline = torch.tensor([0.1, 0.2, 0.0, -1.0], dtype=torch.float64)
    found = shapley_values(game, x, permutations=4000, baseline=baseline, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found, exact(game, x, baseline.expand(x.shape).clone()), atol=0.15)
    assert torch.allclose(found[:, 3], 2 * (x[:, 3] + 1))
    assert torch.allclose(found.sum(1), game(x) - game(baseline[None]))


def test_several_outputs_shapes_and_batches():
    x = torch.rand(3, 2, 2, dtype=torch.float64)

    def both(z):
        flat = z.flatten(1)
        return torch.stack([game(flat), flat.sum(1)], 1)

    def run(function, **options):
        return shapley_values(function, x, permutations=3, generator=torch.Generator().manual_seed(1), **options)

    found = run(both)
    assert found.shape == (3, 2, 2, 2)
    assert torch.allclose(found[:, 1], x)
    assert torch.allclose(run(lambda z: game(z.flatten(1))), found[:, 0])
    assert torch.equal(run(both, batch_size=4), found)


def test_bad_input_is_named():
    x = torch.rand(2, 3)
    with pytest.raises(ValueError, match="permutations=0 is out of range"):
        shapley_values(lambda z: z.sum(1), x, permutations=0)
    with pytest.raises(ValueError, match="baseline of shape"):
        shapley_values(lambda z: z.sum(1), x, baseline=torch.zeros(4))
    with pytest.raises(ValueError, match="x has shape"):
        shapley_values(lambda z: z, torch.rand(3))
