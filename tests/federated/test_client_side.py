"""Clients' optimisers against torch's, and evaluation at the clients against the pooled data."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.federated import (
    ClientEvaluation,
    Clients,
    DaisyChain,
    FedProx,
    LocalTraining,
    Scaffold,
    Strategy,
    accuracy,
    cross_entropy,
    evaluate_states,
    simulate,
    state_of,
)
from tests.federated.test_simulate import close


def by_hand(net, inputs, targets, steps, make):
    net = copy.deepcopy(net)
    optimiser = make(net.parameters())
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        optimiser.step()
    return state_of(net)


@pytest.mark.parametrize("executor", ["vmap", "loop"])
@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"optimiser": "adam"}, lambda p: torch.optim.Adam(p, lr=0.01)),
        ({"optimiser": "adam", "weight_decay": 0.1}, lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
        ({"optimiser": "adamw", "weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        (
            {"optimiser": "adamw", "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.0},
            lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.0),
        ),
        ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    ],
    ids=["adam", "adam with decay", "adamw", "adamw with betas", "momentum"],  # no addresses: workers compare them
)
def test_a_client_s_optimiser_is_torch_s(net, clients, executor, options, make):
    one = clients.pooled()
    local = LocalTraining(lr=0.01, steps=7, **options)
    joined = one.parts[0]
    found = simulate(net, one, Strategy(), 1, local=local, executor=executor).params
    close(found, by_hand(net, clients.inputs[joined], clients.targets[joined], 7, make), atol=1e-4)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_many_clients_at_once_are_the_loop(net, digits, optimiser):
    parts = np.split(np.arange(60), [9, 30, 34])  # as many steps as their data make
    clients = Clients(*digits, parts)
    local = LocalTraining(lr=0.01, epochs=2, batch_size=4, optimiser=optimiser, proximal=0.1)
    one, other = (simulate(net, clients, Strategy(), 2, local=local, executor=e).params for e in ("vmap", "loop"))
    close(one, other, atol=1e-4)


def test_the_clients_own_pull_is_fedprox(net, clients):
    options = {"lr": 0.1, "steps": 5}
    asked = simulate(net, clients, Strategy(aggregator=FedProx(mu=0.3)), 3, local=LocalTraining(**options))
    own = simulate(net, clients, Strategy(), 3, local=LocalTraining(**options, proximal=0.3))
    half = simulate(net, clients, Strategy(aggregator=FedProx(mu=0.1)), 3, local=LocalTraining(**options, proximal=0.2))
    close(own.params, asked.params)
    close(half.params, asked.params)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"optimiser": "rmsprop"}, "optimiser"),
        ({"optimiser": "adam", "momentum": 0.9}, "momentum"),
        ({"optimiser": "adam", "betas": (0.9, 1.0)}, "betas"),
        ({"proximal": -1.0}, "proximal"),
    ],
)
def test_settings_that_don_t_fit_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        LocalTraining(lr=0.1, steps=1, **options)


def test_scaffold_takes_plain_sgd(net, clients):
    local = LocalTraining(lr=0.1, steps=1, optimiser="adam")
    with pytest.raises(ValueError, match=r"optimiser='adam'.*SCAFFOLD"):
        simulate(net, clients, Strategy(aggregator=Scaffold()), 1, local=local)


class Normed(nn.Module):
    """Looped: vmap takes no batch norm."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.norm(self.inner(x)))


@pytest.mark.parametrize("make", [None, Normed], ids=["vmap", "loop"])
def test_the_weighted_mean_over_clients_is_the_score_of_all_their_data(net, digits, make):
    model = net if make is None else make()
    held = Clients(*digits, [np.arange(5), np.array([], int), np.arange(5, 47), np.arange(47, 60)])
    trained = Clients(*digits, [np.arange(100, 120), np.arange(120, 128), np.arange(128, 160), np.arange(160, 190)])
    at = ClientEvaluation(model, accuracy, held, batch_size=7)
    pooled = evaluate_states(model, accuracy, digits[0][:60], digits[1][:60])
    local = LocalTraining(lr=0.05, steps=3, optimiser="adam")
    history = simulate(model, trained, Strategy(), 4, local=local, evaluate={"all": pooled}, on_clients={"own": at})
    assert history.executor == ("vmap" if make is None else "loop")
    assert history.weighted["own"] == pytest.approx(history.scores["all"], abs=1e-6)
    scores = np.stack(history.on_clients["own"])
    assert scores.shape == (4, 4)
    assert np.isnan(scores[:, 1]).all()
    assert np.isfinite(scores[:, [0, 2, 3]]).all()
    assert history.rounds == [1, 2, 3, 4]


def test_clients_that_keep_models_score_their_own(net, clients):
    at = ClientEvaluation(net, lambda o, t: cross_entropy(o, t).mean(), clients)
    strategy = DaisyChain(aggregate_every=10)
    history = simulate(net, clients, strategy, 3, local=LocalTraining(lr=0.1, steps=1), on_clients={"loss": at})
    own = at({key: value[2:3] for key, value in strategy.models.items()})[clients.filled[2]]
    assert history.on_clients["loss"][-1][clients.filled[2]] == pytest.approx(float(own), abs=1e-6)
    assert history.rounds == [1, 2, 3]


def test_as_many_models_as_clients_or_one(net, clients):
    two = {key: torch.stack([value] * 2) for key, value in state_of(net).items()}
    with pytest.raises(ValueError, match="states holds 2 models"):
        ClientEvaluation(net, accuracy, clients)(two)
