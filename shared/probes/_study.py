"""TCAV as it is reported: concepts by layers by random sets, tested, with a correction for the number of tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shared._checks import check_range
from shared.probes._direction import fit_direction
from shared.probes._passes import Data, Target, activations, layer_gradients
from shared.probes._tcav import tcav_scores, tcav_test
from shared.stats import adjust_p_values

if TYPE_CHECKING:
    import pandas as pd


def tcav_study(
    model: nn.Module,
    layers: str | Sequence[str],
    x: Data,
    target: Target,
    concepts: Mapping[str, Data],
    random_sets: Sequence[Data],
    *,
    method: str = "pattern",
    pool: str = "mean",
    correction: str = "holm",
    alpha: float = 0.05,
    channel_axis: int | None = None,
    batch_size: int = 128,
) -> pd.DataFrame:
    """The whole protocol of Kim et al. 2018 in one call.

    Each concept gets one direction per random set; two random sets against each other are a random "concept". A
    concept matters at a layer where its scores differ from the random ones. Each random set enters one random concept
    only: all pairs of them would be no independent numbers and make small p-values. What the test can't see is the
    choice of the concept's own samples, which all its scores share.

    Parameters
    ----------
    model, x, target : see `layer_gradients`.
    layers : modules' names; each must run once per pass.
    concepts : name -> samples that show it.
    random_sets : R >= 4 sets of other samples; R / 2 random concepts are made of them.
    method : of fitting the directions, one of `PROBE_METHODS`.
    pool : over positions or tokens, of activations ("mean", "max", …); gradients are averaged over them.
    correction : "holm", "bonferroni" or "fdr" over all concepts and layers (`stats.adjust_p_values`).
    alpha : level of `significant`.
    channel_axis : where the layers don't tell.
    batch_size : rows per pass; the result doesn't depend on it.

    Returns
    -------
    One row per layer and concept: `layer`, `concept`, `score`, `score_sd` over random sets, `random_score`, `p_value`,
    `p_adjusted`, `significant`.

    Raises
    ------
    ValueError
        No concept, fewer than four random sets, an unknown layer or method.
    """
    import pandas as pd

    names = [layers] if isinstance(layers, str) else list(layers)
    if not concepts:
        raise ValueError("concepts is empty; at least one is needed")
    if len(random_sets) < 4:
        raise ValueError(f"random_sets has {len(random_sets)} sets; at least four are needed for a test")
    check_range("alpha", alpha, 0.0, 1.0)
    options = {"channel_axis": channel_axis, "batch_size": batch_size}
    shown = {name: activations(model, names, data, pool=pool, **options) for name, data in concepts.items()}
    others = [activations(model, names, data, pool=pool, **options) for data in random_sets]
    rows = []
    for layer in names:
        gradients = layer_gradients(model, layer, x, target, **options)
        pairs = zip((other[layer] for other in others[::2]), (other[layer] for other in others[1::2]))
        chance = torch.tensor([_score(gradients, one, other, method) for one, other in pairs])
        for name, seen in shown.items():
            scores = torch.tensor([_score(gradients, seen[layer], other[layer], method) for other in others])
            test = tcav_test(scores, chance)
            spread = float(scores.std())
            rows.append((layer, name, test.score, spread, test.random_score, test.p_value))
    table = pd.DataFrame(rows, columns=["layer", "concept", "score", "score_sd", "random_score", "p_value"])
    table["p_adjusted"] = adjust_p_values(table["p_value"].to_numpy(), method=correction)
    table["significant"] = table["p_adjusted"] < alpha
    return table


def _score(gradients: Tensor, concept: Tensor, other: Tensor, method: str) -> float:
    y = torch.cat([torch.ones(len(concept)), torch.zeros(len(other))])
    direction = fit_direction(torch.cat([concept, other]), y, method=method)
    return float(tcav_scores(gradients, direction.vector).score[0])
