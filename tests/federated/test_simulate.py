"""The simulation against central training, slow re-implementations, its own loop, and faults."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.federated import (
    Clients,
    DaisyChain,
    FedAvg,
    FedAvgM,
    FedOpt,
    FedProx,
    LocalTraining,
    Scaffold,
    Strategy,
    Update,
    accuracy,
    evaluate_states,
    gather_updates,
    partition_tiny,
    simulate,
    state_of,
    visited_clients,
)

ONE = LocalTraining(lr=0.2, steps=1)


def close(first: dict, second: dict, atol: float = 1e-5) -> None:
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=atol)


def equal(first: dict, second: dict) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def sgd_by_hand(net, inputs, targets, steps, lr, **options):
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        optimizer.step()
    return state_of(net)


def test_fedavg_with_one_full_batch_step_is_central_gradient_descent(net, clients):
    joined = np.concatenate(clients.parts)
    central = sgd_by_hand(net, clients.inputs[joined], clients.targets[joined], 15, 0.2)
    close(simulate(net, clients, Strategy(), 15, local=ONE).params, central)
    close(simulate(net, clients.pooled(), Strategy(), 15, local=ONE).params, central)
    assert not equal(simulate(net, clients, Strategy(aggregate_every=15), 15, local=ONE).params, central)


def test_local_steps_are_torch_sgd(net, clients):
    local = LocalTraining(lr=0.1, steps=4, momentum=0.9, weight_decay=0.01)
    one = Clients(clients.inputs, clients.targets, clients.parts[:1])
    by_hand = sgd_by_hand(
        net,
        clients.inputs[clients.parts[0]],
        clients.targets[clients.parts[0]],
        4,
        0.1,
        momentum=0.9,
        weight_decay=0.01,
    )
    close(simulate(net, one, Strategy(), 1, local=local).params, by_hand)


@pytest.mark.parametrize(
    "local",
    [
        ONE,
        LocalTraining(lr=0.1, epochs=3, batch_size=4),
        LocalTraining(lr=0.1, epochs=3, batch_size=4, momentum=0.9),
        LocalTraining(lr=0.1, steps=5, batch_size=3, weight_decay=0.01, lr_decay=0.5, lr_decay_every=2),
        LocalTraining(lr=0.1, epochs=2, batch_size=4, clip=0.05, noise=0.01),
    ],
)
@pytest.mark.parametrize("aggregator", [FedAvg(), FedProx(mu=0.3), Scaffold(), FedOpt()])
def test_the_batched_computation_agrees_with_the_loop(net, digits, local, aggregator):
    rng = np.random.default_rng(4)
    parts = np.split(rng.permutation(60), [3, 10, 11, 30, 44])  # ragged clients
    clients = Clients(*digits, parts)
    if local.momentum and isinstance(aggregator, Scaffold):
        with pytest.raises(ValueError, match="momentum"):
            simulate(net, clients, Strategy(aggregator=aggregator), 1, local=local)
        return
    runs = [
        simulate(net, clients, Strategy(aggregator=aggregator, per_round=4), 4, local=local, executor=executor)
        for executor in ("vmap", "loop")
    ]
    assert [run.executor for run in runs] == ["vmap", "loop"]
    close(runs[0].params, runs[1].params)
    assert runs[0].selected == runs[1].selected


def test_convolutions_run_batched(digits):
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )
    clients = Clients(*digits, partition_tiny(500, 5, 6, generator=np.random.default_rng(0)))
    batched, looped = (simulate(net, clients, Strategy(), 3, local=ONE, executor=e) for e in ("auto", "loop"))
    assert batched.executor == "vmap"
    close(batched.params, looped.params)


def test_running_statistics_fall_back_to_the_loop_and_are_averaged(digits):
    net = nn.Sequential(nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Linear(6, 10))
    clients = Clients(*digits, partition_tiny(500, 4, 6, generator=np.random.default_rng(0)))
    run = simulate(net, clients, Strategy(), 1, local=ONE)
    assert run.executor == "loop"
    hidden = torch.stack([net[0](clients.inputs[part]).mean(0) for part in clients.parts])
    torch.testing.assert_close(run.params["1.running_mean"], 0.1 * hidden.mean(0).detach(), rtol=0, atol=1e-6)
    assert run.params["1.num_batches_tracked"] == 1
    with pytest.raises(ValueError, match="executor='vmap'"):
        simulate(net, clients, Strategy(), 1, local=ONE, executor="vmap")


def test_dropout_layers_are_reproducible_and_leave_the_global_generator_alone(digits):
    net = nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))
    clients = Clients(*digits, partition_tiny(500, 4, 6, generator=np.random.default_rng(0)))
    before = torch.get_rng_state()
    first, second = (simulate(net, clients, Strategy(), 2, local=ONE) for _ in range(2))
    assert equal(first.params, second.params)
    assert torch.equal(before, torch.get_rng_state())


def test_models_that_vmap_refuses_fall_back(digits):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return self.linear(x) if x.sum() > 0 else -self.linear(x)

    clients = Clients(*digits, partition_tiny(500, 3, 6, generator=np.random.default_rng(0)))
    assert simulate(Branching(), clients, Strategy(), 1, local=ONE).executor == "loop"
    with pytest.raises(RuntimeError):
        simulate(Branching(), clients, Strategy(), 1, local=ONE, executor="vmap")


def test_same_seed_same_bits_other_seed_other_run(net, clients):
    local = LocalTraining(lr=0.1, epochs=2, batch_size=3, noise=0.01)
    runs = [
        simulate(net, clients, Strategy(per_round=3, random_state=s), 3, local=local, random_state=s, executor="loop")
        for s in (5, 5, 6)
    ]
    assert equal(runs[0].params, runs[1].params)
    assert runs[0].selected == runs[1].selected
    assert not equal(runs[0].params, runs[2].params)


def test_limits_that_are_fedavg(net, clients):
    local = LocalTraining(lr=0.2, steps=3)
    reference = simulate(net, clients, Strategy(aggregator=FedAvg(weighted=False)), 5, local=local)
    assert equal(
        simulate(net, clients, Strategy(aggregator=FedProx(mu=0.0, weighted=False)), 5, local=local).params,
        reference.params,
    )
    close(simulate(net, clients, Strategy(aggregator=FedAvgM(beta=0.0)), 5, local=local).params, reference.params)
    single = Clients(clients.inputs, clients.targets, clients.parts[:1])
    close(
        simulate(net, single, Strategy(aggregator=Scaffold()), 5, local=local).params,
        simulate(net, single, Strategy(), 5, local=local).params,
    )
    assert not equal(simulate(net, clients, Strategy(aggregator=Scaffold()), 5, local=local).params, reference.params)


def test_fedprox_by_hand(net, clients):
    """Two steps of one client from the definition, with autograd on the whole loss."""
    single = Clients(clients.inputs, clients.targets, clients.parts[:1])
    model, start = copy.deepcopy(net), [p.detach().clone() for p in net.parameters()]
    for _ in range(2):
        model.zero_grad()
        x, y = single.inputs[single.parts[0]], single.targets[single.parts[0]]
        pull = sum(((p - w) ** 2).sum() for p, w in zip(model.parameters(), start))
        (nn.functional.cross_entropy(model(x), y) + 0.7 / 2 * pull).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.2 * p.grad
    close(
        simulate(net, single, Strategy(aggregator=FedProx(mu=0.7)), 1, local=LocalTraining(lr=0.2, steps=2)).params,
        state_of(model),
    )


def test_scaffold_by_hand(net, digits):
    """Option II with two clients and full batches, written out with lists of numpy-like tensors."""
    clients = Clients(*digits, [np.arange(5), np.arange(5, 15)])
    w = [p.detach().double() for p in net.double().parameters()]
    clients.inputs = clients.inputs.double()
    c = [torch.zeros_like(p) for p in w]
    own = [[torch.zeros_like(p) for p in w] for _ in range(2)]
    for _ in range(3):
        results, changes = [], []
        for k in range(2):
            model = copy.deepcopy(net)
            with torch.no_grad():
                for p, value in zip(model.parameters(), w):
                    p.copy_(value)
            for _ in range(2):
                model.zero_grad()
                nn.functional.cross_entropy(
                    model(clients.inputs[clients.parts[k]]), clients.targets[clients.parts[k]]
                ).backward()
                with torch.no_grad():
                    for p, ck, cc in zip(model.parameters(), own[k], c):
                        p -= 0.1 * (p.grad - ck + cc)
            result = [p.detach().clone() for p in model.parameters()]
            new = [ck - cc + (start - end) / (2 * 0.1) for ck, cc, start, end in zip(own[k], c, w, result)]
            changes.append([n - ck for n, ck in zip(new, own[k])])
            own[k] = new
            results.append(result)
        w = [(a + b) / 2 for a, b in zip(*results)]
        c = [cc + (a + b) / 2 for cc, a, b in zip(c, *changes)]
    run = simulate(net, clients, Strategy(aggregator=Scaffold()), 3, local=LocalTraining(lr=0.1, steps=2))
    for value, expected in zip(run.params.values(), w):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    net.float()


def test_periodic_averaging_equals_more_local_steps(net, clients):
    sparse = simulate(net, clients, Strategy(aggregate_every=5), 10, local=ONE)
    packed = simulate(net, clients, Strategy(), 2, local=LocalTraining(lr=0.2, steps=5))
    close(sparse.params, packed.params)
    assert sparse.transfers == packed.transfers == 2 * 2 * 6


def test_feddc_by_hand(net, clients):
    """Algorithm 1 written out with a list of models, on the permutations that the strategy drew."""
    run = simulate(net, clients, DaisyChain(daisy_every=2, aggregate_every=5, random_state=3), 12, local=ONE)
    order = [np.argsort(at) for at in run.model_at]  # where each model is trained
    models = [copy.deepcopy(net) for _ in clients.parts]
    for rnd in range(12):
        for k, model in enumerate(models):
            part = clients.parts[order[rnd][k]]
            model.load_state_dict(sgd_by_hand(model, clients.inputs[part], clients.targets[part], 1, 0.2))
        if rnd % 5 == 4:
            mean = {k: torch.stack([m.state_dict()[k] for m in models]).mean(0) for k in state_of(net)}
            for model in models:
                model.load_state_dict(mean)
    final = {k: torch.stack([m.state_dict()[k] for m in models]).mean(0) for k in state_of(net)}
    close(run.params, final)
    moves = [not np.array_equal(a, b) for a, b in zip(run.model_at, run.model_at[1:])]
    assert all(not moved for rnd, moved in enumerate(moves) if rnd % 2 == 0)  # d = 2: after rounds 1, 3, …
    assert any(moves)
    assert all(sorted(at) == list(range(6)) for at in run.model_at)  # a bijection


def test_daisy_chain_limits(net, clients):
    close(
        simulate(net, clients, DaisyChain(daisy_every=100, aggregate_every=5), 12, local=ONE).params,
        simulate(net, clients, Strategy(aggregator=FedAvg(weighted=False), aggregate_every=5), 12, local=ONE).params,
    )
    single = Clients(clients.inputs, clients.targets, clients.parts[:1])
    part = clients.parts[0]
    close(
        simulate(net, single, DaisyChain(daisy_every=1, aggregate_every=3), 7, local=ONE).params,
        sgd_by_hand(net, clients.inputs[part], clients.targets[part], 7, 0.2),
    )


def test_a_permutation_keeps_the_mean_of_the_models(net, clients):
    strategy = DaisyChain(daisy_every=1, aggregate_every=None)
    run = simulate(net, clients, strategy, 1, local=ONE)
    still = Strategy(aggregator=FedAvg(weighted=False), aggregate_every=50)
    simulate(net, clients, still, 1, local=ONE)
    assert not np.array_equal(strategy.model_at, np.arange(6))
    close(run.params, still.consensus(), atol=1e-7)
    for key, value in strategy.models.items():
        assert torch.equal(value, still.models[key][strategy.model_at])


def test_visited_clients(net, clients):
    assert visited_clients(simulate(net, clients, Strategy(aggregate_every=9), 5, local=ONE)).tolist() == [1] * 6
    many = visited_clients(simulate(net, clients, DaisyChain(daisy_every=1, aggregate_every=None), 40, local=ONE))
    assert many.min() >= 5
    fixed = visited_clients(
        simulate(net, clients, DaisyChain(daisy_every=1, aggregate_every=None, fixed_permutation=True), 1, local=ONE)
    )
    assert fixed.tolist() == [1] * 6
    with pytest.raises(ValueError, match="model_at"):
        visited_clients(simulate(net, clients, Strategy(), 1, local=ONE))


def test_models_travel_by_the_given_route(net, clients):
    ring = DaisyChain(aggregate_every=None, route=lambda n, generator: np.roll(np.arange(n), 1))
    places = np.stack(simulate(net, clients, ring, 4, local=ONE).model_at)
    assert all((places[t] == np.roll(np.arange(6), t)).all() for t in range(4))
    with pytest.raises(ValueError, match=r"route\(6, generator\) gave \[0 0 0 0 0 0\]"):
        simulate(net, clients, DaisyChain(route=lambda n, generator: np.zeros(n, int)), 2, local=ONE)


def test_independent_starts(net, clients):
    others = [state_of(nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))) for _ in range(6)]
    run = simulate(
        net,
        clients,
        DaisyChain(daisy_every=1, aggregate_every=None),
        1,
        local=LocalTraining(lr=0.0, steps=1),
        initial=others,
    )
    close(run.params, {k: torch.stack([o[k] for o in others]).mean(0) for k in others[0]})
    with pytest.raises(ValueError, match="expected one for each of 6 clients"):
        simulate(net, clients, DaisyChain(), 1, local=ONE, initial=others[:2])
    with pytest.raises(ValueError, match="keep models"):
        simulate(net, clients, Strategy(), 1, local=ONE, initial=others)


def test_local_noise_has_the_stated_size_and_clipping_the_stated_length(net, clients):
    local = LocalTraining(lr=5.0, steps=1, clip=0.1)
    single = Clients(clients.inputs, clients.targets, clients.parts[:1])
    start = state_of(net)
    change = [v - start[k] for k, v in simulate(net, single, Strategy(), 1, local=local).params.items()]
    assert torch.cat([c.flatten() for c in change]).norm().item() == pytest.approx(0.1, rel=1e-4)
    noisy = simulate(net, single, Strategy(), 1, local=LocalTraining(lr=0.0, steps=1, noise=0.5)).params
    spread = torch.cat([(v - start[k]).flatten() for k, v in noisy.items()])
    assert spread.std().item() == pytest.approx(0.5, rel=0.1)


def test_learning_happens_and_is_scored(net, clients, digits):
    score = {"test": evaluate_states(net, accuracy, digits[0][1000:], digits[1][1000:])}
    run = simulate(
        net,
        clients,
        DaisyChain(daisy_every=1, aggregate_every=10),
        150,
        local=LocalTraining(lr=0.5, steps=1),
        evaluate=score,
        evaluate_every=40,
        score_clients=True,
    )
    assert run.rounds == [40, 80, 120, 150]
    assert run.scores["test"][-1] > 0.5
    assert run.client_scores["test"][0].shape == (6,)
    model = copy.deepcopy(net)
    model.load_state_dict(run.params)
    direct = (model(digits[0][1000:]).argmax(1) == digits[1][1000:]).float().mean().item()
    assert run.scores["test"][-1] == pytest.approx(direct, abs=1e-6)


# --- faults ------------------------------------------------------------------------------------------------------


def test_a_client_without_data_never_takes_part(net, digits):
    clients = Clients(*digits, [np.arange(5), np.array([], dtype=int), np.arange(5, 9)])
    assert clients.empty == [1]
    run = simulate(net, clients, Strategy(), 3, local=ONE)
    assert run.selected == [[0, 2]] * 3
    assert all(torch.isfinite(v).all() for v in run.params.values())
    with pytest.raises(ValueError, match="no client has any data"):
        Clients(*digits, [np.array([], dtype=int)])


def test_a_nan_update_is_rejected_and_named_and_the_round_survives(net, clients):
    def broken(rnd, updates):
        if rnd == 1:
            updates.params = {k: v.clone() for k, v in updates.params.items()}
            updates.params["0.weight"][2, 0, 0] = float("nan")
            updates.params["2.bias"][4, 0] = float("inf")
        return updates

    run = simulate(net, clients, Strategy(), 3, local=ONE, tamper=broken)
    assert run.rejected == [
        (1, 2, "'0.weight' holds NaN or infinite values"),
        (1, 4, "'2.bias' holds NaN or infinite values"),
    ]
    assert run.reported[1] == [0, 1, 3, 5]
    without = simulate(net, clients, Strategy(), 3, local=ONE, dropout=lambda rnd, c: rnd == 1 and c in (2, 4))
    assert equal(run.params, without.params)


def test_mismatched_answers_are_rejected_and_named(net):
    like = state_of(net)
    wrong_key = {**{k: v for k, v in like.items() if k != "0.bias"}, "extra": torch.zeros(2)}
    wrong_shape = {**like, "2.bias": torch.zeros(11)}
    unknown = {**like, "more": torch.zeros(1)}
    answers = [
        Update(3, like, 5),
        Update(1, wrong_key, 5),
        Update(2, wrong_shape, 5),
        Update(4, unknown, 5),
        Update(5, like, 0),
        Update(0, like, 7),
    ]
    updates, rejected = gather_updates(answers, like, 6)
    assert updates.clients == [0, 3]
    assert updates.num_examples.tolist() == [7, 5]
    assert set(rejected) == {1, 2, 4, 5}
    assert "'0.bias'" in rejected[1]
    assert "'2.bias'" in rejected[2]
    assert "(11,)" in rejected[2]
    assert "'more'" in rejected[4]
    assert "num_examples" in rejected[5]
    nothing, _ = gather_updates([], like, 6)
    assert len(nothing) == 0


def test_a_client_that_never_answers(net, clients):
    run = simulate(net, clients, Strategy(), 3, local=ONE, dropout=lambda rnd, c: c == 5)
    assert all(5 in chosen and 5 not in came for chosen, came in zip(run.selected, run.reported))
    rest = Clients(clients.inputs, clients.targets, clients.parts[:5])
    assert equal(run.params, simulate(net, rest, Strategy(), 3, local=ONE).params)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Strategy(per_round=3),
        lambda: DaisyChain(daisy_every=1, aggregate_every=2),
        lambda: Strategy(aggregator=Scaffold()),
    ],
)
def test_a_round_that_nobody_answers_leaves_the_model(net, clients, make):
    all_gone = simulate(net, clients, make(), 3, local=ONE, dropout=1.0)
    close(all_gone.params, state_of(net), atol=1e-7)  # a mean of equal numbers rounds
    assert all_gone.reported == [[], [], []]
    recovers = simulate(net, clients, make(), 4, local=ONE, dropout=lambda rnd, c: rnd < 2)
    assert not equal(recovers.params, state_of(net))


def test_dropout_rate(net, clients):
    run = simulate(net, clients, Strategy(), 60, local=LocalTraining(lr=0.01, steps=1), dropout=0.5)
    assert sum(map(len, run.reported)) / 360 == pytest.approx(0.5, abs=0.08)


def test_daisy_chaining_goes_on_around_a_dead_client(net, clients):
    run = simulate(
        net,
        clients,
        DaisyChain(daisy_every=1, aggregate_every=4, random_state=1),
        8,
        local=ONE,
        available=lambda rnd: range(6) if rnd < 3 else range(5),
    )
    assert run.reported[5] == [0, 1, 2, 3, 4]
    late = np.stack(run.model_at[4:])
    assert (late[:, 5] == late[0, 5]).all()  # its model rests with it
    assert len({tuple(row[:5]) for row in late}) > 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n, c: DaisyChain(daisy_every=0, aggregate_every=10), "daisy_every=0"),
        (lambda n, c: DaisyChain(daisy_every=1, aggregate_every=0), "aggregate_every=0"),
        (lambda n, c: Strategy(per_round=0), "per_round=0"),
        (lambda n, c: Strategy(per_round=2, aggregate_every=3), "per_round=2"),
        (lambda n, c: Strategy(aggregator=Scaffold(), aggregate_every=3), "SCAFFOLD"),
        (lambda n, c: simulate(n, c, Strategy(), 0, local=ONE), "rounds=0"),
        (lambda n, c: simulate(n, c, Strategy(), 1, local=ONE, dropout=1.5), "dropout=1.5"),
        (lambda n, c: simulate(n, c, Strategy(), 1, local=ONE, executor="gpu"), "executor='gpu'"),
        (lambda n, c: LocalTraining(lr=0.1), "give one of the two"),
        (lambda n, c: LocalTraining(lr=0.1, steps=1, noise=-0.1), "noise=-0.1"),
        (lambda n, c: LocalTraining(lr=-0.1, steps=1), "lr=-0.1"),
        (lambda n, c: LocalTraining(lr=0.1, steps=1, batch_size=0), "batch_size=0"),
        (lambda n, c: Clients(c.inputs, c.targets[:-1], c.parts), "targets"),
        (lambda n, c: Clients(c.inputs, c.targets, []), "parts is empty"),
        (lambda n, c: Clients(c.inputs * torch.nan, c.targets, c.parts), "inputs has .* NaN"),
        (lambda n, c: Clients(c.inputs[:0], c.targets[:0], [np.arange(0)]), "inputs is empty"),
        (lambda n, c: Clients(c.inputs, c.targets, [np.array([9999])]), r"parts\[0\]"),
    ],
)
def test_bad_arguments_are_named(net, clients, call, words):
    with pytest.raises(ValueError, match=words):
        call(net, clients)


def test_scores_do_not_depend_on_the_batch(net, digits):
    states = {k: torch.stack([v, v + 0.1, -v]) for k, v in state_of(net).items()}
    whole = evaluate_states(net, accuracy, *digits)(states)
    parts = evaluate_states(net, accuracy, *digits, batch_size=100, memory=20_000)(states)
    assert torch.equal(whole, parts)
    assert len(set(whole.tolist())) == 3
