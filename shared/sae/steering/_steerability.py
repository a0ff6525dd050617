"""How well a unit steers a model's choice among words: our operationalisation.

Joseph et al. 2025 (arXiv 2504.08729) force single latents of a CLIP; their formulas for how precisely a latent steers
are not published.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from shared._checks import check_array, check_range, check_shape


class Steerability(NamedTuple):
    """Of each unit, `(F,)`: where it steers to and how precisely.

    Attributes
    ----------
    target : Tensor
        The word c* that gains most.
    gain : Tensor
        S = p_s(c*) - p_b(c*), p the distributions over the words averaged over the images.
    selectivity : Tensor
        Q, the mean change of c*'s logit in median absolute deviations from the median change of all words.
    consistency : Tensor
        Share of images whose own most-gaining word is c*.
    """

    target: Tensor
    gain: Tensor
    selectivity: Tensor
    consistency: Tensor


def steerability(base: Tensor, steered: Tensor) -> Steerability:
    """How each unit moves the model's choice among V words, from logits (the model's scale times cosines).

    Parameters
    ----------
    base : Tensor
        `(N, V)`, without steering.
    steered : Tensor
        `(F, N, V)`, with each unit set (`steer_units`).

    Returns
    -------
    Steerability
        `(F,)` each.
    """
    check_array("base", base, ("N", "V"))
    check_array("steered", steered, ("F", *base.shape))
    base, steered = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (base, steered))
    gained = steered.softmax(-1) - base.softmax(-1)  # (F, N, V)
    gain, target = gained.mean(1).max(-1)
    change = (steered - base).mean(1)  # (F, V)
    median = change.median(-1).values
    spread = (change - median[:, None]).abs().median(-1).values
    least = 1e-12 * change.abs().amax(-1)  # in the unit of the logits
    spread = torch.maximum(spread, least).clamp_min(torch.finfo(spread.dtype).tiny)
    selectivity = (change.gather(1, target[:, None])[:, 0] - median) / spread
    consistency = (gained.argmax(-1) == target[:, None]).float().mean(1)
    return Steerability(target, gain, selectivity, consistency)


def is_steerable(
    found: Steerability, null: Steerability, *, quantile: float = 0.95, consistency: float = 0.5
) -> Tensor:
    """Which units gain at least the null's quantile, with at least this share of images agreeing on the word.

    Parameters
    ----------
    found : Steerability
        Of the F units.
    null : Steerability
        The same of random directions, at least some 200.
    quantile : float
        Of the null's gains.
    consistency : float
        Share of images.

    Returns
    -------
    Tensor
        Bool `(F,)`.
    """
    check_range("quantile", quantile, 0.0, 1.0)
    check_range("consistency", consistency, 0.0, 1.0)
    check_array("null.gain", null.gain, ("F",))
    return (found.gain > torch.quantile(null.gain, quantile)) & (found.consistency >= consistency)


def coverage(found: Steerability, steerable: Tensor) -> int:
    """Number of different words that the steerable units steer to.

    Parameters
    ----------
    found : Steerability
        Of the F units.
    steerable : Tensor
        Bool `(F,)`, `is_steerable`.

    Returns
    -------
    int
        At most the number of words.
    """
    check_shape("steerable", steerable, tuple(found.target.shape))
    return len(found.target[steerable.bool()].unique())
