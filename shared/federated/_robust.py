"""Aggregators that survive a share of hostile or broken clients: medians, trimmed mean, Radon point."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_finite, check_range
from shared.federated._aggregate import FedAvg, State, reduce_states
from shared.federated._state import Params, Updates, flatten, unflatten
from shared.stats import geometric_median, wide_dtype


class CoordinateMedian(FedAvg):
    """The median of every coordinate, Yin et al. 2018; the mean of the middle two for an even number of clients."""

    def __init__(self) -> None:
        super().__init__(weighted=False)

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        n = len(updates)
        if not n:
            raise ValueError("updates is empty; at least one client must have answered")

        def median(values: Tensor) -> Tensor:
            ordered = values.sort(0).values
            return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2

        return reduce_states(updates.params, median), state


class TrimmedMean(FedAvg):
    r"""Drops the $\lfloor\beta n\rfloor$ largest and smallest values of every coordinate and averages the rest.

    Parameters
    ----------
    beta : the share cut at each end, in [0, 0.5).
    """

    def __init__(self, *, beta: float = 0.1) -> None:
        super().__init__(weighted=False)
        check_range("beta", beta, 0)
        if not beta < 0.5:
            raise ValueError(f"beta={beta!r} must be below 0.5, or nothing is left to average")
        self.beta = beta

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        n = len(updates)
        if not n:
            raise ValueError("updates is empty; at least one client must have answered")
        cut = int(self.beta * n)
        return reduce_states(updates.params, lambda v: v.sort(0).values[cut : n - cut].mean(0)), state


class GeometricMedian(FedAvg):
    r"""The point with the least weighted sum of distances (RFA, Pillutla et al. 2022), by smoothed Weiszfeld steps.

    $z \leftarrow \sum_k \beta_k w_k / \sum_k \beta_k$ with $\beta_k = p_k / \max(\nu, \|z - w_k\|)$, until a step is
    shorter than `tolerance` times the spread of the points, at most `iterations` times.

    Parameters
    ----------
    weighted : weigh clients by their number of examples.
    iterations : at most so many steps.
    nu : ν, below which a distance counts as ν.
    tolerance : of a step, in units of the spread.
    """

    def __init__(
        self, *, weighted: bool = True, iterations: int = 100, nu: float = 1e-6, tolerance: float = 1e-9
    ) -> None:
        super().__init__(weighted=weighted)
        check_range("iterations", iterations, 1)
        self.iterations, self.nu, self.tolerance = iterations, nu, tolerance

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        if not len(updates):
            raise ValueError("updates is empty; at least one client must have answered")
        center = geometric_median(
            flatten(updates.params),
            weights=self.weights(updates),
            nu=self.nu,
            rtol=self.tolerance,
            max_iter=self.iterations,
        )
        return unflatten(center, reduce_states(updates.params, lambda v: v[0])), state


class RadonPoint(FedAvg):
    r"""The iterated Radon point, Kamp et al. 2017, for models with few parameters.

    $r = D + 2$ points have a Radon point: a point in the convex hulls of both parts of some partition. Groups of $r$
    clients are replaced by theirs, `height` times over, which takes $r^{height}$ clients (None: as high as the clients
    allow). Clients beyond the last whole power are left out; which ones is drawn afresh every round.

    Parameters
    ----------
    height : how often groups are replaced, or None.
    random_state : of the order in which clients are grouped.
    """

    def __init__(self, *, height: int | None = None, random_state: int = 0) -> None:
        super().__init__(weighted=False)
        self.height, self.random_state = height, random_state

    def aggregate(self, params: Params, updates: Updates, state: State) -> tuple[Params, State]:
        rnd = state.get("round", 0)
        points = flatten(updates.params)
        order = np.random.default_rng([self.random_state, rnd]).permutation(len(points))
        center = iterated_radon_point(points[torch.as_tensor(order)], height=self.height)
        return unflatten(center, reduce_states(updates.params, lambda v: v[0])), {"round": rnd + 1}


def radon_point(points: Tensor) -> Tensor:
    r"""The Radon point (…, D) of points (…, D+2, D).

    With $\lambda \ne 0$, $\sum_i \lambda_i s_i = 0$, $\sum_i \lambda_i = 0$ it is
    $\sum_{\lambda_i > 0} \lambda_i s_i / \sum_{\lambda_i > 0} \lambda_i$. $\lambda$ is a unit null vector from a
    singular value decomposition, which exists however degenerate the points are. Computed in `wide_dtype`.

    Parameters
    ----------
    points : (…, D + 2, D), finite.

    Returns
    -------
    (…, D).
    """
    check_finite("points", points)
    if points.ndim < 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; expected (…, D + 2, D)")
    r, dim = points.shape[-2:]
    if r != dim + 2:
        raise ValueError(
            f"points has shape {tuple(points.shape)}; a Radon point in {dim} dimensions takes {dim + 2} points"
        )
    work = points.to(wide_dtype(points.device))
    middle = work.mean(-2, keepdim=True)
    size = (work - middle).abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(work.dtype).tiny)
    system = torch.cat([((work - middle) / size).mT, torch.ones_like(work[..., :1]).mT], -2)  # (…, D+1, D+2)
    null = torch.linalg.svd(system, full_matrices=True).Vh[..., -1, :]
    positive = null.clamp_min(0)
    share = positive / positive.sum(-1, keepdim=True)
    return (share[..., None] * work).sum(-2).to(points.dtype)


def iterated_radon_point(points: Tensor, *, height: int | None = None) -> Tensor:
    """Radon points of Radon points; see `RadonPoint`.

    Parameters
    ----------
    points : (n, D), n >= (D + 2)**height.
    height : how often; as often as n allows, unless given.

    Returns
    -------
    (D,).
    """
    check_array("points", points, ("n", "D"))
    n, dim = points.shape
    r = dim + 2
    if height is None:
        height = 1
        while r ** (height + 1) <= n:
            height += 1
    if height < 1:
        raise ValueError(f"height={height!r} must be at least 1")
    if n < r**height:
        raise ValueError(
            f"points are {n} of dimension {dim}; a Radon point of height {height} takes (D + 2)**height = {r**height}"
        )
    level = points[: r**height]
    for _ in range(height):
        level = radon_point(level.reshape(-1, r, dim))
    return level[0]
