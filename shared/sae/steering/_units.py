"""Many (unit, image) pairs steered at once: latents, neurons or random directions, set one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from shared._checks import check_array, check_range, check_shape, wide
from shared.sae._model import SparseDict
from shared.sae.steering._index import as_index, within


class Units(NamedTuple):
    """What can be steered in hidden states `(N, T, D)`: F directions and how far along each the tokens are.

    Setting unit j to s moves token x by (s - value_j) · scale · d_j.

    Attributes
    ----------
    directions : Tensor
        `(F, D)`.
    values : Tensor
        `(N, T, F)`.
    scale : Tensor or None
        `(N, T, 1)` by which a step in `values` moves a token (run-time normalisation of a dictionary), or None for 1.
    """

    directions: Tensor
    values: Tensor
    scale: Tensor | None = None

    def at(self, quantile: float) -> Tensor:
        """Each unit's quantile over the tokens where it isn't zero: the scale on which strengths are chosen.

        Parameters
        ----------
        quantile : float
            Between 0 and 1.

        Returns
        -------
        Tensor
            `(F,)`; zero for a unit that is zero everywhere.
        """
        check_range("quantile", quantile, 0.0, 1.0)
        active = wide(self.values.flatten(0, 1))
        active = torch.where(active == 0, torch.nan, active)
        return torch.nanquantile(active, quantile, dim=0).nan_to_num(0.0).to(self.values.dtype)


def feature_units(sae: SparseDict, hidden: Tensor, features: Iterable[int]) -> Units:
    """Latents of a dictionary: their decoder rows and codes. Setting one keeps the reconstruction error (`splice`).

    Parameters
    ----------
    sae : SparseDict
        An autoencoder of the hidden states.
    hidden : Tensor
        `(N, T, d_in)`.
    features : iterable of int
        F latents.

    Returns
    -------
    Units
        Of F directions.
    """
    check_shape("hidden", hidden, ("N", "T", sae.cfg.d_in))
    x = sae.prepare(hidden, argument="hidden")
    index = within(as_index(features), sae.b_enc).to(sae.device)
    with torch.no_grad():
        stats = sae.stats(x)
        values = sae.encode(x)[..., index]
        return Units(sae.W_dec.detach()[index], values, None if stats is None else stats.scale)


def neuron_units(hidden: Tensor, neurons: Iterable[int]) -> Units:
    """Coordinates of the hidden states.

    Parameters
    ----------
    hidden : Tensor
        `(N, T, D)`.
    neurons : iterable of int
        F of the D coordinates.

    Returns
    -------
    Units
        Of F directions.
    """
    check_array("hidden", hidden, ("N", "T", "D"))
    index = within(as_index(neurons), hidden).to(hidden.device)
    return Units(torch.eye(hidden.shape[-1]).to(hidden)[index], hidden[..., index])


def random_units(units: Units, *, generator: torch.Generator) -> Units:
    """The null: each unit's steps, in norm, along a random direction instead of its own.

    Parameters
    ----------
    units : Units
        Whose steps are taken.
    generator : torch.Generator
        Of the directions, on the CPU.

    Returns
    -------
    Units
        The same values with other directions.
    """
    drawn = torch.randn(units.directions.shape, generator=generator).to(units.directions)
    drawn *= units.directions.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return units._replace(directions=drawn)


def _step(units: Units, index: Tensor, strengths: Tensor) -> Tensor:
    """How far the tokens move along the units `index`, `(len(index), N, T)`, before their directions."""
    amount = strengths[index, None, None] - units.values[..., index].permute(2, 0, 1)
    return amount if units.scale is None else amount * units.scale.squeeze(-1)


def _check_units(hidden: Tensor, units: Units, strengths: Tensor) -> None:
    check_array("hidden", hidden, ("N", "T", units.directions.shape[1]))
    check_array("strengths", strengths, (len(units.directions),))
    check_shape("units.values", units.values, (*hidden.shape[:2], len(units.directions)))


@torch.no_grad()
def steer_units(
    upper: Callable[[Tensor], Tensor], hidden: Tensor, units: Units, strengths: Tensor, *, batch_size: int = 512
) -> Tensor:
    """What the upper part of a model says when one unit after the other is set, on all tokens.

    Parameters
    ----------
    upper : callable
        Hidden states `(B, T, D)` to an output `(B, …)`, for instance inside `hooks.resume_from`.
    hidden : Tensor
        `(N, T, D)`, of the images unsteered.
    units : Units
        F units of these hidden states.
    strengths : Tensor
        `(F,)`, the value that each unit is set to, finite.
    batch_size : int
        (unit, image) pairs per call of `upper`.

    Returns
    -------
    Tensor
        `(F, N, …)`.
    """
    _check_units(hidden, units, strengths)
    check_range("batch_size", batch_size, 1)
    found = []
    for index in torch.arange(len(strengths), device=hidden.device).split(max(1, batch_size // len(hidden))):
        moved = hidden + _step(units, index, strengths.to(hidden))[..., None] * units.directions[index, None, None]
        found.append(upper(moved.flatten(0, 1)).unflatten(0, moved.shape[:2]))
    return torch.cat(found)


def step_size(hidden: Tensor, units: Units, strengths: Tensor) -> Tensor:
    """‖x' - x‖ / ‖x‖ over all tokens of all images, as one ratio of norms per unit.

    Parameters
    ----------
    hidden : Tensor
        `(N, T, D)`.
    units : Units
        F units of these hidden states.
    strengths : Tensor
        `(F,)`, the value that each unit is set to, finite.

    Returns
    -------
    Tensor
        `(F,)`.
    """
    _check_units(hidden, units, strengths)
    steps = _step(units, torch.arange(len(strengths), device=hidden.device), strengths.to(hidden))
    return steps.flatten(1).norm(dim=1) * units.directions.norm(dim=1) / hidden.norm()
