"""Client selection: FedEntOpt against brute force and scipy, its buffer, and the baselines."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from shared.federated import (
    ClassBalancedSelector,
    ClusterSelector,
    EntropySelector,
    PowerOfChoice,
    RandomSelector,
    RoundRobin,
    Updates,
    label_counts,
    label_entropy,
    partition_classes,
)


def skewed(clients: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    return np.round(30 * rng.dirichlet(np.full(classes, 0.2), clients)) + rng.integers(0, 2, (clients, 1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_entropy_against_scipy():
    counts = skewed(50, 10, rng()) + 1e-3
    np.testing.assert_allclose(label_entropy(counts), entropy(counts, base=2, axis=1), atol=1e-12)
    assert label_entropy(np.array([5, 0, 0])) == 0
    assert label_entropy(np.zeros(3)) == 0
    assert label_entropy(np.ones(8)) == pytest.approx(3)


def test_entropy_properties():
    counts = skewed(20, 6, rng(1)) + 1
    np.testing.assert_allclose(label_entropy(7.3 * counts), label_entropy(counts), atol=1e-12)
    np.testing.assert_allclose(label_entropy(counts + 2.5 * counts), label_entropy(counts), atol=1e-12)


def greedy_by_hand(counts, buffered, count, generator):
    """Algorithm 1 for one round, with plain loops; the first client is the one the selector drew."""
    chosen = [generator]
    while len(chosen) < count:
        left = [c for c in range(len(counts)) if c not in chosen and c not in buffered]
        scores = {}
        for c in left:
            total = sum(counts[k] for k in [*chosen, c])
            p = total / total.sum()
            scores[c] = -sum(v * np.log2(v) for v in p if v > 0)
        chosen.append(max(scores, key=scores.get))
    return chosen


@pytest.mark.parametrize("seed", range(10))
def test_greedy_choice_by_hand(seed):
    counts = rng(seed).random((15, 5)) * skewed(15, 5, rng(seed))
    selector = EntropySelector(counts, buffer=6, per_round=4)
    first = selector.select(range(15), 4, rng(seed))
    assert first == greedy_by_hand(counts, [], 4, first[0])
    second = selector.select(range(15), 4, rng(seed + 50))
    recent = first  # a buffer of six holds all of them; while picking, the own picks push older ones out
    assert second[0] not in recent
    assert second[1] not in recent


@pytest.mark.parametrize("seed", range(100))
def test_greedy_is_close_to_the_best_subset(seed):
    counts = skewed(12, 6, rng(seed))
    best = max(label_entropy(counts[list(s)].sum(0)) for s in combinations(range(12), 3))
    chosen = [EntropySelector(counts, buffer=0).select(range(12), 3, rng(s)) for s in range(12)]
    found = np.array([label_entropy(counts[c].sum(0)) for c in chosen])
    assert found.max() >= 0.95 * best  # over the random first client
    assert all(h >= label_entropy(counts[c[0]]) - 1e-12 for h, c in zip(found, chosen) if counts[c[0]].sum())


def test_everybody_when_all_take_part():
    counts = skewed(8, 5, rng(2))
    chosen = EntropySelector(counts, buffer=0, per_round=8).select(range(8), 8, rng())
    assert sorted(chosen) == list(range(8))
    assert label_entropy(counts[chosen].sum(0)) == pytest.approx(label_entropy(counts.sum(0)))
    assert sorted(EntropySelector(counts, buffer=0).select([1, 4], 5, rng())) == [1, 4]  # fewer than asked: all


def test_two_classes_per_client_are_completed_to_all_ten():
    labels = np.repeat(np.arange(10), 60)
    high = 0
    for seed in range(30):
        counts = label_counts(labels, partition_classes(labels, 50, 2, generator=rng(seed)))
        chosen = EntropySelector(counts, buffer=0).select(range(50), 5, rng(seed))
        high += label_entropy(counts[chosen].sum(0)) >= 3.0
    assert high > 27


def test_buffer_keeps_recent_clients_out_and_all_get_a_turn():
    counts = skewed(20, 5, rng(3))
    selector = EntropySelector(counts, buffer=10, per_round=4)
    generator, history = rng(4), []
    for _ in range(30):
        chosen = selector.select(range(20), 4, generator)
        assert len(set(chosen)) == 4
        for client in chosen:
            assert client not in history[-10:]
            history.append(client)
    assert set(history) == set(range(20))
    greedy = EntropySelector(counts, buffer=0)
    free = [c for _ in range(30) for c in greedy.select(range(20), 4, generator)]
    assert np.bincount(free, minlength=20).std() > np.bincount(history, minlength=20).std()


def test_buffer_is_ignored_where_it_leaves_nobody():
    selector = EntropySelector(np.eye(6), buffer=4, per_round=2)
    first = selector.select(range(6), 2, rng())
    assert sorted(selector.select(first, 2, rng())) == sorted(first)  # only they are reachable


def test_ties_are_broken_at_random():
    counts = np.tile([3.0, 3.0], (10, 1))
    seen = {tuple(EntropySelector(counts, buffer=0).select(range(10), 2, rng(s)))[1] for s in range(60)}
    assert len(seen) == 10


def test_selection_sees_noised_counts_only():
    counts = skewed(10, 4, rng(5))
    noised = counts + 1.0
    selector = EntropySelector(noised, buffer=3, per_round=2)
    held = np.stack(list(selector.counts.values()))
    np.testing.assert_array_equal(held, noised)
    assert not any(np.array_equal(value, counts) for value in vars(selector).values())


def test_same_generator_same_choice():
    counts = skewed(20, 5, rng(3))
    for make in (lambda: EntropySelector(counts), RandomSelector, lambda: ClusterSelector(counts)):
        assert make().select(range(20), 4, rng(9)) == make().select(range(20), 4, rng(9))


def test_random_is_uniform():
    generator = rng(6)
    counts = np.bincount(
        [c for _ in range(3000) for c in RandomSelector().select(range(10), 3, generator)], minlength=10
    )
    np.testing.assert_allclose(counts / 3000, 0.3, atol=0.03)


def test_round_robin():
    selector = RoundRobin()
    assert selector.select(range(5), 2, rng()) == [0, 1]
    assert selector.select([0, 1, 3, 4], 2, rng()) == [3, 4]
    assert selector.select(range(5), 2, rng()) == [0, 1]


def test_power_of_choice_takes_the_largest_losses():
    selector = PowerOfChoice(10)
    nothing = torch.zeros(6)
    selector.observe(Updates(list(range(6)), {}, nothing, torch.tensor([0.1, 5.0, 0.2, 4.0, 0.3, 0.4])))
    assert selector.select(range(6), 2, rng()) == [1, 3]
    assert selector.select(range(8), 2, rng()) == [6, 7]  # unknown counts as largest


def test_clusters_give_one_client_each():
    counts = np.repeat(np.eye(4) * 10, 5, axis=0)
    for seed in range(10):
        chosen = ClusterSelector(counts).select(range(20), 4, rng(seed))
        assert sorted(c // 5 for c in chosen) == [0, 1, 2, 3]
    few = ClusterSelector(counts).select(range(5), 4, rng())
    assert len(set(few)) == 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: EntropySelector(np.ones((10, 3)), buffer=6, per_round=5), "buffer=6 must be between 0 and K - M = 5"),
        (lambda: EntropySelector(np.ones((10, 3)), buffer=1.5), "buffer=1.5"),
        (lambda: EntropySelector([[1, 2], [-1, 2]]), r"counts\[1\] has a negative"),
        (lambda: EntropySelector([[1, 2], [float("nan"), 2]]), r"counts\[1\] has a negative, NaN"),
        (lambda: EntropySelector([[1, 2], [1, 2, 3]]), r"counts\[1\] has shape \(3,\)"),
        (lambda: EntropySelector([]), "counts is empty"),
        (lambda: EntropySelector({3: [1, 2]}).select([3, 4], 1, rng()), r"clients \[4\] without label counts"),
        (lambda: PowerOfChoice(0), "candidates=0"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_class_balanced_sampling_against_its_formula():
    """Frequencies of the second of two clients, given the first, and of the first in round 1 (no exploration yet)."""
    counts = skewed(6, 4, rng(3)) + 1

    def imbalance(chosen):
        share = counts[list(chosen)].sum(0) / counts[list(chosen)].sum()
        return ((share - 0.25) ** 2).sum()

    pairs = np.array([ClassBalancedSelector(counts).select(range(6), 2, rng(s)) for s in range(6000)])
    first = np.array([1 / imbalance([c]) for c in range(6)])
    np.testing.assert_allclose(np.bincount(pairs[:, 0], minlength=6) / 6000, first / first.sum(), atol=0.025)
    lead = int(np.bincount(pairs[:, 0]).argmax())
    second = np.array([0 if c == lead else imbalance([lead, c]) ** -2.0 for c in range(6)])
    after = pairs[pairs[:, 0] == lead, 1]
    np.testing.assert_allclose(np.bincount(after, minlength=6) / len(after), second / second.sum(), atol=0.04)


def test_class_balanced_sampling_explores_and_is_balanced():
    counts = np.eye(10)[np.arange(40) % 10] * 9
    selector, generator = ClassBalancedSelector(counts), rng(1)
    rounds = [selector.select(range(40), 5, generator) for _ in range(40)]
    assert len({client for chosen in rounds for client in chosen}) > 36
    assert np.mean([label_entropy(counts[chosen].sum(0)) for chosen in rounds]) > np.log2(5) - 0.15
    assert sorted(selector.select([3, 5], 9, generator)) == [3, 5]
    with pytest.raises(ValueError, match="exploration=-1"):
        ClassBalancedSelector(counts, exploration=-1)
