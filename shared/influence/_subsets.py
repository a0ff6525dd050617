"""Random subsets of the training data, for the linear datamodeling score."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_range


def random_subsets(n: int, m: int, share: float, generator: torch.Generator) -> Tensor:
    """Random subsets of the training data, all of one size.

    Parameters
    ----------
    n : int
        Training points.
    m : int
        Subsets.
    share : float
        Of the points in each subset.
    generator : torch.Generator
        Of the draws.

    Returns
    -------
    Tensor
        Bool `(m, n)`.
    """
    check_range("share", share, 0.0, 1.0)
    order = torch.rand(m, n, generator=generator).argsort(1)
    return torch.zeros(m, n, dtype=torch.bool).scatter_(1, order[:, : int(share * n)], True)
