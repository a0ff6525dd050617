"""`Direction`: a concept vector with what it needs to be used later: layer, pooling, class means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_shape, wide
from shared.probes._estimators import PROBE_METHODS, Probe, class_means
from shared.probes._factor import SharedFactor
from shared.probes._inputs import as_activations, as_labels, as_rows
from shared.stats import deviations


@dataclass(frozen=True)
class Direction:
    """A concept's direction at one layer, pointing from non-concept to concept.

    Parameters
    ----------
    vector : (d,), of unit length, single precision.
    scale : the raw probe's length.
    intercept : of the raw probe.
    mean_pos, mean_neg : (d,), mean pooled activations of the two sets.
    method : that it was fitted by.
    pool : how activations were pooled, see `hooks.pool`.
    layer : module name, or "" if not told.
    n : numbers of concept and non-concept samples.
    name : of the concept.
    channel_axis : of the layer's activations, where it was told.
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
    channel_axis: int | None = None

    def project(self, H: Tensor) -> Tensor:
        """Projections of activations, pooled first where they are maps or tokens.

        Parameters
        ----------
        H : (n, d), or as those that it was fitted on.

        Returns
        -------
        (n,).
        """
        pooled = _pooled(H, self.pool, self.channel_axis)
        check_shape("H", pooled, ("n", len(self.vector)))
        return pooled @ self.vector.to(pooled)

    def decision(self, H: Tensor) -> Tensor:
        """The raw probe's decision values.

        Parameters
        ----------
        H : as `project` takes it.

        Returns
        -------
        (n,).
        """
        return self.scale * self.project(H) + self.intercept

    @property
    def gap(self) -> float:
        """Distance of the class means along the direction: a natural unit for steering."""
        return float(wide(self.mean_pos - self.mean_neg) @ wide(self.vector))


def fit_directions(
    H: Any,
    Y: Any,
    *,
    method: str = "pattern",
    pool: str = "none",
    channel_axis: int | None = None,
    layer: str = "",
    names: Sequence[str] | None = None,
    standardise: bool = False,
    factor: SharedFactor | None = None,
    **options: Any,
) -> list[Direction]:
    """One `Direction` per concept, all from one fit.

    Parameters
    ----------
    H : activations (n, d), or maps (n, d, h, w), tokens (n, T, d), which are pooled.
    Y : labels (n, k), 1 for the concept, else 0.
    method : one of `PROBE_METHODS`.
    pool : how maps and tokens are pooled (`hooks.pool`); the direction keeps it.
    channel_axis : 1 for maps, -1 for tokens; not needed for (n, d). The direction keeps it.
    layer : where the activations come from; the direction keeps it.
    names : k names of the concepts.
    standardise : fit on activations divided by their standard deviations, and map the direction back.
    factor : a decomposition of H that was made before.
    options : go to the method's estimator, for instance `alpha=`, `C=`, `shrinkage=`.

    Returns
    -------
    k directions.
    """
    estimator: Probe = PROBE_METHODS[check_choice("method", method, PROBE_METHODS)](**options)
    activations = as_activations(_pooled(H, pool, channel_axis))
    labels, _ = as_labels(Y, activations, "Y", least=2)
    if names is not None and len(names) != labels.shape[1]:
        raise ValueError(f"names has {len(names)} entries; Y has {labels.shape[1]} columns")
    deviation = deviations(activations) if standardise else activations.new_ones(activations.shape[1])
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
            channel_axis=channel_axis,
        )
        for k in range(labels.shape[1])
    ]


def fit_direction(H: Any, y: Any, *, name: str = "", **options: Any) -> Direction:
    """The `Direction` of one concept.

    Parameters
    ----------
    H : activations, as `fit_directions` takes them.
    y : labels (n,), 1 for the concept, else 0.
    name : of the concept.
    options : as of `fit_directions`: method, pool, channel_axis, layer, …

    Returns
    -------
    The direction.
    """
    H = torch.as_tensor(H)
    check_finite("H", H)
    hooks.resolve_axis(H, options.get("channel_axis"), argument="H")
    column = torch.as_tensor(y)
    if column.ndim != 1:
        raise ValueError(f"y has shape {tuple(column.shape)}; expected (n,); fit_directions takes several concepts")
    check_array("y", column, (len(H),))
    return fit_directions(H, column[:, None], names=[name], **options)[0]


def stack_directions(directions: Sequence[Direction] | Tensor) -> Tensor:
    """Vectors of directions that belong to one layer and one pooling.

    Parameters
    ----------
    directions : `Direction`s; a tensor (k, d) or (d,) passes.

    Returns
    -------
    (k, d).
    """
    return stack_as("directions", directions)


def stack_as(argument: str, directions: Sequence[Direction] | Tensor) -> Tensor:
    """`stack_directions` of what the caller calls `argument`."""
    if isinstance(directions, Tensor):
        return as_rows(argument, directions)
    if not directions:
        raise ValueError(f"{argument} is empty; at least one is needed")
    layers = {d.layer for d in directions if d.layer}
    pools = {d.pool for d in directions}
    if len(layers) > 1 or len(pools) > 1:
        raise ValueError(f"{argument} come from different layers {sorted(layers)} or poolings {sorted(pools)}")
    sizes = {len(d.vector) for d in directions}
    if len(sizes) > 1:
        raise ValueError(f"{argument} have different sizes: {sorted(sizes)}")
    return torch.stack([d.vector for d in directions])


def check_layer(directions: Sequence[Direction] | Tensor, layer: str) -> None:
    """Raise `ValueError` for a direction that was fitted at another layer.

    Parameters
    ----------
    directions : `Direction`s, or vectors, which belong anywhere.
    layer : module name.
    """
    if isinstance(directions, Tensor):
        return
    other = sorted({d.layer for d in directions if d.layer and d.layer != layer})
    if other:
        raise ValueError(f"layer={layer!r} but the directions were fitted at {', '.join(map(repr, other))}")


def _pooled(H: Any, how: str, channel_axis: int | None) -> Tensor:
    H = torch.as_tensor(H)
    check_finite("H", H)
    axis = None if H.ndim == 2 else channel_axis
    hooks.resolve_axis(H, axis, argument="H")
    return hooks.pool(H, how, channel_axis=axis)
