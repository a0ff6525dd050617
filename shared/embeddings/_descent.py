"""Gradient descent as t-SNE does it: momentum, a gain per coordinate, early exaggeration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from shared._checks import check_array, check_range

Gradient = Callable[[torch.Tensor, float], torch.Tensor]  # (Y, exaggeration) -> ∂/∂Y
Callback = Callable[[int, torch.Tensor], "bool | None"]  # (iteration, Y) -> True to stop


@dataclass(frozen=True)
class DescentSchedule:
    """Iterations and step sizes of t-SNE's descent.

    Parameters
    ----------
    max_iter : int
        Iterations, those of the early exaggeration among them.
    early_exaggeration : float
        Factor on P at first.
    early_exaggeration_iter : int
        For how many iterations.
    lr : float or "auto"
        Learning rate; "auto" is max(n / (4 · exaggeration in force), 50).
    momentum : (float, float)
        During the early exaggeration and after it.
    """

    max_iter: int = 750
    early_exaggeration: float = 12.0
    early_exaggeration_iter: int = 250
    lr: float | str = "auto"
    momentum: tuple[float, float] = (0.5, 0.8)

    def at(self, iteration: int, n: int) -> tuple[float, float, float]:
        """What is in force at an iteration.

        Parameters
        ----------
        iteration : int
            From 0 on.
        n : int
            Number of points.

        Returns
        -------
        (float, float, float)
            Exaggeration, learning rate and momentum.
        """
        early = iteration < self.early_exaggeration_iter
        factor = self.early_exaggeration if early else 1.0
        rate = max(n / (4 * factor), 50.0) if self.lr == "auto" else float(self.lr)
        return factor, rate, self.momentum[0] if early else self.momentum[1]


def descend(
    Y: torch.Tensor,
    gradient: Gradient,
    schedule: DescentSchedule,
    *,
    callback: Callback | None = None,
    callback_every: int = 50,
    progress: bool = False,
) -> tuple[torch.Tensor, int]:
    """Minimise by gradient descent with momentum and a gain per coordinate.

    Gains grow by 0.2 where the gradient keeps pointing against the last step and shrink by a fifth where not, never
    below 0.01; they start anew when the early exaggeration ends.

    Parameters
    ----------
    Y : (n, d) tensor
        The start.
    gradient : callable
        (Y, exaggeration) to the gradient (n, d).
    schedule : DescentSchedule
        Iterations and step sizes.
    callback : callable, optional
        Called with (iteration, Y) every `callback_every` iterations and at the end; True stops.
    callback_every : int
        See `callback`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    embedding : (n, d) tensor
        Centred.
    n_iter : int
        Iterations made.

    Raises
    ------
    FloatingPointError
        If the embedding diverges.
    """
    check_range("callback_every", callback_every, 1)
    check_array("Y", Y, ("n", "d"))
    Y = Y.clone()
    step = torch.zeros_like(Y)
    gains = torch.ones_like(Y)
    done = 0
    for iteration in tqdm(range(schedule.max_iter), disable=not progress, desc="embedding", leave=False):
        if iteration == schedule.early_exaggeration_iter:
            step = torch.zeros_like(Y)
            gains = torch.ones_like(Y)
        factor, lr, momentum = schedule.at(iteration, len(Y))
        slope = gradient(Y, factor)
        gains = torch.where(slope * step < 0, gains + 0.2, gains * 0.8).clamp_min_(0.01)
        step = momentum * step - lr * gains * slope
        Y = Y + step
        Y -= Y.mean(0)
        done = iteration + 1
        if callback is not None and (done % callback_every == 0 or done == schedule.max_iter) and callback(done, Y):
            break
    if not torch.isfinite(Y).all():
        raise FloatingPointError(f"the embedding diverged at lr={lr:.3g}; pass a smaller one")
    return Y, done
