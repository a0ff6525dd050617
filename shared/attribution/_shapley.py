"""Shapley values by sampled permutations, of all outputs of a function at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shared._checks import check_finite, check_range


@torch.no_grad()
def shapley_values(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    permutations: int = 10,
    baseline: float | Tensor = 0.0,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """What each feature adds when features arrive in random order (Castro et al. 2009).

    Parameters
    ----------
    function : `(N, *S)` -> `(N,)` or several outputs `(N, F)`, row by row.
    x : float `(B, *S)`, D features each.
    permutations : orders drawn per row, >= 1; each costs D + 1 evaluations of the row.
    baseline : what an absent feature is; a number, or a tensor that broadcasts to x.
    generator : draws the orders, on its own device.
    batch_size : rows of the function at once, all by default.

    Returns
    -------
    `(B, *S)`, or `(B, F, *S)` for several outputs. Sums over features to `function(x) - function(baseline)`.

    Raises
    ------
    ValueError
        Bad input, fewer than one permutation, a baseline that doesn't broadcast.
    """
    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, ...) with at least one axis of features")
    check_finite("x", x)
    check_range("permutations", permutations, 1)
    start = _flat_baseline(baseline, x)
    flat = x.flatten(1)
    total: Tensor | float = 0.0
    for _ in range(permutations):
        rank = _ranks(*flat.shape, generator).to(x.device)
        arrived = rank[:, None] < torch.arange(flat.shape[1] + 1, device=x.device)[:, None]  # (B, D + 1, D)
        rows = torch.where(arrived, flat[:, None], start[:, None]).flatten(0, 1).unflatten(1, x.shape[1:])
        values = torch.cat([function(part) for part in rows.split(batch_size or len(rows))])
        outputs = values.reshape(len(x), flat.shape[1] + 1, -1)
        gained = outputs.diff(dim=1).transpose(1, 2)  # (B, F, D) in the order of arrival
        total = total + gained.gather(2, rank[:, None].expand(gained.shape))
    mean = (total / permutations).unflatten(-1, x.shape[1:])
    return mean if values.ndim > 1 else mean[:, 0]


def _ranks(rows: int, features: int, generator: torch.Generator | None) -> Tensor:
    """When each feature arrives: an order of its own per row, `(rows, features)`."""
    device = "cpu" if generator is None else generator.device
    order = torch.rand(rows, features, generator=generator, device=device).argsort(1)
    return torch.empty_like(order).scatter_(1, order, torch.arange(features, device=device).expand(rows, features))


def _flat_baseline(baseline: float | Tensor, x: Tensor) -> Tensor:
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
    try:
        return start.expand(x.shape).flatten(1)
    except RuntimeError:
        raise ValueError(f"baseline of shape {tuple(start.shape)} doesn't broadcast to x {tuple(x.shape)}") from None
