from __future__ import annotations

import numpy as np
import pytest

from shared.federated import label_counts, partition_classes, partition_dirichlet, partition_iid, partition_tiny


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 10, 2000)


def disjoint(parts, size):
    joined = np.concatenate(parts)
    assert len(np.unique(joined)) == len(joined)
    assert joined.min() >= 0
    assert joined.max() < size
    return len(joined)


def test_tiny_gives_each_client_its_few(labels):
    parts = partition_tiny(2000, 30, 7, generator=np.random.default_rng(1))
    assert [len(p) for p in parts] == [7] * 30
    disjoint(parts, 2000)


def test_iid_gives_out_everything(labels):
    parts = partition_iid(2000, 7, generator=np.random.default_rng(1))
    assert disjoint(parts, 2000) == 2000
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("alpha", [0.05, 0.5, 100.0])
def test_dirichlet_gives_out_everything(labels, alpha):
    assert disjoint(partition_dirichlet(labels, 20, alpha, generator=np.random.default_rng(1)), 2000) == 2000


def test_dirichlet_shares_have_the_stated_variance(labels):
    """Var of a Dirichlet share is (1/K)(1 - 1/K) / (K alpha + 1)."""
    clients, alpha = 5, 0.7
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(150):
        counts = label_counts(labels, partition_dirichlet(labels, clients, alpha, generator=rng))
        shares.append(counts / counts.sum(0))
    expected = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    assert np.var(shares) == pytest.approx(expected, rel=0.05)


def test_dirichlet_min_size(labels):
    parts = partition_dirichlet(labels, 10, 0.5, generator=np.random.default_rng(0), min_size=30)
    assert min(map(len, parts)) >= 30
    with pytest.raises(ValueError, match="min_size=300 was not met"):
        partition_dirichlet(labels, 10, 0.01, generator=np.random.default_rng(0), min_size=300, tries=3)


@pytest.mark.parametrize(("clients", "held"), [(50, 2), (5, 2), (7, 3), (13, 1), (4, 10)])
def test_classes_per_client(labels, clients, held):
    parts = partition_classes(labels, clients, held, generator=np.random.default_rng(3))
    disjoint(parts, 2000)
    counts = label_counts(labels, parts)
    assert ((counts > 0).sum(1) == held).all()
    assert (counts.sum(0) > 0).sum() == min(10, clients * held)  # nobody's class is forgotten where avoidable


def test_label_counts_agree_with_counting(labels):
    parts = partition_iid(2000, 4, generator=np.random.default_rng(0))
    assert label_counts(labels, parts)[2, 5] == (labels[parts[2]] == 5).sum()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda y, r: partition_tiny(2000, 50, 41, generator=r), "2050 examples of 2000"),
        (lambda y, r: partition_tiny(2000, 0, 4, generator=r), "clients=0"),
        (lambda y, r: partition_iid(3, 4, generator=r), "clients=4"),
        (lambda y, r: partition_dirichlet(y, 4, 0.0, generator=r), "alpha=0.0"),
        (lambda y, r: partition_dirichlet(y.astype(float), 4, 1.0, generator=r), "labels"),
        (lambda y, r: partition_classes(y, 4, 11, generator=r), "per_client=11"),
    ],
)
def test_bad_arguments_are_named(labels, call, words):
    with pytest.raises(ValueError, match=words):
        call(labels, np.random.default_rng(0))
