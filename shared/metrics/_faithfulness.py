"""Perturbation curves: remove features in the order of their relevance and watch the output.

Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned" (arXiv 1509.06321).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from shared._checks import check_choice, check_finite, check_shape

ORDERS = ("morf", "lerf")
Baseline = float | Tensor | Callable[[Tensor, Tensor], Tensor]


def perturbation_curve(
    predict: Callable[[Tensor], Tensor],
    inputs: Tensor,
    relevance: Tensor,
    *,
    order: str = "morf",
    fractions: int | Sequence[float] = 10,
    baseline: Baseline = 0.0,
    removable: Tensor | None = None,
) -> Tensor:
    """Output while features are replaced by a baseline, most ("morf") or least ("lerf") relevant first.

    Parameters
    ----------
    predict : maps perturbed inputs, of `inputs`' shape, to one number per row, (B,), e.g. the logit of each row's
        target. It is called once per fraction with the whole batch.
    inputs : (B, C, H, W) images, (B, T, D) token embeddings, (B, T) token ids or (B, F) features.
    relevance : (B, h, w) for images, h and w dividing H and W (each entry stands for a patch); else (B, T) or (B, F).
    fractions : number of equal steps from 0 to 1, or the fractions of features to remove.
    baseline : what replaces a feature; a number, a tensor that broadcasts to `inputs`, or a function of the inputs and
        the removed features (bool, of inputs' shape) that returns replacements (N, *inputs.shape): the output is then
        the mean over these N draws (`KernelDensity.inpaint`).
    removable : bool, of relevance's shape: which features may be removed (all). Fractions count these, row by row.

    Returns
    -------
    (K, B) outputs, one row per fraction. Ties in relevance are broken by position.
    """
    check_choice("order", order, ORDERS)
    check_finite("inputs", inputs)
    check_finite("relevance", relevance)
    _check_layout(inputs, relevance)
    if removable is not None:
        check_shape("removable", removable, tuple(relevance.shape))
    return _perturb(predict, inputs, relevance, order, _grid(fractions), baseline, removable)


def perturbation_curves(
    predict: Callable[[Tensor], Tensor],
    inputs: Tensor,
    relevance: Tensor,
    *,
    fractions: int | Sequence[float] = 10,
    baseline: Baseline = 0.0,
    removable: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Both orders, (LeRF, MoRF), each (K, B); arguments as in `perturbation_curve`.

    With nothing or everything removed the order makes no difference, so those fractions are computed once.
    """
    grid = _grid(fractions)
    options = {"baseline": baseline, "removable": removable}
    lerf = perturbation_curve(predict, inputs, relevance, order="lerf", fractions=grid, **options)
    ordered = [k for k, fraction in enumerate(grid) if 0 < fraction < 1]
    morf = lerf.clone()
    if ordered:
        between = [grid[k] for k in ordered]
        morf[ordered] = _perturb(predict, inputs, relevance, "morf", between, baseline, removable)
    return lerf, morf


def curve_area(curve: Tensor, fractions: int | Sequence[float] = 10) -> Tensor:
    """Area under curves (K, ...) over the removed fraction by the trapezoidal rule, over its range: a mean output.

    `fractions` must be those the curve was made with. Returns curve's shape without its first dimension.
    """
    return _area("curve", curve, fractions)


def area_between(lerf: Tensor, morf: Tensor, fractions: int | Sequence[float] = 10) -> Tensor:
    """ΔA = A(LeRF) − A(MoRF) of two sets of curves (K, ...): larger is more faithful, around 0 for a random order."""
    check_shape("morf", morf, tuple(lerf.shape))
    return _area("lerf", lerf, fractions) - _area("morf", morf, fractions)


def _area(argument: str, curve: Tensor, fractions: int | Sequence[float]) -> Tensor:
    grid = torch.tensor(_grid(fractions), dtype=curve.dtype, device=curve.device)
    check_shape(argument, curve, (len(grid), *curve.shape[1:]))
    check_finite(argument, curve)
    return torch.trapezoid(curve, grid, dim=0) / (grid[-1] - grid[0])


@torch.no_grad()
def _perturb(
    predict: Callable[[Tensor], Tensor],
    inputs: Tensor,
    relevance: Tensor,
    order: str,
    grid: Sequence[float],
    baseline: Baseline,
    removable: Tensor | None,
) -> Tensor:
    """Outputs (K, B) along one order; arguments are checked."""
    flat = relevance.detach().flatten(1).double()
    allowed = torch.ones_like(flat, dtype=torch.bool)
    if removable is not None:
        allowed = removable.flatten(1).to(flat.device, torch.bool)
    ranks = _ranks(flat if order == "morf" else -flat, allowed)
    counts = allowed.sum(1, keepdim=True)
    outputs = []
    for fraction in grid:
        removed = (ranks < torch.round(fraction * counts)) & allowed
        outputs.append(_output(predict, inputs, _spread(removed.view(relevance.shape), inputs), baseline))
    return torch.stack(outputs)


def _output(predict: Callable[[Tensor], Tensor], inputs: Tensor, removed: Tensor, baseline: Baseline) -> Tensor:
    """Outputs (B,) with the removed features replaced, the mean over draws if the baseline draws."""
    if not callable(baseline):
        value = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device)
        output = predict(torch.where(removed, value, inputs))
        check_shape("predict(inputs)", output, (len(inputs),))
        return output
    removed = removed.expand(inputs.shape)
    draws = baseline(inputs, removed)
    check_shape("baseline(inputs, removed)", draws, ("N", *inputs.shape))
    output = predict(torch.where(removed, draws.to(inputs), inputs).flatten(0, 1))
    check_shape("predict(inputs)", output, (draws.shape[0] * draws.shape[1],))
    return output.unflatten(0, draws.shape[:2]).mean(0)


