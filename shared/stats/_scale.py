"""Columns on one scale."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared._checks import check_finite, check_range, check_shape


def standardised(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Columns of mean 0 and deviation 1, and others shifted and scaled by the first's: training rows, then the rest.

    Parameters
    ----------
    x : (n, d) or (n,) float
        At least two rows. Deviations divide by n - 1; a constant column becomes 0, of the others too.
    *others : of the same columns

    Returns
    -------
    tuple of Tensor
        One for each that was given.
    """
    scale = deviations(x)
    for other in others:
        check_shape("others", other, ("m", *x.shape[1:]))
    mean = x.mean(0)
    return tuple((part - mean) / scale for part in (x, *others))


def deviations(x: Tensor) -> Tensor:
    """Standard deviation of each column in whatever unit, infinite where it is rounding only.

    So `x / deviations(x)` of a constant column is 0, and its coefficient too.

    Parameters
    ----------
    x : (n, d) or (n,) float
        At least two rows.

    Returns
    -------
    Tensor
        (d,) or a number.
    """
    check_finite("x", x)
    if x.ndim not in (1, 2):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, d) or (n,)")
    check_range("x's number of rows", len(x), 2)
    deviation = x.std(0)
    rounding = 4 * torch.finfo(x.dtype).eps * x.abs().amax(0)
    return torch.where(deviation > rounding, deviation, torch.inf)


def unit_norm(x: Tensor, *, dim: int = -1) -> Tensor:
    """Vectors of length 1, whatever their unit (torch's `normalize` has a least length of 1e-12); zero stays zero.

    Parameters
    ----------
    x : (..., d, ...) float
        Vectors.
    dim : int
        Their axis.

    Returns
    -------
    Tensor
        As `x`.
    """
    largest = x.abs().amax(dim, keepdim=True)
    return normalize(x / torch.where(largest > 0, largest, 1), dim=dim)
