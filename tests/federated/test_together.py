"""Federations side by side, and what isn't an update: running statistics, frozen weights, tied weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.federated import (
    Clients,
    ClusterSelector,
    DaisyChain,
    DPFedAvg,
    EntropySelector,
    FedAvg,
    FedAvgM,
    Federation,
    FedLC,
    FedOpt,
    FedProx,
    LocalTraining,
    Scaffold,
    Strategy,
    accuracy,
    evaluate_states,
    label_counts,
    partition_dirichlet,
    partition_tiny,
    simulate,
    simulate_many,
    stack_states,
    state_of,
)

ONE = LocalTraining(lr=0.2, steps=1)
AGGREGATORS = [FedAvgM(lr=1.5), FedOpt(), FedOpt(variant="yogi"), Scaffold(lr=1.5), DPFedAvg(1.0, 0.5)]


def close(first: dict, second: dict, atol: float = 1e-5) -> None:
    assert first.keys() == second.keys()
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=atol)


@pytest.fixture
def small(digits) -> Clients:
    """Inputs of scale 0.1, where steps of the server are large beside running variances."""
    x, y = digits
    return Clients(0.1 * x, y, partition_tiny(500, 5, 8, generator=np.random.default_rng(0)))


def norm_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 10))


@pytest.mark.parametrize("local", [ONE, LocalTraining(lr=0.1, epochs=2, batch_size=4, momentum=0.9, noise=0.01)])
def test_side_by_side_as_one_after_another(digits, local):
    """Other seeds, aggregators, selectors, dropout, hostile clients and data, each as `simulate` alone gives it."""

    def federations() -> list[Federation]:
        found = []
        for seed in (0, 1):
            rng = np.random.default_rng(seed)
            parts = partition_dirichlet(digits[1].numpy()[:300], 8, 0.3, generator=rng)
            clients = Clients(digits[0] * (1 + seed), digits[1], parts)
            counts = label_counts(digits[1].numpy()[:300], parts, classes=10)
            net = nn.Sequential(nn.Linear(64, 10))
            nn.init.constant_(net[0].weight, 0.01 * seed)
            nn.init.zeros_(net[0].bias)
            score = {"test": evaluate_states(net, accuracy, digits[0][300:], digits[1][300:])}
            selector = EntropySelector(counts, buffer=2)
            chain = DaisyChain(daisy_every=1, aggregate_every=2, random_state=seed)
            found += [
                Federation(net, clients, Strategy(selector=selector, per_round=3), seed, score),
                Federation(net, clients, Strategy(aggregator=FedProx(mu=0.3), per_round=3), seed, score, dropout=0.5),
                Federation(net, clients, Strategy(aggregator=FedLC(tau=0.5)), seed, score, dropout=1.0),
                Federation(net, clients, chain, seed, score),
                Federation(net, clients, Strategy(aggregator=FedLC(tau=0.5), per_round=4), seed),
            ]
        return found

    together = simulate_many(federations(), 4, local=local, evaluate_every=2, score_clients=True)
    for one, beside in zip(federations(), together):
        alone = simulate(
            one.model,
            one.clients,
            one.strategy,
            4,
            local=local,
            random_state=one.random_state,
            evaluate=one.evaluate,
            evaluate_every=2,
            score_clients=True,
            dropout=one.dropout,
        )
        close(beside.params, alone.params)
        assert (beside.selected, beside.reported) == (alone.selected, alone.reported)
        assert (beside.rounds, beside.transfers) == (alone.rounds, alone.transfers)
        for key, values in alone.scores.items():
            np.testing.assert_allclose(beside.scores[key], values, atol=5e-3)
        assert {k: np.shape(v) for k, v in beside.client_scores.items()} == {
            k: np.shape(v) for k, v in alone.client_scores.items()
        }


def test_scaffold_beside_fedavg(net, clients):
    one = [Federation(net, clients, Strategy(aggregator=make())) for make in (Scaffold, FedAvg)]
    together = simulate_many(one, 3, local=LocalTraining(lr=0.1, steps=2))
    for made, beside in zip((Scaffold, FedAvg), together):
        alone = simulate(net, clients, Strategy(aggregator=made()), 3, local=LocalTraining(lr=0.1, steps=2))
        close(beside.params, alone.params)


def test_what_cannot_run_side_by_side(net, clients):
    shared = Strategy()
    with pytest.raises(ValueError, match="share a strategy"):
        simulate_many([Federation(net, clients, shared)] * 2, 1, local=ONE)
    other = Federation(nn.Sequential(nn.Linear(64, 10)), clients, Strategy())
    with pytest.raises(ValueError, match=r"federations\[1\].model"):
        simulate_many([Federation(net, clients, shared), other], 1, local=ONE)
    with pytest.raises(ValueError, match="federations is empty"):
        simulate_many([], 1, local=ONE)


def test_fedlc_by_hand(net, digits):
    """Two steps of one client from the definition: margins, and the softmax over the classes that it has."""
    x, y = digits
    mine = np.flatnonzero(np.isin(y.numpy(), (2, 5, 7)))[:17]
    counts = torch.bincount(y[mine], minlength=10).float()
    has = torch.nonzero(counts).flatten()
    model = copy.deepcopy(net)
    for _ in range(2):
        model.zero_grad()
        logits = (model(x[mine]) - 0.7 * counts**-0.25)[:, has]
        target = torch.tensor([has.tolist().index(label) for label in y[mine].tolist()])
        (-logits.gather(1, target[:, None])[:, 0] + logits.exp().sum(1).log()).mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.2 * p.grad
    for executor in ("vmap", "loop"):
        run = simulate(
            net,
            Clients(x, y, [mine]),
            Strategy(aggregator=FedLC(tau=0.7)),
            1,
            local=LocalTraining(lr=0.2, steps=2),
            executor=executor,
        )
        close(run.params, state_of(model), atol=1e-6)
    with pytest.raises(ValueError, match="tau=0"):
        FedLC(tau=0)


# --- what isn't an update ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda a: type(a).__name__)
@pytest.mark.filterwarnings("ignore:.*averaged without clipping")
def test_running_statistics_are_averaged_by_every_aggregator(small, aggregator):
    """Server steps, moments, clipping and noise are for weights; statistics are those of FedAvg's first round."""
    net = norm_net()
    plain = simulate(net, small, Strategy(aggregator=FedAvg(weighted=False)), 1, local=ONE).params
    once = simulate(net, small, Strategy(aggregator=aggregator), 1, local=ONE).params
    for key in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        torch.testing.assert_close(once[key], plain[key], rtol=0, atol=1e-7)
    assert not torch.allclose(once["0.weight"], plain["0.weight"], atol=1e-4)
    many = simulate(net, small, Strategy(aggregator=aggregator), 12, local=ONE).params
    assert (many["1.running_var"] > 0).all()
    model = norm_net()
    model.load_state_dict(many)
    assert torch.isfinite(model.eval()(small.inputs)).all()


