"""Training with the checkpoints that TracIn asks for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_range, check_shape
from shared.hooks import graph_mode
from shared.influence._classifier import Checkpoint
from shared.nets import logits_of


def train_checkpoints(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    generator: torch.Generator,
    batch_size: int = 64,
    weight_decay: float = 1e-4,
    n_checkpoints: int = 3,
) -> list[Checkpoint]:
    """Train by Adam with an annealed learning rate, as DualXDA's configurations do; the model ends in eval mode.

    Parameters
    ----------
    model : Module
        Gives logits `(B, K)`, or an object with `.logits`.
    x, y : Tensor
        Inputs `(N, …)` and classes `(N,)`, on the model's device.
    epochs : int
    lr : float
        At the start; a cosine takes it to zero.
    generator : torch.Generator
        Of the order of the data.
    batch_size : int
    weight_decay : float
        Of Adam.
    n_checkpoints : int
        Spread evenly over the epochs, the last at the end.

    Returns
    -------
    list of Checkpoint
        With the learning rate of their epoch.
    """
    check_range("batch_size", batch_size, 1)
    check_range("epochs", epochs, 1)
    check_range("n_checkpoints", n_checkpoints, 1, epochs)
    check_array("x", x, ("N", *x.shape[1:]))
    check_shape("y", y, ("N",))
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y {len(y)} entries; one label per row is needed")
    kept = {epochs * (i + 1) // n_checkpoints for i in range(n_checkpoints)}
    checkpoints = []
    with graph_mode():
        for epoch, rate in _epochs(model.train(), x, y, epochs, lr, generator, batch_size, weight_decay):
            if epoch in kept:
                state = {name: value.detach().clone() for name, value in model.state_dict().items()}
                checkpoints.append(Checkpoint(state, rate))
    model.eval()
    return checkpoints


def _epochs(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    epochs: int,
    lr: float,
    generator: torch.Generator,
    batch_size: int,
    weight_decay: float,
) -> Iterator[tuple[int, float]]:
    optimiser = torch.optim.Adam(model.parameters(), lr, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(1, epochs + 1):
        rate = schedule.get_last_lr()[0]
        for rows in torch.randperm(len(x), generator=generator, device=generator.device).split(batch_size):
            loss = nn.functional.cross_entropy(logits_of(model, x[rows.to(x.device)]), y[rows.to(y.device)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        yield epoch, rate
