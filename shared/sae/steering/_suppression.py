"""Which latents to suppress, and as many others for the control (Joseph et al. 2025, arXiv 2504.08729)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from shared._checks import check_array, check_finite, check_range, check_shape
from shared.sae.steering._index import as_index, within


def code_contrast(codes: Tensor, attribute: Tensor, *, standardise: bool = False) -> Tensor:
    """Mean code where the attribute is there less the mean where it isn't.

    Parameters
    ----------
    codes : Tensor
        `(n, d_sae)` or `(n, T, d_sae)`; of tokens the mean is taken first.
    attribute : Tensor
        Bool `(n,)`, with both values.
    standardise : bool
        Divide by the pooled standard deviation within the two groups.

    Returns
    -------
    Tensor
        `(d_sae,)`; NaN for latents always silent.

    Raises
    ------
    ValueError
        An attribute that is the same for all rows, or shapes that don't fit.
    """
    rows = _per_image(codes)
    check_shape("attribute", attribute, (len(rows),))
    there = attribute.to(rows.device).bool()
    if bool(there.all()) or not bool(there.any()):
        raise ValueError(f"attribute is {bool(there.all())} for all {len(rows)} rows; both values are needed")
    score = rows[there].mean(0) - rows[~there].mean(0)
    if standardise:
        inner = torch.where(there[:, None], rows - rows[there].mean(0), rows - rows[~there].mean(0))
        score = score / inner.square().mean(0).sqrt().clamp_min(torch.finfo(rows.dtype).tiny)
    return torch.where((rows != 0).any(0), score, torch.nan)


def rank_by_contrast(
    codes: Tensor,
    attribute: Tensor,
    *,
    standardise: bool = False,
    target: Tensor | None = None,
    exclude: Iterable[int] = (),
) -> Tensor:
    """Latents that go with an unwanted attribute, the strongest first.

    Only latents that are more active with the attribute than without are listed (`code_contrast` above zero).

    Parameters
    ----------
    codes : Tensor
        As in `code_contrast`.
    attribute : Tensor
        Bool `(n,)`, as there.
    standardise : bool
        As there.
    target : Tensor, optional
        Int `(n,)`, the classes to keep telling apart: latents whose class means differ by at least as much as they do
        by the attribute are left out.
    exclude : iterable of int
        Latents to leave out.

    Returns
    -------
    Tensor
        Int64 `(at most d_sae,)`.
    """
    score = code_contrast(codes, attribute, standardise=standardise)
    keep = score > 0  # NaN never is
    if target is not None:
        keep &= ~(_spread(_per_image(codes), target) >= code_contrast(codes, attribute).abs())
    keep[within(as_index(exclude), score)] = False
    order = torch.where(keep, score, -math.inf).argsort(descending=True, stable=True)
    return order[: int(keep.sum())]


def match_mass(mass: Tensor, chosen: Tensor, *, generator: torch.Generator, candidates: int = 10) -> Tensor:
    """For each chosen latent another one of about the same mean activation.

    The control for suppression: random latents that take as much out of the activation.

    Parameters
    ----------
    mass : Tensor
        `(d_sae,)` mean activation; silent latents are not drawn.
    chosen : Tensor
        Int `(n,)`; they are not drawn either, and none is drawn twice.
    generator : torch.Generator
        Of the draws, on the CPU.
    candidates : int
        Nearest latents among which each is drawn.

    Returns
    -------
    Tensor
        Int64 `(n,)`.
    """
    check_array("mass", mass, ("d_sae",))
    check_array("chosen", chosen, ("n",))
    check_range("candidates", candidates, 1)
    chosen = within(as_index(chosen.tolist()), mass).to(mass.device)
    free = mass > 0
    free[chosen] = False
    if int(free.sum()) < len(chosen):
        raise ValueError(f"chosen has {len(chosen)} latents; only {int(free.sum())} others are ever active")
    drawn = []
    for latent in chosen.tolist():  # one after the other, as each draw uses one up
        distance = torch.where(free, (mass - mass[latent]).abs(), math.inf)
        near = distance.topk(min(candidates, int(free.sum())), largest=False).indices
        pick = int(near[torch.randint(len(near), (1,), generator=generator)])
        free[pick] = False
        drawn.append(pick)
    return torch.tensor(drawn, dtype=torch.int64, device=mass.device)


def _per_image(codes: Tensor) -> Tensor:
    if codes.ndim not in (2, 3):
        raise ValueError(f"codes has shape {tuple(codes.shape)}; expected (n, d_sae) or (n, T, d_sae)")
    check_finite("codes", codes)
    return codes.mean(1) if codes.ndim == 3 else codes


def _spread(rows: Tensor, target: Tensor) -> Tensor:
    """Largest less smallest class mean of each latent, `(d_sae,)`."""
    check_shape("target", target, (len(rows),))
    classes, which = target.to(rows.device).unique(return_inverse=True)
    member = torch.nn.functional.one_hot(which, len(classes)).to(rows)
    means = member.T @ rows / member.sum(0)[:, None]
    return means.amax(0) - means.amin(0)
