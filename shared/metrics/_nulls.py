"""Nulls for explanations: a map without what it says of places, with everything else."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_array, check_shape


def shuffled_relevance(relevance: Tensor, *, generator: torch.Generator, among: Tensor | None = None) -> Tensor:
    """Each row's relevance in random order: the same values, norm and sparsity, at other places.

    Parameters
    ----------
    relevance : (B, ...) float
        One map per row.
    generator : torch.Generator
        On the CPU.
    among : bool, of relevance's shape, optional
        Features that exchange their relevance; the others keep theirs. All by default.

    Returns
    -------
    Tensor of relevance's shape and device

    Raises
    ------
    ValueError
        For relevance with less than two axes or with NaN or infinity, and `among` of another shape.
    """
    flat = relevance.flatten(1) if relevance.ndim > 1 else relevance
    check_array("relevance", flat, ("B", "F"))
    if among is None:
        among = torch.ones_like(relevance, dtype=torch.bool)
    check_shape("among", among, tuple(relevance.shape))
    moved = among.flatten(1).to(flat.device, torch.bool)
    draws = torch.rand(flat.shape, generator=generator).to(flat.device)
    order = draws.masked_fill(~moved, 2.0).argsort(1)  # those that move come first, in random order
    places = moved.int().argsort(dim=1, descending=True, stable=True)  # and so do their places, in order
    new = flat.scatter(1, places, flat.gather(1, order))
    return torch.where(moved, new, flat).view_as(relevance)
