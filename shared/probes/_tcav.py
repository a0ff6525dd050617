"""Concept sensitivity: TCAV for many directions at the price of one gradient (Kim et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_shape
from shared.probes._direction import Direction, stack_as
from shared.probes._inputs import channel_axis, pool_unchecked


def activations(
    model: nn.Module, layers: str | Sequence[str], x: Tensor, *, pooling: str = "mean", batch_size: int = 256
) -> Tensor | dict[str, Tensor]:
    """Pooled activations (n, d) of a layer, or a dict of them, in batches and without gradients."""
    check_finite("x", x)
    names = [layers] if isinstance(layers, str) else list(layers)
    device = _device(model, x)
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.no_grad(), hooks.capture(model, names) as seen:
        for batch in x.split(batch_size):
            model(batch.to(device))
            for name in names:
                kept[name].append(pool_unchecked(seen[name], pooling))
    found = {name: torch.cat(parts) for name, parts in kept.items()}
    return found[layers] if isinstance(layers, str) else found


def layer_gradients(
    model: nn.Module, layer: str, x: Tensor, target: int | Tensor, *, reduce: str = "mean", batch_size: int = 128
) -> Tensor:
    """Gradient of the target's logit by the layer's output, per sample.

    reduce : over positions or tokens: "mean", "sum" (the effect of a shift everywhere), or "none".
    Returns (n, d), or the output's own shape for "none".
    """
    check_choice("reduce", reduce, ("mean", "sum", "none"))
    check_finite("x", x)
    device, parts = _device(model, x), []
    targets = torch.as_tensor(target).expand(len(x)) if not torch.as_tensor(target).ndim else torch.as_tensor(target)
    check_shape("target", targets, (len(x),))
    for batch, wanted in zip(x.split(batch_size), targets.split(batch_size)):
        with torch.enable_grad(), hooks.capture(model, layer, detach=False) as seen:
            logits = hooks.first_tensor(model(batch.to(device).detach().requires_grad_()))
            chosen = logits.gather(1, wanted.to(device)[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, seen[layer])
        parts.append(gradient.detach())
    gradient = torch.cat(parts)
    if reduce == "none" or gradient.ndim == 2:
        return gradient
    axes = tuple(a for a in range(1, gradient.ndim) if a != channel_axis(gradient))
    return gradient.mean(axes) if reduce == "mean" else gradient.sum(axes)


def _device(model: nn.Module, x: Tensor) -> torch.device:
    first = next(model.parameters(), None)
    return x.device if first is None else first.device


@dataclass(frozen=True)
class TCAVResult:
    """Per direction (k,): `score` is the share of samples that the concept pushes towards the class; `magnitude` the
    share of the absolute sensitivity that is positive; `ties` how many sensitivities were exactly zero; `stderr` the
    score's standard error over samples. `per_sample` is the sensitivity (n, k), or (n, positions, k)."""

    score: Tensor
    magnitude: Tensor
    ties: Tensor
    stderr: Tensor
    per_sample: Tensor


def tcav_scores(gradients: Tensor, vectors: Tensor | Sequence[Direction], *, ties: str = "drop") -> TCAVResult:
    """TCAV of directions (k, d) from gradients (n, d), or (n, d, h, w) / (n, T, d), then every position counts.

    ties : "drop" leaves exact zeros out, "negative" counts them against the concept (as captum does).
    """
    check_choice("ties", ties, ("drop", "negative"))
    check_finite("gradients", gradients)
    if gradients.ndim not in (2, 3, 4):
        raise ValueError(f"gradients has shape {tuple(gradients.shape)}; expected (n, d), (n, T, d) or (n, d, h, w)")
    return _scores("vectors", gradients, vectors, ties)


def _scores(argument: str, gradients: Tensor, vectors: Tensor | Sequence[Direction], ties: str) -> TCAVResult:
    """`tcav_scores` of what the caller calls `argument`."""
    V = stack_as(argument, vectors).to(gradients)
    moved = gradients.movedim(channel_axis(gradients), -1)
    check_shape(argument, V, ("k", moved.shape[-1]))
    per_sample = (moved @ V.T).flatten(1, -2) if moved.ndim > 2 else moved @ V.T
    S = per_sample.reshape(-1, len(V)).double()
    up, zero = (S > 0).sum(0), (S == 0).sum(0)
    total = (len(S) - zero if ties == "drop" else torch.full_like(zero, len(S))).double()
    score = up / total
    absolute = S.abs().sum(0)
    return TCAVResult(
        score=score,
        magnitude=S.clamp(min=0).sum(0) / absolute,
        ties=zero,
        stderr=(score * (1 - score) / total).sqrt(),
        per_sample=per_sample,
    )


def tcav(
    model: nn.Module,
    layer: str,
    x: Tensor,
    target: int,
    directions: Direction | Sequence[Direction] | Tensor,
    *,
    reduce: str = "mean",
    ties: str = "drop",
    batch_size: int = 128,
) -> TCAVResult:
    """TCAV of directions at a layer for samples x and one class: one backward pass whatever their number.

    Raises `ValueError` for an unknown layer (with the closest names) and for a direction of another layer or size.
    """
    several = [directions] if isinstance(directions, Direction) else directions
    check_choice("ties", ties, ("drop", "negative"))
    check_layer(several, layer)
    gradients = layer_gradients(model, layer, x, target, reduce=reduce, batch_size=batch_size)
    check_finite("gradients", gradients)
    return _scores("directions", gradients, several, ties)


def check_layer(directions: Sequence[Direction] | Tensor, layer: str) -> None:
    """Raise `ValueError` for a direction that was fitted at another layer."""
    if isinstance(directions, Tensor):
        return
    other = sorted({d.layer for d in directions if d.layer and d.layer != layer})
    if other:
        raise ValueError(f"layer={layer!r} but the directions were fitted at {', '.join(map(repr, other))}")


@dataclass(frozen=True)
class TCAVTest:
    """Outcome of `tcav_test`: mean scores, Welch's t and its two-sided p-value."""

    score: float
    random_score: float
    t: float
    p_value: float


def tcav_test(scores: Tensor, random_scores: Tensor) -> TCAVTest:
    """Whether a concept's TCAV scores (one per non-concept set) differ from those of random "concepts".

    Both (m,), m >= 2. The protocol of Kim et al. 2018: each score comes from a fresh non-concept set, the random
    ones from two random sets against each other; two-sided Welch t-test. Equal constant scores give p = 1, different
    constant ones p = 0.
    """
    first, second = np.asarray(scores, dtype=float), np.asarray(random_scores, dtype=float)
    check_array("scores", first, ("m",))
    check_array("random_scores", second, ("m",))
    if min(len(first), len(second)) < 2:
        raise ValueError(f"scores has {len(first)} and random_scores {len(second)} values; at least two each")
    if first.std() == 0 and second.std() == 0:
        same = first[0] == second[0]
        return TCAVTest(first.mean(), second.mean(), 0.0 if same else np.inf, 1.0 if same else 0.0)
    t, p = stats.ttest_ind(first, second, equal_var=False)
    return TCAVTest(float(first.mean()), float(second.mean()), float(t), float(p))
