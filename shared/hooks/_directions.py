"""Activations at hand moved along directions, or with directions or units taken out; `_steering` does so in a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_finite, check_shape, wide
from shared.hooks._channels import resolve_axis
from shared.hooks._pool import pool_unchecked

POOLS = ("none", "mean", "cls", "last")  # of maxima a shift can't set the projection exactly


def steered(
    activation: Tensor,
    direction: Tensor,
    *,
    alpha: float = 1.0,
    positions: Any = ...,
    channel_axis: int | None = None,
) -> Tensor:
    """`a + alpha v` at every position.

    Parameters
    ----------
    activation : (B, …) with D channels.
    direction : v, (D,), or (B, D) for one per sample; not normalised.
    alpha : finite; 0 changes nothing.
    positions : where; anything that indexes the activation with its channels moved last: a bool mask (B,), (B, T) or
        (B, H, W), or `(slice(None), -1)` for the last token. Everywhere unless given.
    channel_axis : see `find_channel_axis`; not needed for (B, D).

    Returns
    -------
    A new tensor of the same shape.
    """
    check_finite("activation", activation)
    check_vector("direction", direction)
    check_finite("alpha", torch.as_tensor(float(alpha)))
    return shifted(activation, alpha * direction, positions, resolve_axis(activation, channel_axis))


def moved_to(
    activation: Tensor,
    direction: Tensor,
    level: float | Tensor,
    *,
    share: float = 1.0,
    pool: str = "mean",
    channel_axis: int | None = None,
) -> Tensor:
    """Each sample shifted, alike at all positions, so that its pooled activation projects to `level` on the direction.

    Parameters
    ----------
    activation : (B, …) with D channels.
    direction : (D,), of any length but zero; it is normalised.
    level : a number, or (B,): the projection to reach, in units of the activation.
    share : how much of the way to go; 1 arrives.
    pool : how positions are pooled, "mean", "cls" or "last".
    channel_axis : see `find_channel_axis`; not needed for (B, D).

    Returns
    -------
    A new tensor of the same shape.
    """
    check_finite("activation", activation)
    unit = unit_vector("direction", direction)
    level = check_level(level, share, pool)
    return moved(activation, unit, level, share, pool, resolve_axis(activation, channel_axis))


def projected_out(
    activation: Tensor,
    directions: Tensor,
    *,
    reference: Tensor | None = None,
    channel_axis: int | None = None,
) -> Tensor:
    """`a − P a + P z` at every position: the part in the directions' span gives way to that of a reference.

    Parameters
    ----------
    activation : (B, …) with D channels.
    directions : (D,) or (k, D); dependent rows are fine.
    reference : z, (D,); zero unless given.
    channel_axis : see `find_channel_axis`; not needed for (B, D).

    Returns
    -------
    A new tensor of the same shape. The map is idempotent and leaves the orthogonal complement as it is.
    """
    check_finite("activation", activation)
    return Projection(directions, reference=reference)(activation, channel_axis=channel_axis)


def ablated(
    activation: Tensor,
    units: int | Iterable[int],
    *,
    values: Tensor | None = None,
    positions: Any = ...,
    channel_axis: int | None = None,
) -> Tensor:
    """Some channels replaced by zero or by fixed values.

    Parameters
    ----------
    activation : (B, …) with D channels.
    units : numbers of channels, from 0; none is the identity.
    values : (D,), what all channels would get, for instance their means; zero unless given.
    positions : where, as in `steered`.
    channel_axis : see `find_channel_axis`; not needed for (B, D).

    Returns
    -------
    A new tensor of the same shape.
    """
    check_finite("activation", activation)
    axis = resolve_axis(activation, channel_axis)
    if values is not None:
        check_array("values", values, (activation.shape[axis],))
    return without(activation, unit_numbers("units", units), values, positions, axis)


class Projection:
    """`a ↦ a − P a + P z`, P the orthogonal projector onto the span of some directions; made once, applied often.

    Parameters
    ----------
    directions : (D,) or (k, D), finite, not all zero; dependent rows are fine.
    reference : z, (D,); zero unless given.

    Attributes
    ----------
    basis : (r, D), orthonormal rows that span the same, double precision.
    """

    def __init__(self, directions: Tensor, *, reference: Tensor | None = None) -> None:
        self.basis = span_basis(directions)
        if reference is not None:
            check_array("reference", reference, (self.basis.shape[1],))
        self.reference = reference

    def __call__(self, activation: Tensor, *, channel_axis: int | None = None) -> Tensor:
        """The projected activation, of the same shape.

        Parameters
        ----------
        activation : (B, …) with D channels; its numbers aren't looked at, so that hooks stay cheap.
        channel_axis : see `find_channel_axis`; not needed for (B, D).

        Returns
        -------
        A new tensor.
        """
        axis = resolve_axis(activation, channel_axis)
        _check_width("directions", self.basis.shape[1], activation, axis)
        basis = self.basis.to(activation)
        rows = activation.movedim(axis, -1)
        away = rows if self.reference is None else rows - self.reference.to(activation)
        return (rows - (away @ basis.T) @ basis).movedim(-1, axis)


def span_basis(directions: Tensor) -> Tensor:
    """Orthonormal rows (r, D), double precision, that span the same as directions (D,) or (k, D).

    Parameters
    ----------
    directions : finite, not all zero; a row within 1e-6 of the others' span (relative to the largest) adds nothing.

    Returns
    -------
    (r, D), r the rank.
    """
    rows = torch.atleast_2d(directions)
    check_array("directions", rows, ("k", "D"))
    if len(rows) == 1:
        return wide(unit_vector("directions", rows[0]))[None]
    _, sizes, right = torch.linalg.svd(wide(rows), full_matrices=False)
    if not bool(sizes[0] > 0):
        raise ValueError("directions is zero: it points nowhere")
    return right[sizes > 1e-6 * sizes[0]]


# --- what hooks run in each forward pass: no look at every number


def shifted(activation: Tensor, amount: Tensor, positions: Any, axis: int) -> Tensor:
    """`amount` (D,) or (B, D) added along `axis` at `positions`."""
    _check_width("direction", amount.shape[-1], activation, axis)
    rows, amount = activation.movedim(axis, -1), amount.to(activation)
    if amount.ndim == 2:
        check_shape("direction", amount, (len(rows), "D"))
        amount = amount.reshape(len(rows), *[1] * (rows.ndim - 2), -1)
    if positions is ...:
        return (rows + amount).movedim(-1, axis)
    where = _index(positions, rows)
    new = rows.clone()
    new[where] = new[where] + amount.expand_as(rows)[where]
    return new.movedim(-1, axis)


def moved(activation: Tensor, unit: Tensor, level: Tensor, share: float, pool: str, axis: int) -> Tensor:
    """Each sample shifted along `unit` (D,), `share` of the way to the projection `level`."""
    _check_width("direction", len(unit), activation, axis)
    unit = unit.to(activation)
    now = pool_unchecked(activation, pool, axis) @ unit
    if level.ndim:
        check_shape("level", level, (len(now),))
    return shifted(activation, share * (level.to(activation) - now)[:, None] * unit, ..., axis)


def without(activation: Tensor, units: Tensor, values: Tensor | None, positions: Any, axis: int) -> Tensor:
    """The channels `units` replaced by zero or their `values` (D,)."""
    width = activation.shape[axis]
    if len(units) and int(units.max()) >= width:
        raise ValueError(f"units has {int(units.max())}; the activation has {width} channels, from 0 to {width - 1}")
    new = activation.movedim(axis, -1).clone()
    part = new[positions if positions is ... else _index(positions, new)]
    part[..., units] = 0 if values is None else values.to(new)[units]
    new[positions if positions is ... else _index(positions, new)] = part
    return new.movedim(-1, axis)


# --- checks


def check_vector(argument: str, direction: Tensor) -> None:
    """Finite, (D,) or (B, D)."""
    if direction.ndim not in (1, 2):
        raise ValueError(f"{argument} has shape {tuple(direction.shape)}; expected (D,), or (B, D) for one per sample")
    check_finite(argument, direction)


def unit_vector(argument: str, direction: Tensor) -> Tensor:
    """A finite direction (D,), not zero, divided by its length."""
    check_array(argument, direction, ("D",))
    length = direction.norm()
    if not bool(length > 0):
        raise ValueError(f"{argument} is zero: it points nowhere")
    return direction / length


def check_level(level: float | Tensor, share: float, pool: str) -> Tensor:
    """The level as a finite tensor, () or (B,); share and pool as they must be."""
    level = level if isinstance(level, Tensor) else torch.tensor(level, dtype=torch.float64)
    check_finite("level", level)
    check_finite("share", torch.as_tensor(float(share)))
    check_choice("pool", pool, POOLS)
    return level


def unit_numbers(argument: str, units: int | Iterable[int]) -> Tensor:
    """Numbers of channels as int64 (n,), none of them negative."""
    given = [units] if isinstance(units, int) else [int(unit) for unit in units]
    if bad := [unit for unit in given if unit < 0]:
        raise ValueError(f"{argument} has {bad[0]}; channels are counted from 0")
    return torch.tensor(given, dtype=torch.int64)


def _check_width(argument: str, width: int, activation: Tensor, axis: int) -> None:
    if activation.shape[axis] != width:
        raise ValueError(
            f"{argument} has {width} entries; the activation {tuple(activation.shape)} has {activation.shape[axis]} "
            "channels: it belongs to another layer"
        )


def _index(positions: Any, rows: Tensor) -> Any:
    """`positions` as an index of `rows` (B, …, D); a mask must be of the positions' shape."""
    if not isinstance(positions, Tensor) or positions.dtype != torch.bool:
        return positions
    if not 1 <= positions.ndim < rows.ndim:
        raise ValueError(f"positions has shape {tuple(positions.shape)}; the activation has {tuple(rows.shape[:-1])}")
    check_shape("positions", positions, tuple(rows.shape[: positions.ndim]))
    return positions.to(rows.device)