@pytest.mark.parametrize("aggregator", [FedAvg(), FedProx(), *AGGREGATORS], ids=lambda a: type(a).__name__)
def test_frozen_weights_stay_bit_for_bit(net, clients, aggregator):
    net[0].requires_grad_(False)
    run = simulate(net, clients, Strategy(aggregator=aggregator), 7, local=ONE)
    assert torch.equal(run.params["0.weight"], net[0].weight)
    assert not torch.equal(run.params["2.weight"], net[2].weight)
    local = LocalTraining(lr=0.1, steps=1, clip=0.5, noise=0.1)
    assert torch.equal(simulate(net, clients, Strategy(), 3, local=local).params["0.bias"], net[0].bias)


def test_noise_and_clipping_are_for_trained_weights(small):
    """Central: 0.5 · 1 / 5 in every trained weight, none in the statistics, and a warning that names them."""
    net, still = norm_net(), LocalTraining(lr=0.0, steps=1)
    with pytest.warns(UserWarning, match="1.running_mean, 1.running_var are averaged without clipping or noise"):
        run = simulate(net, small, Strategy(aggregator=DPFedAvg(1.0, 0.5)), 1, local=still)
    start = state_of(net)
    change = torch.cat([(run.params[k] - start[k]).flatten() for k, _ in net.named_parameters()])
    assert change.std().item() == pytest.approx(0.1, rel=0.15)
    with pytest.warns(UserWarning, match="1.running_mean"):
        simulate(net, small, Strategy(), 1, local=LocalTraining(lr=0.1, steps=1, clip=1.0))


