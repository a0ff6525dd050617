"""Gradient descent as t-SNE does it: momentum, a gain per coordinate, early exaggeration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from shared._checks import check_array

Gradient = Callable[[torch.Tensor, float], torch.Tensor]  # (Y, exaggeration) -> ∂/∂Y
Callback = Callable[[int, torch.Tensor], "bool | None"]  # (iteration, Y) -> True to stop


@dataclass(frozen=True)
class Schedule:
    """Iterations and step sizes; `learning_rate` "auto" is max(n / (4 · exaggeration in force), 50)."""

    n_iter: int = 750
    exaggeration: float = 12.0
    exaggeration_iter: int = 250
    learning_rate: float | str = "auto"
    momentum: tuple[float, float] = (0.5, 0.8)

    def at(self, iteration: int, n: int) -> tuple[float, float, float]:
        """Exaggeration, learning rate and momentum in force at an iteration."""
        early = iteration < self.exaggeration_iter
        factor = self.exaggeration if early else 1.0
        rate = max(n / (4 * factor), 50.0) if self.learning_rate == "auto" else float(self.learning_rate)
        return factor, rate, self.momentum[0] if early else self.momentum[1]


def descend(
    Y: torch.Tensor,
    gradient: Gradient,
    schedule: Schedule,
    *,
    callback: Callback | None = None,
    callback_every: int = 50,
    progress: bool = False,
) -> tuple[torch.Tensor, int]:
    """Minimise from Y (n, d); returns the embedding, centred, and the number of iterations made.

    Gains grow by 0.2 where the gradient keeps pointing against the last step and shrink by a fifth where not, never
    below 0.01. `callback(iteration, Y)` is called every `callback_every` iterations and at the end; True stops.
    """
    check_array("Y", Y, ("n", "d"))
    Y, step, gains = Y.clone(), torch.zeros_like(Y), torch.ones_like(Y)
    done = 0
    for iteration in tqdm(range(schedule.n_iter), disable=not progress, desc="embedding", leave=False):
        if iteration == schedule.exaggeration_iter:
            step, gains = torch.zeros_like(Y), torch.ones_like(Y)
        factor, rate, momentum = schedule.at(iteration, len(Y))
        slope = gradient(Y, factor)
        gains = torch.where(slope * step < 0, gains + 0.2, gains * 0.8).clamp_min_(0.01)
        step = momentum * step - rate * gains * slope
        Y = Y + step
        Y -= Y.mean(0)
        done = iteration + 1
        if callback is not None and (done % callback_every == 0 or done == schedule.n_iter) and callback(done, Y):
            break
    if not torch.isfinite(Y).all():
        raise FloatingPointError(f"the embedding diverged at learning_rate {rate:.3g}; pass a smaller one")
    return Y, done