def _grid(fractions: int | Sequence[float]) -> list[float]:
    if isinstance(fractions, int):
        if fractions < 1:
            raise ValueError(f"fractions={fractions} must be at least 1 step")
        return [step / fractions for step in range(fractions + 1)]
    grid = [float(fraction) for fraction in fractions]
    if len(grid) < 2 or any(not 0 <= f <= 1 for f in grid) or any(a >= b for a, b in pairwise(grid)):
        raise ValueError(f"fractions={grid} must be two or more increasing numbers in [0, 1]")
    return grid


def _check_layout(inputs: Tensor, relevance: Tensor) -> None:
    batch = inputs.shape[0]
    if inputs.ndim == 4:
        height, width = inputs.shape[2:]
        check_shape("relevance", relevance, (batch, "h", "w"))
        if height % relevance.shape[1] or width % relevance.shape[2]:
            raise ValueError(
                f"relevance has shape {tuple(relevance.shape)}; its h and w must divide the image's {height} x {width}"
            )
    elif inputs.ndim in (2, 3):
        check_shape("relevance", relevance, (batch, inputs.shape[1]))
    else:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}; expected (B, C, H, W), (B, T, D) or (B, F)")


def _ranks(scores: Tensor, allowed: Tensor) -> Tensor:
    """0 for the feature that goes first, (B, F); features that may not be removed come last."""
    order = scores.masked_fill(~allowed, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _spread(mask: Tensor, inputs: Tensor) -> Tensor:
    """Bring a mask over features to a shape that broadcasts over `inputs`."""
    mask = mask.to(inputs.device)
    if inputs.ndim == 4:
        down, across = inputs.shape[2] // mask.shape[1], inputs.shape[3] // mask.shape[2]
        return mask.repeat_interleave(down, 1).repeat_interleave(across, 2).unsqueeze(1)
    return mask.unsqueeze(-1) if inputs.ndim == 3 else mask
