"""Edits of codes, for `splice` and `edit_codes`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from shared._checks import check_finite
from shared.sae.steering._index import as_index, within

Edit = Callable[[Tensor], Tensor]


def set_feature(feature: int | Iterable[int], strength: float | Iterable[float]) -> Edit:
    """Edit that sets some latents.

    Parameters
    ----------
    feature : int or iterable of int
        The latents.
    strength : float or iterable of float
        Their new codes: one number, or one per latent.

    Returns
    -------
    callable
        From codes `(…, d_sae)` to changed ones.
    """
    index = as_index(feature)
    value = torch.as_tensor(strength if _is_number(strength) else list(strength)).float()
    check_finite("strength", value)
    if value.ndim and value.shape != index.shape:
        raise ValueError(f"strength has {len(value)} numbers; feature has {len(index)}: give one, or one per latent")

    def change(codes: Tensor) -> Tensor:
        new = codes.clone()
        new[..., within(index, codes)] = value.to(codes)
        return new

    return change


def scale_feature(feature: int | Iterable[int], factor: float) -> Edit:
    """Edit that multiplies some latents.

    Parameters
    ----------
    feature : int or iterable of int
        The latents.
    factor : float
        1 is the identity.

    Returns
    -------
    callable
        From codes `(…, d_sae)` to changed ones.
    """
    index = as_index(feature)
    check_finite("factor", torch.as_tensor(float(factor)))

    def change(codes: Tensor) -> Tensor:
        new = codes.clone()
        new[..., within(index, codes)] *= factor
        return new

    return change


def suppress(features: int | Iterable[int]) -> Edit:
    """Edit that sets entries of the last axis to zero: latents (for `splice`) or neurons (for `hooks.edit`).

    Parameters
    ----------
    features : int or iterable of int
        The entries; of none it is the identity.

    Returns
    -------
    callable
        From `(…, D)` to the same shape.
    """
    return set_feature(features, 0.0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim == 0)
