"""One row per sample from feature maps or tokens."""

from __future__ import annotations

from torch import Tensor

from shared._checks import check_choice, check_finite, check_shape
from shared.hooks._channels import resolve_axis

POOLS = ("none", "mean", "max", "cls", "last")


def pool(activation: Tensor, how: str, *, channel_axis: int | None = None, mask: Tensor | None = None) -> Tensor:
    """One row per sample, (B, D), of an activation.

    Parameters
    ----------
    activation : (B, D), or more axes: maps (B, D, H, W), tokens (B, T, D).
    how : over positions "mean" or "max"; of tokens the first, "cls", or the "last"; "none" takes (B, D) only.
    channel_axis : 1 for maps, -1 for tokens; not needed for (B, D).
    mask : (B, T), true or 1 at the tokens that count; padding is left out.

    Returns
    -------
    (B, D).
    """
    check_finite("activation", activation)
    axis = resolve_axis(activation, channel_axis)
    if mask is not None:
        check_finite("mask", mask)
    return pool_unchecked(activation, how, axis, mask)


def pool_unchecked(activation: Tensor, how: str, axis: int, mask: Tensor | None = None) -> Tensor:
    """`pool` with a known axis and without a look at every number: for hooks, which run in each forward pass."""
    check_choice("pool", how, POOLS)
    if activation.ndim == 2:
        return activation
    if how == "none" or (how in ("cls", "last") and activation.ndim != 3):
        raise ValueError(
            f"activation has shape {tuple(activation.shape)}, which can't be pooled by {how!r}; accepted: (B, D); more "
            "axes with 'mean' or 'max'; tokens (B, T, D) with 'cls' or 'last' too"
        )
    if mask is not None:
        return _masked(activation.movedim(axis, -1), how, mask)
    if axis == 1:
        rows, over = activation.flatten(2), 2
    else:
        rows, over = activation.movedim(axis, -1).flatten(1, -2), 1
    if how in ("mean", "max"):
        return rows.mean(over) if how == "mean" else rows.amax(over)
    return rows.select(over, 0 if how == "cls" else -1)


def _masked(tokens: Tensor, how: str, mask: Tensor) -> Tensor:
    if tokens.ndim != 3:
        raise ValueError(f"mask is for tokens (B, T, D); the activation has shape {tuple(tokens.shape)}")
    check_shape("mask", mask, tuple(tokens.shape[:2]))
    mask = mask.to(tokens.device).bool()
    if not bool(mask.any(1).all()):
        raise ValueError("mask leaves a row without tokens")
    if how == "max":
        return tokens.masked_fill(~mask[..., None], -float("inf")).amax(1)
    if how == "mean":
        return (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    places = mask.int().argmax(1) if how == "cls" else mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return tokens[range(len(tokens)), places]
