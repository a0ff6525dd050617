"""Randomisation checks: rank correlation against scipy, which layers change, invariants, and bad input."""

import copy

import pytest
import torch
from torch import nn

from shared.metrics import parameter_randomisation, random_logit, randomised_models, rank_correlation


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()


def changed_layers(model, other):
    before = model.state_dict()
    return {
        name.rpartition(".")[0] for name, value in other.state_dict().items() if not torch.equal(value, before[name])
    }


def test_rank_correlation_equals_scipy_with_and_without_ties():
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(6, 2, 5, 5, generator=generator)
    second = torch.randint(0, 4, (6, 2, 5, 5), generator=generator).float()
    want = [stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second)]
    assert rank_correlation(first, second).tolist() == pytest.approx(want, abs=1e-12)


def test_rank_correlation_of_the_same_the_reverse_and_a_constant():
    maps = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(maps, maps.exp()).tolist() == pytest.approx([1, 1, 1])
    assert rank_correlation(maps, -maps).tolist() == pytest.approx([-1, -1, -1])
    assert rank_correlation(maps, torch.ones(3, 8)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("order", "want"),
    [
        ("top_down", [{"4"}, {"4", "1"}, {"4", "1", "0"}]),
        ("bottom_up", [{"0"}, {"0", "1"}, {"0", "1", "4"}]),
        ("independent", [{"0"}, {"1"}, {"4"}]),
    ],
)
def test_which_layers_are_randomised(model, order, want):
    with torch.no_grad():
        model[1].weight.fill_(2.0)  # away from its initial value, so that a reset shows
    before = copy.deepcopy(model.state_dict())
    seen = [(name, changed_layers(model, net)) for name, net in randomised_models(model, order)]
    expected = ["4", "1", "0"] if order == "top_down" else ["0", "1", "4"]
    assert [name for name, _ in seen] == expected
    assert [changed for _, changed in seen] == want
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_generator_gives_the_same_networks_and_the_global_one_is_left_alone(model):
    state = torch.get_rng_state()
    first, second, other = (
        [
            copy.deepcopy(net.state_dict())
            for _, net in randomised_models(model, generator=torch.Generator().manual_seed(s))
        ]
        for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second) for name in a)
    assert not torch.equal(first[0]["4.weight"], other[0]["4.weight"])


def test_a_map_that_ignores_the_network_stays_and_one_that_reads_it_changes(model):
    x = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def gradient(net):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)[0] * x

    generator = torch.Generator().manual_seed(3)
    edges = parameter_randomisation(lambda net: x, model, generator=generator)
    assert all(score.tolist() == pytest.approx([1] * 4) for score in edges.values())
    read = parameter_randomisation(gradient, model, generator=generator)
    assert all((score < 0.999).all() for score in read.values())
    signed = parameter_randomisation(gradient, model, generator=torch.Generator().manual_seed(3), absolute=False)
    assert not torch.equal(signed["4"], read["4"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rank_correlation(torch.zeros(2, 3), torch.zeros(2, 4)), "second"),
        (lambda: rank_correlation(torch.zeros(2), torch.zeros(2)), "one map per row"),
        (lambda: rank_correlation(torch.full((2, 3), torch.nan), torch.zeros(2, 3)), "NaN"),
        (lambda: next(randomised_models(nn.Linear(1, 1), "topdown")), "top_down"),
        (lambda: next(randomised_models(nn.ReLU())), "reset_parameters"),
        (lambda: random_logit(lambda t: t, torch.zeros(2, 2), 3), "target"),
        (lambda: random_logit(lambda t: t, torch.tensor([0, 3]), 3), "0 to 2"),
        (lambda: random_logit(lambda t: t, torch.tensor([0, 0]), 1), "n_classes"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
