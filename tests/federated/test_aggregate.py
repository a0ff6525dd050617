"""Aggregators against their equations, their limits, and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from shared.federated import (
    CoordinateMedian,
    DPFedAvg,
    FedAvg,
    FedAvgM,
    FedOpt,
    FedProx,
    GeometricMedian,
    RadonPoint,
    Scaffold,
    TrimmedMean,
    Updates,
    _robust,
    flatten,
    iterated_radon_point,
    radon_point,
    stack_states,
    unflatten,
)


def updates_of(points: np.ndarray, examples=None, population: int = 0) -> tuple[dict, Updates]:
    """Points (n, 3) as states with a (2,) weight, a scalar bias and an integer counter; and the state of zeros."""
    points = torch.as_tensor(points, dtype=torch.float64)
    n = len(points)
    states = [{"w": p[:2], "b": p[2], "seen": torch.tensor(3 + i)} for i, p in enumerate(points)]
    examples = (
        torch.ones(n, dtype=torch.float64) if examples is None else torch.as_tensor(examples, dtype=torch.float64)
    )
    start = {
        "w": torch.zeros(2, dtype=torch.float64),
        "b": torch.tensor(0.0, dtype=torch.float64),
        "seen": torch.tensor(0),
    }
    return start, Updates(list(range(n)), stack_states(states), examples, torch.zeros(n), {}, population)


def merged(aggregator, points, examples=None, start=None) -> np.ndarray:
    zero, updates = updates_of(points, examples)
    state, _ = aggregator.aggregate(start or zero, updates, {})
    return torch.cat([state["w"], state["b"][None]]).numpy()


ALL = {
    "fedavg": FedAvg(),
    "uniform": FedAvg(weighted=False),
    "median": CoordinateMedian(),
    "trimmed": TrimmedMean(beta=0.2),
    "geometric": GeometricMedian(),
    "radon": RadonPoint(height=1),
}


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 3))


def test_fedavg_is_the_weighted_mean(points):
    n = np.array([1, 2, 3, 4, 10.0])
    np.testing.assert_allclose(merged(FedAvg(), points, n), (n[:, None] * points).sum(0) / n.sum(), rtol=1e-12)
    np.testing.assert_allclose(merged(FedAvg(weighted=False), points, n), points.mean(0), rtol=1e-12)


def test_counters_take_their_maximum(points):
    start, updates = updates_of(points)
    for aggregator in ALL.values():
        state, _ = aggregator.aggregate(start, updates, {})
        assert state["seen"].dtype == torch.int64
        assert state["seen"] == 7


def test_median_and_trimmed_mean_per_coordinate(points):
    np.testing.assert_allclose(merged(CoordinateMedian(), points), np.median(points, 0), rtol=1e-12)
    np.testing.assert_allclose(merged(CoordinateMedian(), points[:4]), np.median(points[:4], 0), rtol=1e-12)
    np.testing.assert_allclose(merged(TrimmedMean(beta=0.2), points), np.sort(points, 0)[1:-1].mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged(TrimmedMean(beta=0.0), points), points.mean(0), rtol=1e-12)


def test_geometric_median_against_scipy(points):
    weights = np.array([1, 2, 3, 4, 2.0])

    def cost(z):
        return (weights * np.linalg.norm(points - z, axis=1)).sum()

    found = merged(GeometricMedian(iterations=500), points, weights)
    best = minimize(
        cost, points.mean(0), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 5000}
    )
    np.testing.assert_allclose(found, best.x, atol=1e-4)
    assert cost(found) < cost(points.mean(0)) - 1e-3


@pytest.mark.parametrize("name", ALL)
def test_identical_clients_leave_any_aggregate_where_they_are(name):
    point = np.array([0.3, -2.0, 7.0])
    np.testing.assert_allclose(merged(ALL[name], np.tile(point, (5, 1))), point, rtol=1e-9)


@pytest.mark.parametrize("name", ["fedavg", "uniform", "median", "trimmed", "geometric"])
def test_order_of_clients_does_not_matter(name, points):
    np.testing.assert_allclose(merged(ALL[name], points), merged(ALL[name], points[::-1].copy()), atol=1e-7)


def test_radon_point_without_float64(monkeypatch):
    """As on MPS: in float32, to its precision."""
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    wide = radon_point(points)
    monkeypatch.setattr(_robust, "wide_dtype", lambda device: torch.float32)
    torch.testing.assert_close(radon_point(points), wide, atol=1e-5, rtol=1e-5)


def test_radon_point_does_not_depend_on_order(points):
    forward = radon_point(torch.tensor(points))
    torch.testing.assert_close(radon_point(torch.tensor(points[::-1].copy())), forward, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_translation_and_scale_equivariance(name, points):
    shift = np.array([5.0, -3.0, 0.5])
    base = merged(ALL[name], points)
    np.testing.assert_allclose(merged(ALL[name], 3 * points + shift), 3 * base + shift, atol=1e-5)


@pytest.mark.parametrize("name", ["median", "trimmed", "geometric"])
def test_a_fifth_of_hostile_clients(name):
    rng = np.random.default_rng(1)
    honest = rng.normal(size=(20, 3))
    hostile = honest.copy()
    hostile[:4] = 1e6 * rng.normal(size=(4, 3))
    clean = np.linalg.norm(merged(ALL[name], honest))
    assert np.linalg.norm(merged(FedAvg(), hostile)) > 1e4
    assert np.linalg.norm(merged(ALL[name], hostile)) < max(3 * clean, 1.5)


def test_iterated_radon_point_survives_hostile_points():
    rng = np.random.default_rng(2)
    honest = rng.normal(size=(125, 3))
    hostile = honest.copy()
    hostile[rng.choice(125, 6, replace=False)] = 1e6
    errors = [np.linalg.norm(iterated_radon_point(torch.tensor(p), height=3).numpy()) for p in (honest, hostile)]
    assert np.linalg.norm(hostile.mean(0)) > 1e4
    assert errors[1] < 3.0


def test_radon_point_of_three_numbers_is_their_median():
    for values in ([3.0, -1.0, 10.0], [0.0, 1.0, 2.0], [5.0, 5.0, 9.0]):
        found = radon_point(torch.tensor(values, dtype=torch.float64)[:, None])
        assert found.item() == pytest.approx(np.median(values), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dim", [2, 4])
def test_radon_point_lies_in_both_hulls(seed, dim):
    points = np.random.default_rng(seed).normal(size=(dim + 2, dim))
    found = radon_point(torch.tensor(points)).numpy()

    def inside(corners: np.ndarray) -> bool:
        system = np.vstack([corners.T, np.ones(len(corners))])
        fit = linprog(np.zeros(len(corners)), A_eq=system, b_eq=np.append(found, 1.0), bounds=(0, None))
        return fit.success

    splits = [np.array([(code >> i) & 1 for i in range(dim + 2)], dtype=bool) for code in range(1, 2 ** (dim + 1))]
    assert any(inside(points[split]) and inside(points[~split]) for split in splits)
    assert not any(
        inside(points[split] + 100) and inside(points[~split] + 100) for split in splits
    )  # the test can fail


def test_degenerate_points_have_a_radon_point():
    line = torch.tensor([[0.0, 0], [1, 0], [2, 0], [3, 0]], dtype=torch.float64)
    found = radon_point(line)
    assert 0 <= found[0] <= 3
    assert abs(found[1]) < 1e-12


def test_radon_wants_enough_points():
    with pytest.raises(ValueError, match=r"points are 24 of dimension 3.*takes .* = 25"):
        iterated_radon_point(torch.randn(24, 3, generator=torch.Generator().manual_seed(0)), height=2)
    with pytest.raises(ValueError, match="takes 5 points"):
        radon_point(torch.zeros(4, 3))


def test_fedavgm_by_hand(points):
    start, updates = updates_of(points)
    aggregator = FedAvgM(beta=0.5, lr=2.0)
    mean = points.mean(0)
    w, v, state = np.zeros(3), np.zeros(3), {}
    params = start
    for _ in range(3):
        params, state = aggregator.aggregate(params, updates, state)
        v = 0.5 * v + (mean - w)
        w = w + 2.0 * v
        np.testing.assert_allclose(torch.cat([params["w"], params["b"][None]]).numpy(), w, rtol=1e-10)
    plain = merged(FedAvgM(beta=0.0, lr=1.0), points)
    np.testing.assert_allclose(plain, mean, rtol=1e-12)


@pytest.mark.parametrize("variant", FedOpt.VARIANTS)
def test_fedopt_by_hand(variant, points):
    start, updates = updates_of(points)
    aggregator = FedOpt(variant=variant, lr=0.3, beta1=0.8, beta2=0.9, tau=0.01)
    mean, params, state = points.mean(0), start, {}
    w, m, v = np.zeros(3), np.zeros(3), np.full(3, 1e-4)
    for _ in range(3):
        params, state = aggregator.aggregate(params, updates, state)
        delta = mean - w
        m = 0.8 * m + 0.2 * delta
        if variant == "adam":
            v = 0.9 * v + 0.1 * delta**2
        elif variant == "yogi":
            v = v - 0.1 * delta**2 * np.sign(v - delta**2)
        else:
            v = v + delta**2
        w = w + 0.3 * m / (np.sqrt(v) + 0.01)
        np.testing.assert_allclose(torch.cat([params["w"], params["b"][None]]).numpy(), w, rtol=1e-9)


def test_scaffold_server_by_hand(points):
    start, updates = updates_of(points, population=20)
    updates.control = {"w": torch.ones(5, 2, dtype=torch.float64), "b": torch.full((5,), 2.0, dtype=torch.float64)}
    params, state = Scaffold(lr=0.5).aggregate(start, updates, {})
    np.testing.assert_allclose(params["w"].numpy(), 0.5 * points[:, :2].mean(0))
    np.testing.assert_allclose(state["control"]["w"].numpy(), 5 / 20)
    np.testing.assert_allclose(state["control"]["b"].numpy(), 5 / 20 * 2)
    with pytest.raises(ValueError, match="control"):
        Scaffold().aggregate(*updates_of(points), {})


def test_dp_fedavg_clips_and_adds_the_stated_noise():
    points = np.zeros((4, 3))
    points[0, 0] = 100.0
    start, updates = updates_of(points)
    clean, _ = DPFedAvg(clip=2.0, noise_multiplier=0.0).aggregate(start, updates, {})
    np.testing.assert_allclose(clean["w"].numpy(), [0.5, 0.0])
    params = {"w": torch.zeros(20000, dtype=torch.float64)}
    many = Updates([0, 1], stack_states([params, params]), torch.ones(2), torch.zeros(2))
    noisy, state = DPFedAvg(clip=2.0, noise_multiplier=3.0, random_state=1).aggregate(params, many, {})
    assert noisy["w"].std().item() == pytest.approx(3.0 * 2.0 / 2, rel=0.03)
    again, _ = DPFedAvg(clip=2.0, noise_multiplier=3.0, random_state=1).aggregate(params, many, {})
    torch.testing.assert_close(again["w"], noisy["w"], rtol=0, atol=0)
    other, _ = DPFedAvg(clip=2.0, noise_multiplier=3.0, random_state=1).aggregate(params, many, state)
    assert (other["w"] != noisy["w"]).any()


def test_flatten_and_back(points):
    start, updates = updates_of(points)
    assert flatten(updates.params).shape == (5, 3)
    back = unflatten(flatten(updates.params)[2], start)
    np.testing.assert_allclose(back["w"].numpy(), points[2, :2])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrimmedMean(beta=0.5), "beta=0.5"),
        (lambda: FedProx(mu=-0.1), "mu=-0.1"),
        (lambda: DPFedAvg(0.0, 1.0), "clip=0.0"),
        (lambda: DPFedAvg(1.0, -1.0), "noise_multiplier=-1.0"),
        (lambda: FedOpt(variant="sgd"), "variant='sgd'"),
        (lambda: FedAvgM(beta=2), "beta=2"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("aggregator", [FedAvg(), CoordinateMedian(), TrimmedMean(), GeometricMedian()])
def test_no_updates_are_refused(aggregator):
    start, updates = updates_of(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="updates is empty"):
        aggregator.aggregate(start, updates.rows([]), {})
