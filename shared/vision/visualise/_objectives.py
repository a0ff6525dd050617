"""Losses of images, one number each: what is small where a unit, direction or class is strong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared._checks import check_array, check_range
from shared.hooks import resolve_axis

Loss = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """A loss of every image by itself. Objectives add up, and are weighted by `2.0 * objective`.

    Parameters
    ----------
    layers : modules whose outputs the loss needs.
    loss : activations by layer, the model's output and the images it saw -> losses (B,). Where the batch holds
        several copies of n images, copy after copy, row r belongs to target r % n.
    n : images it is for; None: any number.
    """

    layers: tuple[str, ...]
    loss: Loss
    n: int | None = None

    def __add__(self, other: Objective) -> Objective:
        if self.n and other.n and self.n != other.n:
            raise ValueError(f"other is for {other.n} images, this objective for {self.n}")
        layers = tuple(dict.fromkeys([*self.layers, *other.layers]))
        return Objective(layers, lambda *seen: self.loss(*seen) + other.loss(*seen), self.n or other.n)

    def __rmul__(self, weight: float) -> Objective:
        return Objective(self.layers, lambda *seen: weight * self.loss(*seen), self.n)


def logit(targets: Sequence[int]) -> Objective:
    """Minus the model's output for a class.

    Parameters
    ----------
    targets : sequence of int
        One class for each image.

    Returns
    -------
    Objective
    """
    targets = _indices(targets)

    def loss(seen: Mapping[str, Tensor], output: Tensor, images: Tensor) -> Tensor:
        return -_entry("targets", output, targets)

    return Objective((), loss, len(targets))


def channel(layer: str, targets: Sequence[int], *, channel_axis: int = 1) -> Objective:
    """Minus the mean of a channel over its positions.

    Parameters
    ----------
    layer : str
    targets : sequence of int
        One channel for each image.
    channel_axis : int
        Of the layer's output; -1 for transformers.

    Returns
    -------
    Objective
    """
    targets = _indices(targets)

    def loss(seen: Mapping[str, Tensor], output: Tensor, images: Tensor) -> Tensor:
        return -_entry("targets", rows_of(seen[layer], channel_axis).mean(-1), targets)

    return Objective((layer,), loss, len(targets))


def neuron(layer: str, targets: Sequence[int], *, position: tuple[int, int] | None = None) -> Objective:
    """Minus one position of a channel.

    Parameters
    ----------
    layer : str
        With outputs (B, C, H, W).
    targets : sequence of int
        One channel for each image.
    position : (int, int), optional
        Row and column; else the centre (of even sizes: below and right of it).

    Returns
    -------
    Objective
    """
    targets = _indices(targets)

    def loss(seen: Mapping[str, Tensor], output: Tensor, images: Tensor) -> Tensor:
        maps = seen[layer]
        if maps.ndim != 4:
            raise ValueError(f"layer={layer!r} gives shape {tuple(maps.shape)}; expected (B, C, H, W)")
        at = position or (maps.shape[2] // 2, maps.shape[3] // 2)
        for name, index, size in zip(("row", "column"), at, maps.shape[2:]):
            check_range(f"position: its {name}", index, -size, size - 1)
        return -_entry("targets", maps[:, :, at[0], at[1]], targets)

    return Objective((layer,), loss, len(targets))


def direction(layer: str, vectors: Tensor, *, channel_axis: int = 1) -> Objective:
    """Minus the cosine of activations and a direction, averaged over positions.

    Parameters
    ----------
    layer : str
    vectors : Tensor, shape (n, C)
        One for each image.
    channel_axis : int
        Of the layer's output; -1 for transformers.

    Returns
    -------
    Objective
    """
    check_array("vectors", vectors, ("n", "C"))

    def loss(seen: Mapping[str, Tensor], output: Tensor, images: Tensor) -> Tensor:
        rows = rows_of(seen[layer], channel_axis)
        check_range(
            f"vectors: their length, for the {rows.shape[1]} channels of {layer!r},",
            vectors.shape[1],
            rows.shape[1],
            rows.shape[1],
        )
        wanted = tiled(vectors.to(rows), len(rows))
        return -F.cosine_similarity(rows, wanted[:, :, None], dim=1).mean(-1)

    return Objective((layer,), loss, len(vectors))


def rows_of(activation: Tensor, channel_axis: int) -> Tensor:
    """(B, C, P): channels, and positions in a row."""
    return (
        activation.movedim(resolve_axis(activation, channel_axis), 1).flatten(2)
        if activation.ndim > 2
        else (activation[:, :, None])
    )


def tiled(values: Tensor, rows: int) -> Tensor:
    """Values of n targets for a batch of copies of n images (or of one, for all)."""
    if rows % len(values):
        raise ValueError(f"objective is for {len(values)} images; the batch holds {rows}")
    return values.repeat(rows // len(values), *[1] * (values.ndim - 1))


def _indices(targets: Sequence[int]) -> Tensor:
    chosen = torch.as_tensor(targets)
    if chosen.ndim != 1 or not len(chosen) or chosen.is_floating_point() or bool((chosen < 0).any()):
        raise ValueError(f"targets={targets!r} must be a list of integers from 0, one for each image")
    return chosen


def _entry(argument: str, values: Tensor, targets: Tensor) -> Tensor:
    """`values[r, target of r]` of (B, C)."""
    if values.ndim != 2:
        raise ValueError(f"model gives an output of shape {tuple(values.shape)}; expected (B, classes)")
    check_range(f"{argument}: the largest", int(targets.max()), 0, values.shape[1] - 1)
    return values.gather(1, tiled(targets.to(values.device), len(values))[:, None])[:, 0]
