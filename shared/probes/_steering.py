"""Moving activations along concept directions; context managers on `shared.hooks`, undone on exit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite, check_shape
from shared.probes._direction import Direction, stack
from shared.probes._inputs import DegenerateDirectionError, PoolMismatchError, as_rows, channel_axis, pool_unchecked
from shared.probes._tcav import check_layer

RULES = ("adaptive", "constant", "clarc")


def shift(activation: Tensor, amount: Tensor) -> Tensor:
    """Add one vector per sample, (n, d), or one for all, (d,), along the channels of an activation, everywhere."""
    if amount.shape[-1] != activation.shape[channel_axis(activation)]:
        raise ValueError(
            f"the activation has {activation.shape[channel_axis(activation)]} channels (shape "
            f"{tuple(activation.shape)}); the direction has {amount.shape[-1]}: it belongs to another layer"
        )
    amount = amount.to(activation)
    if activation.ndim == 2 or amount.ndim == 1:
        return activation + (amount[:, None, None] if activation.ndim == 4 else amount)
    return activation + (amount[:, :, None, None] if activation.ndim == 4 else amount[:, None, :])


@contextmanager
def add(
    model: nn.Module, layer: str, direction: Direction | Tensor, alpha: float = 1.0, where: Tensor | None = None
) -> Iterator[nn.Module]:
    """Within the context, add `alpha * vector` to the layer's output at every position.

    where : (n,) samples or (n, T) tokens or (n, h, w) positions to which it is added; all unless given.
    `alpha=0` changes nothing at all.
    """
    vector = _vector(direction, layer)

    def push(activation: Tensor) -> Tensor | None:
        if alpha == 0:
            return None
        moved = shift(activation, alpha * vector)
        return moved if where is None else torch.where(_mask(where, activation), moved, activation)

    with hooks.edit(model, {layer: push}):
        yield model


@contextmanager
def move_to(
    model: nn.Module, layer: str, direction: Direction | Tensor, level: float | Tensor, *, pooling: str = "mean"
) -> Iterator[nn.Module]:
    """Within the context, shift each sample so that its pooled activation projects to `level` on the direction.

    level : a number or (n,). One shift per sample, the same at all positions. A `Direction` brings its own pooling.
    """
    vector = _vector(direction, layer)
    how = direction.pool if isinstance(direction, Direction) and direction.pool != "none" else pooling
    if how == "max":
        raise PoolMismatchError("a shift can't set a projection of maxima exactly; use pooling='mean'")
    level = torch.as_tensor(level)
    check_finite("level", level)

    def push(activation: Tensor) -> Tensor:
        unit = (vector / vector.norm()).to(activation)
        now = pool_unchecked(activation, how) @ unit
        if level.ndim:
            check_shape("level", level, (len(now),))
        return shift(activation, (level.to(activation) - now)[:, None] * unit)

    with hooks.edit(model, {layer: push}):
        yield model


@contextmanager
def project_out(
    model: nn.Module, layer: str, directions: Sequence[Direction] | Tensor, reference: Tensor | None = None
) -> Iterator[nn.Module]:
    """Within the context, replace the part of every position in the directions' span by that of `reference` (d,).

    Without a reference the part becomes zero. Idempotent; the orthogonal complement stays as it is.
    """
    several = [directions] if isinstance(directions, Direction) else directions
    check_layer(several, layer)
    projector = span_projector(stack(several))
    zero = torch.zeros(len(projector)) if reference is None else reference
    check_array("reference", zero, (len(projector),))

    def push(activation: Tensor) -> Tensor:
        return project_unchecked(activation, projector, zero)

    with hooks.edit(model, {layer: push}):
        yield model


def span_projector(V: Tensor) -> Tensor:
    """Orthogonal projector (d, d), double precision, onto the span of the rows of V (k, d); dependent rows are fine."""
    V = as_rows("V", V).double()
    return torch.linalg.pinv(V, rtol=1e-6) @ V


def project(activation: Tensor, projector: Tensor, reference: Tensor) -> Tensor:
    """`a − P a + P z` along the channels at every position.

    activation : (n, d), (n, T, d) or (n, d, h, w); projector P : (d, d); reference z : (d,).
    """
    check_finite("activation", activation)
    check_array("projector", projector, ("d", "d"))
    check_array("reference", reference, (len(projector),))
    return project_unchecked(activation, projector, reference)


def project_unchecked(activation: Tensor, projector: Tensor, reference: Tensor) -> Tensor:
    """`project` without a look at every number: for hooks, which run in each forward pass."""
    axis = channel_axis(activation)
    if activation.shape[axis] != len(projector):
        raise ValueError(
            f"the activation has {activation.shape[axis]} channels (shape {tuple(activation.shape)}); the direction "
            f"has {len(projector)}: it belongs to another layer"
        )
    P, z = projector.to(activation), reference.to(activation)
    moved = activation.movedim(axis, -1)
    return (moved - (moved - z) @ P).movedim(-1, axis)


def move(
    z: Tensor, direction: Tensor, rule: str = "adaptive", *, amount: float = 1.0, level: float | None = None
) -> Tensor:
    """Codes z (n, d) moved along a direction (d,), the rules of Erogullari et al.'s editing experiments.

    "constant": `amount √d` along the unit vector; "adaptive": onto projection `level` (e.g. the median of samples that
    have the concept); "clarc": `amount` times the way there.
    """
    check_choice("rule", rule, RULES)
    check_array("z", z, ("n", "d"))
    check_array("direction", direction, (z.shape[1],))
    if not bool(direction.any()):
        raise DegenerateDirectionError("direction is zero: it points nowhere")
    unit = (direction / direction.norm()).to(z)
    if rule == "constant":
        return z + amount * z.shape[1] ** 0.5 * unit
    if level is None:
        raise ValueError(f"rule={rule!r} needs level, the projection to reach")
    share = 1.0 if rule == "adaptive" else amount
    return z + share * (level - z @ unit)[:, None] * unit


def _vector(direction: Direction | Tensor, layer: str) -> Tensor:
    if isinstance(direction, Direction):
        check_layer([direction], layer)
        return direction.vector
    if direction.ndim != 1:
        raise ValueError(f"direction has shape {tuple(direction.shape)}; expected (d,)")
    if not bool(torch.isfinite(direction).all()) or not bool(direction.any()):
        raise DegenerateDirectionError("direction is zero or not finite")
    return direction


def _mask(where: Tensor, activation: Tensor) -> Tensor:
    where = where.to(activation.device).bool()
    if where.ndim == 3 and activation.ndim == 4:
        check_shape("where", where, (len(activation), *activation.shape[2:]))
        return where[:, None]
    check_shape("where", where, tuple(activation.shape[: max(1, min(where.ndim, activation.ndim - 1))]))
    return where.reshape(*where.shape, *[1] * (activation.ndim - where.ndim))
