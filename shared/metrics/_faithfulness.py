"""Perturbation curves: remove features in the order of their relevance and watch the output.

Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned" (arXiv 1509.06321).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_finite, check_shape, wide
from shared.metrics._batches import at_once

ORDERS = ("morf", "lerf")
Baseline = float | Tensor | Callable[[Tensor, Tensor], Tensor]
Predict = Callable[[Tensor], Tensor]


def perturbation_curve(
    predict: Predict,
    inputs: Tensor,
    relevance: Tensor,
    target: Tensor | None = None,
    *,
    order: str = "morf",
    fractions: int | Sequence[float] = 10,
    baseline: Baseline = 0.0,
    removable: Tensor | None = None,
    channel_axis: int | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Output while features are replaced by a baseline, most ("morf") or least ("lerf") relevant first.

    Parameters
    ----------
    predict : perturbed inputs (b, ...) -> (b,), or (b, classes) with a target
        Called once per fraction and batch; a model will do.
    inputs : (B, C, H, W) images, (B, T) token ids, (B, F) features, or with `channel_axis` any other
        Finite.
    relevance : the shape of inputs without its channel axis
        Of images also (B, h, w), h and w dividing H and W: each entry stands for a patch. Ties go by position.
    target : (B,) int64, optional
        Class whose output is followed, row by row.
    order : "morf" or "lerf"
        Most or least relevant first.
    fractions : int or increasing floats
        Number of equal steps from 0 to 1, or the fractions of features to remove.
    baseline : number, Tensor or callable
        What replaces a feature: a number, a tensor that broadcasts to inputs, or a function of inputs and the removed
        features (bool, of inputs' shape) giving draws (N, *inputs.shape), over which the output is averaged
        (`KernelDensity.inpaint`). It sees all rows at once.
    removable : bool, of relevance's shape, optional
        Features that may be removed; all by default. Fractions count these, row by row.
    channel_axis : int, optional
        Axis of inputs whose entries are removed together: 1 for signals (B, C, T), −1 for embedded tokens (B, T, D).
        Needed where relevance has an axis less than inputs, unless these are images (1).
    batch_size : int, optional
        Rows, draws included, that go through `predict` at once; all by default.

    Returns
    -------
    (K, B) Tensor
        Outputs, one line per fraction.

    Raises
    ------
    ValueError
        For shapes that don't fit, NaN or infinity, other orders and fractions, a target out of range.
    """
    check_choice("order", order, ORDERS)
    job = _Job(predict, inputs, relevance, target, baseline, removable, channel_axis, batch_size)
    return job.outputs(order, _grid(fractions))


