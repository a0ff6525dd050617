"""L-BFGS for many linear classifiers on the same activations at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def logistic_loss(margin: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + exp(−sign·margin)) and its derivative by the margin."""
    z = sign * margin
    return torch.nn.functional.softplus(-z), -sign * torch.sigmoid(-z)


def squared_hinge_loss(margin: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
    """max(0, 1 − sign·margin)² and its derivative by the margin."""
    slack = (1 - sign * margin).clamp(min=0)
    return slack.square(), -2 * sign * slack


@dataclass
class _State:
    """Columns still being fitted: weights, margins, gradient, objective, and L-BFGS's memory of steps."""

    at: Tensor  # (k,) their numbers
    U: Tensor  # (p, k)
    F: Tensor  # (n, k)
    G: Tensor  # (p, k)
    value: Tensor  # (k,)
    steps: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def keep(self, mask: Tensor) -> None:
        self.at, self.value = self.at[mask], self.value[mask]
        self.U = self.U[:, mask]
        self.F = self.F[:, mask]
        self.G = self.G[:, mask]
        self.steps = [(s[:, mask], y[:, mask], r[mask]) for s, y, r in self.steps]


def fit_margins(
    X: Tensor, sign: Tensor, weight: Tensor | None, penalty: Tensor, loss: Loss, *, tol: float, max_iter: int
) -> tuple[Tensor, int]:
    """Minimise, for each column k of `sign` (n, k) in {−1, 1}, `Σ_i weight_ik loss(x_i·u_k) + ½ Σ_j penalty_j u_jk²`.

    X : (n, p), best with columns scaled so that the Hessian is near the identity; weight : (n, k), (1, k) or None;
    penalty : (p,). Stops for a column when its gradient's norm is `tol` times the one at zero. Per step all columns
    share two matrix products; the line search costs none, since margins are linear along a step.

    Returns (p, k) weights and the number of columns that had not converged.
    """
    k = sign.shape[1]
    result = X.new_zeros(X.shape[1], k)
    columns = torch.arange(k, device=X.device)
    state = _State(columns, result.clone(), X.new_zeros(len(X), k), result.clone(), X.new_zeros(k))
    state.value, slope = _evaluate(state.F, sign, weight, loss)
    state.G = X.T @ slope
    goal = tol * state.G.norm(dim=0)
    for _ in range(max_iter):
        running = state.G.norm(dim=0) > goal[state.at]
        if int(running.sum()) <= 0.9 * len(running):
            result[:, state.at] = state.U
            state.keep(running)
            if not len(state.at):
                break
        signs = sign if len(state.at) == k else sign[:, state.at]
        weights = weight if weight is None or len(state.at) == k else weight[:, state.at]
        if not _step(state, X, signs, weights, penalty, loss):
            break
    result[:, state.at] = state.U
    return result, int((state.G.norm(dim=0) > goal[state.at]).sum())


def _evaluate(F: Tensor, sign: Tensor, weight: Tensor | None, loss: Loss) -> tuple[Tensor, Tensor]:
    values, slopes = loss(F, sign)
    if weight is not None:
        values, slopes = values * weight, slopes * weight
    return values.sum(0), slopes


def _step(state: _State, X: Tensor, sign: Tensor, weight: Tensor | None, penalty: Tensor, loss: Loss) -> bool:
    """One quasi-Newton step with Armijo's rule per column; False when no column can move any more."""
    D = _direction(state)
    slope = (D * state.G).sum(0)
    uphill = slope >= 0
    D = torch.where(uphill, -state.G, D)
    slope = torch.where(uphill, -state.G.square().sum(0), slope)
    FD = X @ D
    bend, tilt = (penalty[:, None] * D.square()).sum(0) / 2, (penalty[:, None] * D * state.U).sum(0)
    base = (penalty[:, None] * state.U.square()).sum(0) / 2
    t = torch.ones_like(slope)
    for _ in range(30):
        data, slopes = _evaluate(state.F + t * FD, sign, weight, loss)
        value = data + base + t * tilt + t * t * bend
        room = 1e-14 * state.value.abs()  # rounding must not stop the last steps
        ok = value <= state.value + 1e-4 * t * slope + room
        if bool(ok.all()):
            break
        t = torch.where(ok, t, t * 0.5)
    t = torch.where(ok, t, torch.zeros_like(t))
    if not bool(ok.all()):
        data, slopes = _evaluate(state.F + t * FD, sign, weight, loss)
        value = data + base + t * tilt + t * t * bend
    moved = t * D
    state.U = state.U + moved
    state.F = state.F + t * FD
    state.value = value
    gradient = X.T @ slopes + penalty[:, None] * state.U
    change, state.G = gradient - state.G, gradient
    _remember(state, moved, change)
    return bool((t > 0).any())


def _remember(state: _State, moved: Tensor, change: Tensor, memory: int = 10) -> None:
    curvature = (moved * change).sum(0)
    rho = torch.where(curvature > 1e-14 * change.square().sum(0), 1 / curvature, torch.zeros_like(curvature))
    state.steps = [*state.steps[-memory + 1 :], (moved, change, rho)]


def _direction(state: _State) -> Tensor:
    """−(approximate Hessian)⁻¹ gradient by the two-loop recursion, column by column (a step with rho = 0 is void)."""
    q, alphas = state.G.clone(), []
    for moved, change, rho in reversed(state.steps):
        alpha = rho * (moved * q).sum(0)
        q -= alpha * change
        alphas.append(alpha)
    if state.steps:
        moved, change, rho = state.steps[-1]
        q *= torch.where(rho > 0, (moved * change).sum(0) / change.square().sum(0).clamp(min=1e-300), 1.0)
    for (moved, change, rho), alpha in zip(state.steps, reversed(alphas)):
        q += moved * (alpha - rho * (change * q).sum(0))
    return -q
