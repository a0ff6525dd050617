"""Columns on one scale."""

from __future__ import annotations

from torch import Tensor

from shared._checks import check_finite, check_range, check_shape


def standardised(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Columns of mean 0 and deviation 1, and others shifted and scaled by the first's: training rows, then the rest.

    Parameters
    ----------
    x : (n, d) or (n,) float
        At least two rows. Deviations divide by n - 1 and are at least 1e-6.
    *others : of the same columns

    Returns
    -------
    tuple of Tensor
        One for each that was given.
    """
    check_finite("x", x)
    if x.ndim not in (1, 2):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, d) or (n,)")
    check_range("x's number of rows", len(x), 2)
    for other in others:
        check_shape("others", other, ("m", *x.shape[1:]))
    mean = x.mean(0)
    deviation = x.std(0).clamp(min=1e-6)
    return tuple((part - mean) / deviation for part in (x, *others))
