"""Simulated gene regulation: Hill curves, logic, and priors that err."""

import pytest
import torch

from shared.worlds import hill, permute_prior, regulation_world, relocate_edges


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def edges(genes: int = 20, seed: int = 0) -> torch.Tensor:
    draw = torch.rand(genes, genes, generator=generator(seed))
    signs = torch.where(torch.rand(genes, genes, generator=generator(seed + 1)) < 0.3, -1.0, 1.0)
    return torch.where(draw < 0.1, signs, 0.0).fill_diagonal_(0)


def test_hill_has_its_three_points():
    ec50, n = torch.tensor([0.4, 0.6]), torch.tensor([1.8, 1.39])
    for x, want in ((torch.zeros(2), 0.0), (ec50, 0.5), (torch.ones(2), 1.0)):
        torch.testing.assert_close(hill(x, ec50, n), torch.full((2,), want))


def test_hill_refuses_a_half_too_late():
    with pytest.raises(ValueError, match="ec50"):
        hill(torch.ones(1), torch.tensor([0.9]), torch.tensor([1.4]))


def test_targets_go_where_their_regulators_say():
    truth = torch.zeros(4, 4)
    truth[0, 1], truth[0, 2] = 1, -1  # gene 3 stands alone
    world = regulation_world(truth, n_paths=30, n_times=14, noise=0.0, generator=generator())
    assert world.x.shape == (30, 14, 4)
    assert torch.equal(world.x, world.clean)
    inputs = world.x[..., [0, 3]]
    assert (inputs == inputs[:, :1]).all()  # constant in time
    order = world.x[:, -1, 0].argsort()
    assert (world.x[order, -1, 1].diff() >= -1e-3).all()  # activated: rises with its regulator
    assert (world.x[order, -1, 2].diff() <= 1e-3).all()  # repressed: falls


def test_noise_is_of_its_size_and_the_same_seed_gives_the_same_world():
    world = regulation_world(edges(), noise=0.05, generator=generator())
    assert (world.x - world.clean).std() == pytest.approx(0.05, rel=0.02)
    again = regulation_world(edges(), noise=0.05, generator=generator())
    assert torch.equal(world.x, again.x)
    assert world.clean.min() >= -1e-6
    assert world.clean.max() <= 1 + 1e-6


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_relocated_edges(share):
    prior = edges()
    moved = relocate_edges(prior, share, generator=generator())
    count = int((prior != 0).sum())
    assert (moved != 0).sum() == count
    assert ((prior != 0) & (moved != 0)).sum() == count - round(share * count)
    assert moved.sum() == prior.sum()  # signs are kept
    assert (moved.diagonal() == 0).all()


def test_a_permuted_prior_keeps_every_degree_and_hardly_an_edge():
    prior = edges(40)
    null = permute_prior(prior, generator=generator())
    for axis in (0, 1):
        assert torch.equal((null != 0).sum(axis), (prior != 0).sum(axis))
    assert torch.equal(null.sum(1), prior.sum(1))
    assert ((null != 0) & (prior != 0)).sum() < 0.4 * (prior != 0).sum()


@pytest.mark.parametrize("call", [permute_prior, lambda p, **g: relocate_edges(p, 0.1, **g), regulation_world])
def test_bad_edges(call):
    with pytest.raises(ValueError, match="expected \\(genes, genes\\)"):
        call(torch.zeros(3, 5), generator=generator())
    with pytest.raises(ValueError, match="-1, 0 and 1"):
        call(torch.full((3, 3), 0.5), generator=generator())


def test_a_turned_prior_is_relocated_too():
    moved = relocate_edges(edges().T, 0.4, generator=generator())
    assert (moved != 0).sum() == (edges() != 0).sum()


@pytest.mark.parametrize("bad", [{"substeps": 0}, {"n_paths": 0}, {"n_times": 1}, {"noise": -0.1}])
def test_numbers_below_their_least_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        regulation_world(edges(), generator=generator(), **bad)