class Tied(nn.Module):
    """An encoder whose transposed weight decodes, under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.second(torch.tanh(self.first(x))))


@pytest.mark.parametrize("executor", ["vmap", "loop"])
def test_tied_weights_are_one_weight(clients, executor):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tied()
    central = copy.deepcopy(model)
    joined = np.concatenate(clients.parts)
    optimizer = torch.optim.SGD(central.parameters(), lr=0.2)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(central(clients.inputs[joined]), clients.targets[joined]).backward()
        optimizer.step()
    run = simulate(model, clients, Strategy(), 3, local=ONE, executor=executor)
    close(run.params, dict(central.state_dict()), atol=1e-6)
    assert run.transfers == 2 * 3 * 6
    copy.deepcopy(model).load_state_dict(run.params)
    noisy = simulate(model, clients, Strategy(aggregator=DPFedAvg(1.0, 0.5)), 2, local=ONE, executor=executor).params
    assert torch.equal(noisy["first.weight"], noisy["second.weight"])
    score = evaluate_states(model, accuracy, clients.inputs, clients.targets)
    expected = (central(clients.inputs).argmax(1) == clients.targets).float().mean().item()
    assert score(stack_states([run.params, dict(central.state_dict())])).tolist() == pytest.approx([expected] * 2)


# --- models that can't be batched --------------------------------------------------------------------------------


class Reader(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.head = kind(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.body(x.unflatten(1, (8, 8)))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_models_train_and_are_scored(clients, kind):
    model = Reader(kind)
    run = simulate(
        model,
        clients,
        Strategy(aggregate_every=9),
        2,
        local=ONE,
        evaluate={"all": evaluate_states(model, accuracy, clients.inputs, clients.targets)},
        score_clients=True,
    )
    assert run.executor == "loop"
    model.load_state_dict(run.params)
    expected = (model(clients.inputs).argmax(1) == clients.targets).float().mean().item()
    assert run.scores["all"][-1] == pytest.approx(expected)
    assert run.client_scores["all"][-1].shape == (6,)


def test_batch_norm_never_sees_padding(digits):
    """Without running statistics too: ragged clients, each as torch alone would step it."""
    net = nn.Sequential(nn.Linear(64, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 10))
    parts = [np.arange(4), np.arange(4, 14)]
    run = simulate(net, Clients(*digits, parts), Strategy(aggregator=FedAvg(weighted=False)), 1, local=ONE)
    after = []
    for part in parts:
        model = copy.deepcopy(net)
        nn.functional.cross_entropy(model(digits[0][part]), digits[1][part]).backward()
        after.append({k: (p - 0.2 * p.grad).detach() for k, p in model.named_parameters()})
    close(run.params, {k: (after[0][k] + after[1][k]) / 2 for k in after[0]}, atol=1e-6)


def test_batch_norm_and_a_last_batch_of_one(digits):
    clients = Clients(*digits, [np.arange(8), np.arange(8, 17)])
    with pytest.raises(ValueError, match="batch_size=4 leaves client 1 a batch of one example"):
        simulate(norm_net(), clients, Strategy(), 1, local=LocalTraining(lr=0.1, epochs=1, batch_size=4))
    simulate(norm_net(), clients, Strategy(), 1, local=LocalTraining(lr=0.1, epochs=1, batch_size=3))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("mat1 and mat2")])
def test_only_a_refusal_of_vmap_falls_back(clients, error):
    class Failing(nn.Linear):
        def forward(self, x):
            raise error

    model = nn.Sequential(Failing(64, 10))
    with pytest.raises(RuntimeError, match=str(error)):
        simulate(model, clients, Strategy(), 1, local=ONE)
    with pytest.raises(RuntimeError, match=str(error)):
        evaluate_states(model, accuracy, clients.inputs, clients.targets)(stack_states([state_of(model)]))


def test_scores_within_a_bound_of_memory(digits):
    """Never more outputs of layers at a time than allowed, models and examples together."""
    seen = []

    class Counting(nn.Linear):
        def forward(self, x):
            seen.append(x.shape[0])
            return super().forward(x)

    model = nn.Sequential(Counting(64, 100), nn.ReLU(), nn.Linear(100, 10))
    states = stack_states([state_of(nn.Sequential(Counting(64, 100), nn.ReLU(), nn.Linear(100, 10)))] * 7)
    whole = evaluate_states(model, accuracy, *digits)(states)
    seen.clear()
    bounded = evaluate_states(model, accuracy, *digits, memory=210 * 4 * 50)(states)  # 50 examples of one model
    torch.testing.assert_close(bounded, whole)
    assert max(seen) == 50
    assert sum(seen) == 1 + 7 * len(digits[0])


def test_clusters_and_histories_name_their_executor(net, clients):
    counts = label_counts(clients.targets.numpy(), clients.parts, classes=10)
    strategy = Strategy(selector=ClusterSelector(counts), per_round=3)
    assert simulate_many([Federation(net, clients, strategy)], 1, local=ONE)[0].executor == "vmap"