def perturbation_curves(
    predict: Predict,
    inputs: Tensor,
    relevance: Tensor,
    target: Tensor | None = None,
    *,
    fractions: int | Sequence[float] = 10,
    baseline: Baseline = 0.0,
    removable: Tensor | None = None,
    channel_axis: int | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Both orders at once; with nothing or everything removed they agree, so those fractions are computed once.

    Parameters
    ----------
    predict, inputs, relevance, target
        As in `perturbation_curve`.
    fractions, baseline, removable, channel_axis, batch_size
        As in `perturbation_curve`.

    Returns
    -------
    lerf, morf : (K, B) Tensors
        Least and most relevant first.

    Raises
    ------
    ValueError
        As `perturbation_curve`.
    """
    grid = _grid(fractions)
    job = _Job(predict, inputs, relevance, target, baseline, removable, channel_axis, batch_size)
    lerf = job.outputs("lerf", grid)
    ordered = [k for k, fraction in enumerate(grid) if 0 < fraction < 1]
    morf = lerf.clone()
    if ordered:
        morf[ordered] = job.outputs("morf", [grid[k] for k in ordered])
    return lerf, morf


def curve_area(curve: Tensor, *, fractions: int | Sequence[float] = 10) -> Tensor:
    """Area under curves over the removed fraction by the trapezoidal rule, over its range: a mean output.

    Parameters
    ----------
    curve : (K, ...) float
        Finite.
    fractions : int or increasing floats
        Those the curve was made with.

    Returns
    -------
    (...) Tensor
        In curve's unit.

    Raises
    ------
    ValueError
        For another number of fractions, NaN or infinity.
    """
    return _area("curve", curve, fractions)


def area_between(lerf: Tensor, morf: Tensor, *, fractions: int | Sequence[float] = 10) -> Tensor:
    """ΔA = A(LeRF) − A(MoRF): larger is more faithful, around 0 for a random order.

    Parameters
    ----------
    lerf, morf : (K, ...) float
        What `perturbation_curves` returns.
    fractions : int or increasing floats
        Those the curves were made with.

    Returns
    -------
    (...) Tensor
        In the output's unit.

    Raises
    ------
    ValueError
        For shapes that differ, another number of fractions, NaN or infinity.
    """
    if lerf.shape != morf.shape:
        raise ValueError(f"lerf has shape {tuple(lerf.shape)} and morf {tuple(morf.shape)}; they must be alike")
    return _area("lerf", lerf, fractions) - _area("morf", morf, fractions)


def _area(argument: str, curve: Tensor, fractions: int | Sequence[float]) -> Tensor:
    grid = torch.tensor(_grid(fractions), dtype=curve.dtype, device=curve.device)
    check_array(argument, curve, (len(grid), *curve.shape[1:]))
    return torch.trapezoid(curve, grid, dim=0) / (grid[-1] - grid[0])


@dataclass
class _Job:
    """What both orders share; arguments as in `perturbation_curve`."""

    predict: Predict
    inputs: Tensor
    relevance: Tensor
    target: Tensor | None
    baseline: Baseline
    removable: Tensor | None
    channel_axis: int | None
    batch_size: int | None

    def __post_init__(self) -> None:
        check_finite("inputs", self.inputs)
        check_finite("relevance", self.relevance)
        self.channel_axis = _channel_axis(self.inputs, self.relevance, self.channel_axis)
        _check_layout(self.inputs, self.relevance, self.channel_axis)
        if self.target is not None:
            check_shape("target", self.target, (len(self.inputs),))
        flat = self.relevance.flatten(1)
        self.allowed = torch.ones_like(flat, dtype=torch.bool)
        if self.removable is not None:
            check_shape("removable", self.removable, tuple(self.relevance.shape))
            self.allowed = self.removable.flatten(1).to(flat.device, torch.bool)

    @torch.no_grad()
    def outputs(self, order: str, grid: Sequence[float]) -> Tensor:
        """(K, B) along one order."""
        scores = wide(self.relevance.detach().flatten(1))
        ranks = _ranks(scores if order == "morf" else -scores, self.allowed)
        counts = self.allowed.sum(1, keepdim=True)
        lines = []
        for fraction in grid:
            gone = (ranks < torch.round(fraction * counts)) & self.allowed
            lines.append(self.output(_spread(gone.view(self.relevance.shape), self.inputs, self.channel_axis)))
        return torch.stack(lines)

    def output(self, removed: Tensor) -> Tensor:
        """(B,) with the removed features replaced, the mean over draws if the baseline draws."""
        inputs = self.inputs
        if not callable(self.baseline):
            value = torch.as_tensor(self.baseline, dtype=inputs.dtype, device=inputs.device)
            return self.in_batches(torch.where(removed, value, inputs), self.target)
        removed = removed.expand(inputs.shape)
        draws = self.baseline(inputs, removed)
        check_shape("baseline(inputs, removed)", draws, ("N", *inputs.shape))
        rows = torch.where(removed, draws.to(inputs), inputs).flatten(0, 1)
        targets = None if self.target is None else self.target.repeat(len(draws))
        return self.in_batches(rows, targets).unflatten(0, draws.shape[:2]).mean(0)

    def in_batches(self, rows: Tensor, targets: Tensor | None) -> Tensor:
        size = at_once(self.batch_size, len(rows))
        parts = []
        for start in range(0, len(rows), size):
            output = self.predict(rows[start : start + size])
            if targets is not None:
                output = _of_target(output, targets[start : start + size])
            check_shape("predict(inputs)", output, (len(rows[start : start + size]),))
            parts.append(output)
        return torch.cat(parts)


def _of_target(output: Tensor, target: Tensor) -> Tensor:
    check_shape("predict(inputs)", output, (len(target), "classes"))
    if target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= output.shape[1]:
        raise ValueError(f"target must hold integers from 0 to {output.shape[1] - 1}; got {target.tolist()[:8]}")
    return output.gather(1, target.to(output.device)[:, None])[:, 0]


def _grid(fractions: int | Sequence[float]) -> list[float]:
    if isinstance(fractions, int):
        if fractions < 1:
            raise ValueError(f"fractions={fractions} must be at least 1 step")
        return [step / fractions for step in range(fractions + 1)]
    grid = [float(fraction) for fraction in fractions]
    if len(grid) < 2 or any(not 0 <= f <= 1 for f in grid) or any(a >= b for a, b in pairwise(grid)):
        raise ValueError(f"fractions={grid} must be two or more increasing numbers in [0, 1]")
    return grid


def _channel_axis(inputs: Tensor, relevance: Tensor, channel_axis: int | None) -> int | None:
    """Counted from the front; None if relevance has an entry for each of inputs'."""
    if channel_axis is None:
        if relevance.ndim == inputs.ndim - 1 and inputs.ndim not in (2, 4):
            raise ValueError(
                f"inputs has shape {tuple(inputs.shape)} and relevance {tuple(relevance.shape)}; pass channel_axis, "
                "e.g. 1 for signals (B, C, T) and -1 for embedded tokens (B, T, D)"
            )
        return 1 if relevance.ndim == inputs.ndim - 1 else None
    axis = channel_axis % inputs.ndim if -inputs.ndim < channel_axis < inputs.ndim else 0
    if axis == 0:
        raise ValueError(f"channel_axis={channel_axis} is no axis of rows of inputs, which has {tuple(inputs.shape)}")
    return axis


def _check_layout(inputs: Tensor, relevance: Tensor, channel_axis: int | None) -> None:
    places = [size for axis, size in enumerate(inputs.shape) if axis != channel_axis]
    parts = tuple(relevance.shape)
    if inputs.ndim < 2 or len(places) < 2 or len(parts) != len(places) or parts[0] != places[0]:
        raise ValueError(f"relevance has shape {parts}; inputs of shape {tuple(inputs.shape)} need {tuple(places)}")
    if len(places) == 2 and parts != tuple(places):
        raise ValueError(f"relevance has shape {parts}; inputs of shape {tuple(inputs.shape)} need {tuple(places)}")
    if any(place % part for place, part in zip(places, parts)):
        raise ValueError(f"relevance has shape {parts}; from the second on its sizes must divide inputs' {places}")


def _ranks(scores: Tensor, allowed: Tensor) -> Tensor:
    """0 for the feature that goes first, (B, F); features that may not be removed come last."""
    order = scores.masked_fill(~allowed, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _spread(mask: Tensor, inputs: Tensor, channel_axis: int | None) -> Tensor:
    """Bring a mask over features to a shape that broadcasts over `inputs`."""
    mask = mask.to(inputs.device)
    sizes = [size for axis, size in enumerate(inputs.shape) if axis != channel_axis]
    for axis, size in enumerate(sizes):
        if mask.shape[axis] != size:
            mask = mask.repeat_interleave(size // mask.shape[axis], axis)
    return mask if channel_axis is None else mask.unsqueeze(channel_axis)
