"""`Direction`: a concept vector with what it needs to be used later: layer, pooling, class means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_shape
from shared.probes._estimators import METHODS, Probe, class_means
from shared.probes._factor import SharedFactor
from shared.probes._inputs import as_activations, as_labels, as_rows, pool_unchecked


@dataclass(frozen=True)
class Direction:
    """A concept's direction at one layer, pointing from non-concept to concept.

    vector : (d,) of unit length, single precision; scale : its length before; intercept : of the raw probe;
    mean_pos, mean_neg : (d,) mean pooled activations of the two sets; pool : how activations were pooled;
    n : number of concept and non-concept samples; layer : module name, or "" if not told.
    """

    vector: Tensor
    scale: float
    intercept: float
    mean_pos: Tensor
    mean_neg: Tensor
    method: str
    pool: str = "none"
    layer: str = ""
    n: tuple[int, int] = (0, 0)
    name: str = ""

    def project(self, H: Tensor) -> Tensor:
        """Projections (n,) of activations (n, d), pooled first where they are maps or tokens."""
        pooled = pool_unchecked(H, self.pool, "H")
        check_shape("H", pooled, ("n", len(self.vector)))
        return pooled @ self.vector.to(pooled)

    def decision(self, H: Tensor) -> Tensor:
        """The raw probe's decision values (n,)."""
        return self.scale * self.project(H) + self.intercept

    @property
    def gap(self) -> float:
        """Distance of the class means along the direction: a natural unit for steering."""
        return float((self.mean_pos - self.mean_neg).double() @ self.vector.double())


def fit_directions(
    H: Any,
    Y: Any,
    method: str = "pattern",
    *,
    pool: str = "none",
    layer: str = "",
    names: Sequence[str] | None = None,
    standardise: bool = False,
    factor: SharedFactor | None = None,
    **options: Any,
) -> list[Direction]:
    """One `Direction` per column of labels Y (n, k), all from one fit.

    H : activations (n, d), or maps (n, d, h, w) / tokens (n, T, d), then pooled by `pool` (which the direction keeps).
    method : one of `METHODS`; `options` go to its estimator, e.g. `alpha=`, `C=`, `shrinkage=`.
    standardise : fit on activations divided by their standard deviations, and map the direction back.
    """
    estimator: Probe = METHODS[check_choice("method", method, METHODS)](**options)
    activations = as_activations(_pooled(H, pool))
    labels, _ = as_labels(Y, activations, "Y", least=2)
    if names is not None and len(names) != labels.shape[1]:
        raise ValueError(f"names has {len(names)} entries; Y has {labels.shape[1]} columns")
    deviation = activations.std(0).clamp(min=1e-12) if standardise else activations.new_ones(activations.shape[1])
    if standardise and factor is not None:
        raise ValueError("factor is of raw activations; with standardise=True leave it out")
    estimator.fit(activations / deviation, labels, factor=factor)
    concept, other, _ = class_means(activations, labels)
    coef = estimator.coef_ / deviation
    size = coef.norm(dim=1)
    counts = labels.sum(0).long().tolist()
    return [
        Direction(
            vector=(coef[k] / size[k]).float(),
            scale=float(size[k]),
            intercept=float(estimator.intercept_[k]),
            mean_pos=concept[k].float(),
            mean_neg=other[k].float(),
            method=method,
            pool=pool,
            layer=layer,
            n=(counts[k], len(labels) - counts[k]),
            name=names[k] if names else "",
        )
        for k in range(labels.shape[1])
    ]


def fit_direction(H: Any, y: Any, method: str = "pattern", *, name: str = "", **options: Any) -> Direction:
    """The `Direction` of one concept, labels y (n,); everything else as `fit_directions`."""
    column = torch.as_tensor(y)
    if column.ndim != 1:
        raise ValueError(f"y has shape {tuple(column.shape)}; expected (n,); fit_directions takes several concepts")
    check_array("y", column, (len(H),))
    return fit_directions(H, column[:, None], method, names=[name], **options)[0]


def stack(directions: Sequence[Direction] | Tensor) -> Tensor:
    """Vectors (k, d) of directions that belong to one layer and one pooling; a tensor (k, d) or (d,) passes."""
    return stack_as("directions", directions)


def stack_as(argument: str, directions: Sequence[Direction] | Tensor) -> Tensor:
    """`stack` of what the caller calls `argument`."""
    if isinstance(directions, Tensor):
        return as_rows(argument, directions)
    if not directions:
        raise ValueError(f"{argument} is empty; at least one is needed")
    layers, pools = {d.layer for d in directions if d.layer}, {d.pool for d in directions}
    if len(layers) > 1 or len(pools) > 1:
        raise ValueError(f"{argument} come from different layers {sorted(layers)} or poolings {sorted(pools)}")
    sizes = {len(d.vector) for d in directions}
    if len(sizes) > 1:
        raise ValueError(f"{argument} have different sizes: {sorted(sizes)}")
    return torch.stack([d.vector for d in directions])


def _pooled(H: Any, how: str) -> Tensor:
    return pool_unchecked(torch.as_tensor(H), how, "H")
