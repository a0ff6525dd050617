"""Steering, projecting out and ablating in a model while it runs; the arithmetic is that of `_directions`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_finite
from shared.hooks._channels import AxisFinder
from shared.hooks._core import Edit, edit, refuse_compiled
from shared.hooks._directions import (
    Projection,
    check_level,
    check_vector,
    moved,
    shifted,
    unit_numbers,
    unit_vector,
    without,
)


def steer(
    model: nn.Module,
    directions: Mapping[str, Tensor],
    *,
    alpha: float = 1.0,
    positions: Any = ...,
    at: str = "output",
    channel_axis: int | None = None,
) -> AbstractContextManager[nn.Module]:
    """Within the context, `alpha * directions[name]` is added to the activation of each named module.

    Parameters
    ----------
    model : any torch module.
    directions : module name -> (D,), or (B, D) for one per sample.
    alpha, positions : see `steered`.
    at : "output" or "input" of the modules.
    channel_axis : where the modules don't tell (`find_channel_axis`).

    Returns
    -------
    A context manager that gives the model.

    Raises
    ------
    ValueError
        An unknown name (the closest are listed); a direction that isn't finite or belongs to another layer.
    """
    check_finite("alpha", torch.as_tensor(float(alpha)))
    for name, direction in directions.items():
        check_vector(f"directions[{name!r}]", direction)

    def change(name: str, activation: Tensor, axis: int) -> Tensor | None:
        return None if alpha == 0 else shifted(activation, alpha * directions[name], positions, axis)

    return _edited(model, directions, change, at, channel_axis)


def move_to(
    model: nn.Module,
    directions: Mapping[str, Tensor],
    level: float | Tensor,
    *,
    share: float = 1.0,
    pool: str = "mean",
    at: str = "output",
    channel_axis: int | None = None,
) -> AbstractContextManager[nn.Module]:
    """Within the context, each sample is shifted until its pooled activation projects to `level`: see `moved_to`.

    Parameters
    ----------
    model : any torch module.
    directions : module name -> (D,).
    level : a number, or (B,).
    share, pool : see `moved_to`.
    at : "output" or "input" of the modules.
    channel_axis : where the modules don't tell (`find_channel_axis`).

    Returns
    -------
    A context manager that gives the model.
    """
    units = {name: unit_vector(f"directions[{name!r}]", direction) for name, direction in directions.items()}
    level = check_level(level, share, pool)

    def change(name: str, activation: Tensor, axis: int) -> Tensor:
        return moved(activation, units[name], level, share, pool, axis)

    return _edited(model, directions, change, at, channel_axis)


def project_out(
    model: nn.Module,
    directions: Mapping[str, Tensor],
    *,
    references: Mapping[str, Tensor] | None = None,
    at: str = "output",
    channel_axis: int | None = None,
) -> AbstractContextManager[nn.Module]:
    """Within the context, the activations' part in the directions' span gives way to that of a reference, or to zero.

    Parameters
    ----------
    model : any torch module.
    directions : module name -> (D,) or (k, D).
    references : by the same names, (D,); zero for a name that isn't there.
    at : "output" or "input" of the modules.
    channel_axis : where the modules don't tell (`find_channel_axis`).

    Returns
    -------
    A context manager that gives the model.
    """
    given = references or {}
    for name in given:
        check_choice("references", name, directions)
    maps = {name: Projection(rows, reference=given.get(name)) for name, rows in directions.items()}

    def change(name: str, activation: Tensor, axis: int) -> Tensor:
        return maps[name](activation, channel_axis=axis)

    return _edited(model, directions, change, at, channel_axis)


def ablate(
    model: nn.Module,
    units: Mapping[str, int | Iterable[int]],
    *,
    values: Mapping[str, Tensor] | None = None,
    positions: Any = ...,
    at: str = "output",
    channel_axis: int | None = None,
) -> AbstractContextManager[nn.Module]:
    """Within the context, some channels of each named module are zero or have fixed values (mean ablation).

    Parameters
    ----------
    model : any torch module.
    units : module name -> numbers of channels.
    values : by the same names, (D,); zero without.
    positions : where, as in `steered`.
    at : "output" or "input" of the modules.
    channel_axis : where the modules don't tell (`find_channel_axis`).

    Returns
    -------
    A context manager that gives the model.
    """
    numbers = {name: unit_numbers(f"units[{name!r}]", chosen) for name, chosen in units.items()}
    put = {} if values is None else {name: values[check_choice("values", name, values)] for name in units}
    for name, value in put.items():
        check_array(f"values[{name!r}]", value, ("D",))

    def change(name: str, activation: Tensor, axis: int) -> Tensor:
        return without(activation, numbers[name], put.get(name), positions, axis)

    return _edited(model, units, change, at, channel_axis)


def _edited(
    model: nn.Module,
    names: Iterable[str],
    change: Callable[[str, Tensor, int], Tensor | None],
    at: str,
    channel_axis: int | None,
) -> AbstractContextManager[nn.Module]:
    """`edit` of the named modules by `change(name, activation, its channel axis)`."""

    refuse_compiled(model)

    def at_axis(name: str) -> Edit:
        axis = AxisFinder(model, name, channel_axis=channel_axis)
        return lambda activation: change(name, activation, axis(activation))

    return edit(model, {name: at_axis(name) for name in names}, at=at)
