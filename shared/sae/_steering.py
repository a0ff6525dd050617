"""Steering by latents: edits of codes, latents ranked for suppression, many (latent, image) pairs steered at once.

Joseph et al. 2025 (arXiv 2504.08729) force single latents of a CLIP and suppress selected ones. Their formulas for how
precisely a latent steers are not published; `steerability` is our operationalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from shared._checks import check_array, check_finite, check_range, check_shape
from shared.sae._model import SparseDict

Edit = Callable[[Tensor], Tensor]

# --- edits ------------------------------------------------------------------------------------------------------


def set_feature(feature: int | Iterable[int], strength: float | Iterable[float]) -> Edit:
    """Edit for `splice`: the codes `(…, d_sae)` of these latents become `strength` (one number, or one per latent)."""
    index, value = _index(feature), torch.as_tensor(strength if _is_number(strength) else list(strength)).float()
    check_finite("strength", value)
    if value.ndim and value.shape != index.shape:
        raise ValueError(f"strength has {len(value)} numbers; feature has {len(index)}: give one, or one per latent")

    def change(codes: Tensor) -> Tensor:
        new = codes.clone()
        new[..., _within(index, codes)] = value.to(codes)
        return new

    return change


def scale_feature(feature: int | Iterable[int], factor: float) -> Edit:
    """Edit for `splice`: the codes of these latents times `factor`; 1 is the identity."""
    index = _index(feature)
    check_finite("factor", torch.as_tensor(float(factor)))

    def change(codes: Tensor) -> Tensor:
        new = codes.clone()
        new[..., _within(index, codes)] *= factor
        return new

    return change


def suppress(features: int | Iterable[int]) -> Edit:
    """Edit that sets these entries of the last axis to zero: latents (for `splice`) or neurons (for `hooks.edit`).

    Of no features it is the identity.
    """
    return set_feature(features, 0.0)


def add_direction(direction: Tensor, alpha: float = 1.0) -> Edit:
    """Edit for `hooks.edit`: activations `(…, D)` plus `alpha` times `direction` `(D,)`, not normalised."""
    check_array("direction", direction, ("D",))
    check_finite("alpha", torch.as_tensor(float(alpha)))
    return lambda x: x + alpha * _as_wide(direction, x)


def ablate_direction(direction: Tensor) -> Edit:
    """Edit for `hooks.edit`: x - (x · d) d with d of length one, for activations x `(…, D)`."""
    check_array("direction", direction, ("D",))
    norm = float(direction.norm())
    if norm == 0:
        raise ValueError("direction is zero; a direction has a length")

    def change(x: Tensor) -> Tensor:
        unit = _as_wide(direction / norm, x)
        return x - (x @ unit)[..., None] * unit

    return change


# --- which latents to suppress ----------------------------------------------------------------------------------


def contrast(codes: Tensor, attribute: Tensor, *, standardise: bool = False) -> Tensor:
    """Mean code where the attribute is there less the mean where it isn't, `(d_sae,)`; NaN for latents always silent.

    Args:
        codes: `(n, d_sae)` or `(n, T, d_sae)`; of tokens the mean is taken first.
        attribute: bool `(n,)`, with both values.
        standardise: divide by the pooled standard deviation within the two groups.
    """
    rows = _per_image(codes)
    check_shape("attribute", attribute, (len(rows),))
    there = attribute.to(rows.device).bool()
    if bool(there.all()) or not bool(there.any()):
        raise ValueError(f"attribute is {bool(there.all())} for all {len(rows)} rows; both values are needed")
    score = rows[there].mean(0) - rows[~there].mean(0)
    if standardise:
        inner = torch.where(there[:, None], rows - rows[there].mean(0), rows - rows[~there].mean(0))
        score = score / inner.square().mean(0).sqrt().clamp_min(1e-12)
    return torch.where((rows != 0).any(0), score, torch.nan)


def rank_by_contrast(
    codes: Tensor,
    attribute: Tensor,
    *,
    standardise: bool = False,
    target: Tensor | None = None,
    exclude: Iterable[int] = (),
) -> Tensor:
    """Latents that go with an unwanted attribute, the strongest first: int64 `(at most d_sae,)`.

    Only latents that are more active with the attribute than without are listed (`contrast` above zero).

    Args:
        codes, attribute, standardise: as in `contrast`.
        target: int `(n,)`, the classes to keep telling apart: latents whose class means differ by at least as much as
            they do by the attribute are left out.
        exclude: latents to leave out.
    """
    score = contrast(codes, attribute, standardise=standardise)
    keep = score > 0  # NaN never is
    if target is not None:
        keep &= ~(_spread(_per_image(codes), target) >= contrast(codes, attribute).abs())
    left_out = _within(_index(exclude), score)
    keep[left_out] = False
    order = torch.where(keep, score, -math.inf).argsort(descending=True, stable=True)
    return order[: int(keep.sum())]


def match_mass(mass: Tensor, chosen: Tensor, *, generator: torch.Generator, pool: int = 10) -> Tensor:
    """For each chosen latent another one of about the same mean activation, drawn among the `pool` nearest.

    The control for suppression: random latents that take as much out of the activation.

    Args:
        mass: `(d_sae,)` mean activation; silent latents are not drawn.
        chosen: int `(n,)`; they are not drawn either, and none is drawn twice.
    """
    check_array("mass", mass, ("d_sae",))
    check_range("pool", pool, 1)
    chosen = _within(_index(chosen.tolist()), mass).to(mass.device)
    free = mass > 0
    free[chosen] = False
    if int(free.sum()) < len(chosen):
        raise ValueError(f"chosen has {len(chosen)} latents; only {int(free.sum())} others are ever active")
    drawn = []
    for latent in chosen.tolist():  # one after the other, as each draw uses one up
        distance = torch.where(free, (mass - mass[latent]).abs(), math.inf)
        near = distance.topk(min(pool, int(free.sum())), largest=False).indices
        pick = int(near[torch.randint(len(near), (1,), generator=generator)])
        free[pick] = False
        drawn.append(pick)
    return torch.tensor(drawn, dtype=torch.int64, device=mass.device)


def _per_image(codes: Tensor) -> Tensor:
    if codes.ndim not in (2, 3):
        raise ValueError(f"codes has shape {tuple(codes.shape)}; expected (n, d_sae) or (n, T, d_sae)")
    check_finite("codes", codes)
    return codes.mean(1) if codes.ndim == 3 else codes


def _spread(rows: Tensor, target: Tensor) -> Tensor:
    """Largest less smallest class mean of each latent, `(d_sae,)`."""
    check_shape("target", target, (len(rows),))
    classes, which = target.to(rows.device).unique(return_inverse=True)
    member = torch.nn.functional.one_hot(which, len(classes)).to(rows)
    means = member.T @ rows / member.sum(0)[:, None]
    return means.amax(0) - means.amin(0)


# --- many units at once -----------------------------------------------------------------------------------------


class Units(NamedTuple):
    """What can be steered in hidden states `(N, T, D)`: F directions and how far along each the tokens are.

    directions : `(F, D)`. values : `(N, T, F)`. scale : `(N, T, 1)` by which a step in `values` moves a token (run-time
    normalisation of a dictionary), or None for 1. Setting unit j to s moves token x by (s - value_j) · scale · d_j.
    """

    directions: Tensor
    values: Tensor
    scale: Tensor | None = None

    def at(self, quantile: float) -> Tensor:
        """Each unit's quantile over the tokens where it isn't zero, `(F,)`: the scale on which strengths are chosen.

        Zero for a unit that is zero everywhere.
        """
        check_range("quantile", quantile, 0.0, 1.0)
        active = self.values.flatten(0, 1).double()
        active = torch.where(active == 0, torch.nan, active)
        return torch.nanquantile(active, quantile, dim=0).nan_to_num(0.0).to(self.values.dtype)


def feature_units(sae: SparseDict, hidden: Tensor, features: Iterable[int]) -> Units:
    """Latents of a dictionary: their decoder rows and codes. Setting one keeps the reconstruction error (`splice`)."""
    check_shape("hidden", hidden, ("N", "T", sae.cfg.d_in))
    x = sae.prepare(hidden, argument="hidden")
    index = _index(features).to(sae.device)
    _within(index, sae.b_enc)
    with torch.no_grad():
        stats = sae.stats(x)
        values = sae.encode(x)[..., index]
        return Units(sae.W_dec.detach()[index], values, None if stats is None else stats.scale)


def neuron_units(hidden: Tensor, neurons: Iterable[int]) -> Units:
    """Coordinates of the hidden states."""
    check_array("hidden", hidden, ("N", "T", "D"))
    index = _within(_index(neurons), hidden).to(hidden.device)
    return Units(torch.eye(hidden.shape[-1]).to(hidden)[index], hidden[..., index])


def random_units(units: Units, *, generator: torch.Generator) -> Units:
    """The null: each unit's steps, in norm, along a random direction instead of its own."""
    drawn = torch.randn(units.directions.shape, generator=generator).to(units.directions)
    drawn *= units.directions.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return units._replace(directions=drawn)


