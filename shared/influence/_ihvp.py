"""Inverse-curvature products: conjugate gradients, LiSSA, Arnoldi; each on all right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Matvec = Callable[[Tensor], Tensor]  # rows (T, P) -> rows (T, P)


class DivergenceError(RuntimeError):
    """An iteration grew without bound; the message says what to change."""


def conjugate_gradients(matvec: Matvec, B: Tensor, tol: float, max_iterations: int) -> tuple[Tensor, int, float]:
    """Solve H v = b for each row of B (T, P): v, iterations, largest relative residual. H must be positive definite."""
    V, R = torch.zeros_like(B), B.clone()
    D, square = R.clone(), R.square().sum(1)
    start, iteration = square.clone().clamp_min(torch.finfo(B.dtype).tiny), 0
    while iteration < max_iterations and bool((square > tol**2 * start).any()):
        HD = matvec(D)
        curvature = (D * HD).sum(1)
        if bool((curvature < 0).any()):
            raise DivergenceError("conjugate gradients met negative curvature; raise damping")
        step = torch.where(curvature > 0, square / curvature, 0.0)[:, None]
        V, R = V + step * D, R - step * HD
        fresh = R.square().sum(1)
        D = R + torch.where(square > 0, fresh / square, 0.0)[:, None] * D
        square, iteration = fresh, iteration + 1
    return V, iteration, float((square / start).sqrt().max())


def lissa(matvec: Callable[[Tensor], Tensor], B: Tensor, scale: float, depth: int) -> Tensor:
    """v <- b + v - H_batch v / scale, `depth` times, and v / scale at the end (Agarwal et al. 2017; Koh & Liang 2017).

    `matvec` may draw a new batch at each call. Raises `DivergenceError` where the iterate explodes.
    """
    V, largest = B.clone(), B.norm(dim=1).clamp_min(torch.finfo(B.dtype).tiny)
    for step in range(depth):
        V = B + V - matvec(V) / scale
        if not bool((V.norm(dim=1) <= 1e3 * (step + 10) * largest).all()):
            raise DivergenceError(
                f"LiSSA diverges after {step + 1} steps; scale={scale:g} must exceed the largest eigenvalue"
            )
    return V / scale


def arnoldi(matvec: Matvec, like: Tensor, steps: int, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The `rank` largest Ritz values (r,) of a symmetric H and their vectors (r, P) (Schioppa et al. 2022).

    A Krylov basis from a random start, orthogonalised twice against all earlier vectors; it ends early when the
    space is exhausted.
    """
    q = torch.randn(like.shape, generator=generator, device=generator.device).to(like)
    basis, columns = [q / q.norm()], []
    for n in range(min(steps, like.numel())):
        w = matvec(basis[-1][None])[0]
        Q = torch.stack(basis)
        h = w.new_zeros(steps + 1)
        for _ in range(2):
            part = Q @ w
            w = w - part @ Q
            h[: n + 1] += part
        columns.append(h)
        h[n + 1] = w.norm()
        if n + 1 == min(steps, like.numel()) or float(h[n + 1]) <= 1e-6 * float(h[: n + 1].norm()):
            break
        basis.append(w / h[n + 1])
    size = len(columns)
    H = torch.stack(columns, 1)[:size]
    values, vectors = torch.linalg.eigh((H + H.T) / 2)
    keep = values.abs().argsort(descending=True)[:rank]
    return values[keep], vectors[:, keep].T @ torch.stack(basis[:size])
