"""Robust centres of points."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_array, check_range


def geometric_median(
    points: Tensor,
    *,
    weights: Tensor | None = None,
    nu: float = 0.0,
    rtol: float = 1e-9,
    atol: float = 0.0,
    max_iter: int = 100,
) -> Tensor:
    r"""The point with the least weighted sum of distances, by Weiszfeld's iteration from the mean.

    A step moves to $\sum_i \beta_i x_i / \sum_i \beta_i$ with $\beta_i = w_i / \|x_i - z\|$. Where z hits a point, its
    weight pulls back and the others on, as in Vardi and Zhang 2000 (PNAS 97), so that no point holds z for good; with
    `nu`, distances are at least that instead: the smoothed median of Pillutla et al. 2022 (RFA, arXiv 1912.13445).

    Parameters
    ----------
    points : (n, d) float
        Finite.
    weights : (n,), optional
        At least zero, their sum positive; equal by default.
    nu : float
        Smallest distance that counts as such; 0 for the exact median.
    rtol, atol : float
        The iteration ends when a step is no longer than atol + rtol · (largest distance of a point from the mean).
    max_iter : int
        Most steps.

    Returns
    -------
    (d,) Tensor
        In points' dtype and device.

    Raises
    ------
    ValueError
        For wrong shapes, NaN or infinity, weights that are negative or all zero, options out of range.
    """
    check_array("points", points, ("n", "d"))
    for name, value in (("nu", nu), ("rtol", rtol), ("atol", atol)):
        check_range(name, value, 0)
    check_range("max_iter", max_iter, 1)
    if weights is None:
        shares = torch.ones(len(points), dtype=points.dtype, device=points.device)
        centre = points.mean(0)
    else:
        shares = _shares(weights, points)
        centre = shares @ points
    reach = atol + rtol * float((points - centre).norm(dim=1).max())
    for _ in range(max_iter):
        moved = _step(points, shares, centre, nu)
        step = float((moved - centre).norm())
        centre = moved
        if step <= reach:
            break
    return centre


def _shares(weights: Tensor, points: Tensor) -> Tensor:
    check_array("weights", weights, (len(points),))
    shares = weights.to(points)
    if bool((shares < 0).any()) or not bool(shares.sum() > 0):
        raise ValueError(f"weights must be at least zero and not all zero; got {shares.tolist()[:8]}")
    return shares / shares.sum()


def _step(points: Tensor, shares: Tensor, centre: Tensor, nu: float) -> Tensor:
    distances = (points - centre).norm(dim=1)
    if nu > 0:
        pull = shares / distances.clamp_min(nu)
        return (pull / pull.sum()) @ points
    hit = distances == 0
    if not bool(hit.any()):
        pull = shares / distances
        return (pull / pull.sum()) @ points
    pull = torch.where(hit, 0.0, shares / distances.masked_fill(hit, 1.0))
    if not bool(pull.sum() > 0):
        return centre  # every point with weight is here
    onward = (pull / pull.sum()) @ points
    force = (pull @ (points - centre)).norm()
    held = (shares[hit].sum() / force).clamp(max=1.0) if bool(force > 0) else torch.ones_like(force)
    return onward + held * (centre - onward)