def _step(units: Units, index: Tensor, strengths: Tensor) -> Tensor:
    """How far the tokens move along the units `index`, `(len(index), N, T)`, before their directions."""
    amount = strengths[index, None, None] - units.values[..., index].permute(2, 0, 1)
    return amount if units.scale is None else amount * units.scale.squeeze(-1)


@torch.no_grad()
def steer_units(
    upper: Callable[[Tensor], Tensor], hidden: Tensor, units: Units, strengths: Tensor, *, batch: int = 512
) -> Tensor:
    """What the upper part of a model says when one unit after the other is set, on all tokens: `(F, N, …)`.

    Args:
        upper: hidden states `(B, T, D)` to an output `(B, …)`, for instance inside `hooks.resume_from`.
        hidden: `(N, T, D)`, of the images unsteered.
        units: F units of these hidden states.
        strengths: `(F,)`, the value that each unit is set to, finite.
        batch: (unit, image) pairs per call of `upper`.
    """
    check_array("hidden", hidden, ("N", "T", "D"))
    check_array("strengths", strengths, (len(units.directions),))
    check_shape("units.values", units.values, (*hidden.shape[:2], len(units.directions)))
    check_shape("units.directions", units.directions, ("F", hidden.shape[-1]))
    check_range("batch", batch, 1)
    found = []
    for index in torch.arange(len(strengths), device=hidden.device).split(max(1, batch // len(hidden))):
        moved = hidden + _step(units, index, strengths.to(hidden))[..., None] * units.directions[index, None, None]
        found.append(upper(moved.flatten(0, 1)).unflatten(0, moved.shape[:2]))
    return torch.cat(found)


def step_size(hidden: Tensor, units: Units, strengths: Tensor) -> Tensor:
    """‖x' - x‖ / ‖x‖ over all tokens of all images, as one ratio of norms per unit, `(F,)`."""
    check_array("hidden", hidden, ("N", "T", "D"))
    check_array("strengths", strengths, (len(units.directions),))
    steps = _step(units, torch.arange(len(strengths), device=hidden.device), strengths.to(hidden))
    return steps.flatten(1).norm(dim=1) * units.directions.norm(dim=1) / hidden.norm()


# --- how well a unit steers -------------------------------------------------------------------------------------


class Steerability(NamedTuple):
    """Of each unit, `(F,)`: where it steers to and how precisely (our operationalisation).

    target : the word c* that gains most. gain : S = p_s(c*) - p_b(c*), p the distributions over the words averaged over
    the images. selectivity : Q, the mean change of c*'s logit in median absolute deviations from the median change of
    all words. consistency : share of images whose own most-gaining word is c*.
    """

    target: Tensor
    gain: Tensor
    selectivity: Tensor
    consistency: Tensor


def steerability(base: Tensor, steered: Tensor) -> Steerability:
    """How each unit moves the model's choice among V words, from logits (the model's scale times cosines).

    Args:
        base: `(N, V)`, without steering.
        steered: `(F, N, V)`, with each unit set (`steer_units`).
    """
    check_array("base", base, ("N", "V"))
    check_array("steered", steered, ("F", *base.shape))
    gained = steered.softmax(-1) - base.softmax(-1)  # (F, N, V)
    gain, target = gained.mean(1).max(-1)
    change = (steered - base).mean(1)  # (F, V)
    median = change.median(-1).values
    spread = (change - median[:, None]).abs().median(-1).values.clamp_min(1e-12)
    selectivity = (change.gather(1, target[:, None])[:, 0] - median) / spread
    consistency = (gained.argmax(-1) == target[:, None]).float().mean(1)
    return Steerability(target, gain, selectivity, consistency)


def is_steerable(
    found: Steerability, null: Steerability, *, quantile: float = 0.95, consistency: float = 0.5
) -> Tensor:
    """Bool `(F,)`: gain at least the null's quantile, and at least this share of images agree on the word.

    null : the same of random directions, at least some 200.
    """
    check_range("quantile", quantile, 0.0, 1.0)
    check_range("consistency", consistency, 0.0, 1.0)
    check_array("null.gain", null.gain, ("F",))
    return (found.gain > torch.quantile(null.gain, quantile)) & (found.consistency >= consistency)


def coverage(found: Steerability, steerable: Tensor) -> int:
    """Number of different words that the steerable units steer to."""
    check_shape("steerable", steerable, tuple(found.target.shape))
    return len(found.target[steerable.bool()].unique())


# --- checks -----------------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim == 0)


def _index(features: int | Iterable[int]) -> Tensor:
    """Indices as int64 `(n,)`, none of them negative."""
    given = [features] if isinstance(features, int) else list(features)
    if bad := [j for j in given if isinstance(j, bool | float) or int(j) != j or int(j) < 0]:
        raise ValueError(f"features holds {bad[0]!r}; expected indices from 0")
    return torch.tensor([int(j) for j in given], dtype=torch.int64)


def _within(index: Tensor, codes: Tensor) -> Tensor:
    width = codes.shape[-1]
    if len(index) and int(index.max()) >= width:
        raise ValueError(f"feature {int(index.max())} is out of range; there are {width}, from 0 to {width - 1}")
    return index


def _as_wide(direction: Tensor, x: Tensor) -> Tensor:
    if x.shape[-1] != len(direction):
        raise ValueError(f"direction has {len(direction)} entries; the activations {tuple(x.shape)} need {x.shape[-1]}")
    return direction.to(x)
