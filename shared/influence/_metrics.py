"""How good attributions are: Quanda's metrics (Bareeva et al. 2024), sparsity, and the level of chance of each.

τ is (T, N), larger meaning more support for the explained class. Means are over test points; what can't be scored (no
positives, a constant row) is left out and `n_used` says how many were; where nothing is left the score is NaN, with a
warning.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range, check_shape, wide
from shared.stats import average_precision, rank_correlation


@dataclass(frozen=True)
class AttributionScore:
    """How good attributions are by one metric.

    Parameters
    ----------
    score : float
        Mean of `per_item`; NaN if nothing could be scored.
    per_item : Tensor
        One number per test point (where the metric says so, something else); NaN where there is none.
    n_used : int
        Items that could be scored.
    chance : float
        What random scores get on average.
    """

    score: float
    per_item: Tensor = field(repr=False)
    n_used: int
    chance: float


def class_detection(tau: Tensor, train_labels: Tensor, targets: Tensor, *, k: int = 5) -> AttributionScore:
    """Share of the k strongest proponents that are of the explained class; k = 5 in Quanda 0.5 and DualXDA.

    With the true subclasses of a network trained on groups of classes this is Quanda's subclass detection.

    Parameters
    ----------
    tau : Tensor
        Attributions `(T, N)`.
    train_labels : Tensor
        Classes of the training points `(N,)`.
    targets : Tensor
        Explained classes `(T,)`.
    k : int
        Proponents looked at.

    Returns
    -------
    AttributionScore
        Of shares by test point.
    """
    _check_tau(tau)
    check_shape("train_labels", train_labels, (tau.shape[1],))
    check_shape("targets", targets, (len(tau),))
    check_range("k", k, 1, tau.shape[1])
    same = train_labels[tau.topk(k, 1).indices] == targets[:, None]
    chance = wide(train_labels[None] == targets[:, None]).mean()
    return _score(wide(same).mean(1), float(chance))


def shortcut_detection(tau: Tensor, marked: Tensor, *, keep: Tensor | None = None) -> AttributionScore:
    """Mean average precision of τ as a detector of the marked training points.

    Parameters
    ----------
    tau : Tensor
        Attributions `(T, N)`.
    marked : Tensor
        Bool `(N,)`, the training points that carry the shortcut (or come from a foreign data set: Quanda's mixed data
        sets).
    keep : Tensor, optional
        Bool `(T,)`, the test points that the shortcut fooled: predicted as its class, not of it (of mixed data sets:
        foreign, predicted as their label). Without any the score is NaN, with a warning.

    Returns
    -------
    AttributionScore
        Of average precisions by test point. `chance` is the expectation over random orders, which few marked points
        raise above their share.
    """
    _check_tau(tau)
    check_shape("marked", marked, (tau.shape[1],))
    if not 0 < int(marked.sum()) < len(marked):
        raise ValueError(f"marked has {int(marked.sum())} of {len(marked)} points; some and not all must be marked")
    if keep is not None:
        check_shape("keep", keep, (len(tau),))
        tau = tau[keep]
    columns = marked[:, None].expand(-1, len(tau))
    found = average_precision(tau.T, columns) if len(tau) else torch.zeros(0, dtype=torch.float64)
    return _score(found, _random_average_precision(int(marked.sum()), len(marked)))


def mislabelling_detection(self_influence: Tensor, flipped: Tensor) -> AttributionScore:
    """Area under the share of wrong labels found among the first points, by self-influence from the top.

    Trapezoids, divided by N, as in Quanda; of equal scores the curve is the mean over their orders, so that constant
    ones give chance. Best: about 1 minus half the share of wrong labels.

    Parameters
    ----------
    self_influence : Tensor
        `(N,)`.
    flipped : Tensor
        Bool `(N,)`, the points whose label is wrong.

    Returns
    -------
    AttributionScore
        `per_item` is the curve `(N,)`.
    """
    check_array("self_influence", self_influence, ("N",))
    check_shape("flipped", flipped, (len(self_influence),))
    if not bool(flipped.any()):
        raise ValueError("flipped marks no point; there is nothing to detect")
    order = self_influence.argsort(descending=True, stable=True)
    _, group, size = self_influence[order].unique_consecutive(return_inverse=True, return_counts=True)
    wrong = wide(flipped[order])
    wrong = wide(wrong.new_zeros(len(size)).index_add(0, group, wrong) / size)[group]  # each one's chance
    found = wrong.cumsum(0) / flipped.sum()
    n = len(flipped)
    return AttributionScore(float(torch.trapezoid(found) / n), found, n, 0.5 * (1 - 1 / n**2))


def lds(tau: Tensor, subsets: Tensor, outputs: Tensor, *, correlation: str = "spearman") -> AttributionScore:
    """Linear datamodelling score (Park et al. 2023).

    Per test point the rank correlation over the m networks of Σ_{i in S} τ_i with the output.

    Parameters
    ----------
    tau : Tensor
        Attributions `(T, N)`.
    subsets : Tensor
        Bool `(m, N)`, the training points of m retrained networks.
    outputs : Tensor
        `(m, T)`, their explained output for each test point, e.g. log p of the class.
    correlation : str
        "spearman" or "kendall".

    Returns
    -------
    AttributionScore
        Of correlations by test point.
    """
    _check_tau(tau)
    check_choice("correlation", correlation, ("spearman", "kendall"))
    check_array("subsets", subsets, ("m", tau.shape[1]))
    check_array("outputs", outputs, (len(subsets), len(tau)))
    predicted = wide(tau) @ wide(subsets).T
    return _score(rank_correlation(predicted, wide(outputs.T), kind=correlation), 0.0)


def model_randomisation(tau: Tensor, tau_random: Tensor, *, correlation: str = "spearman") -> AttributionScore:
    """Rank correlation of each test point's scores with those for a network with random weights; near 0 is better.

    Parameters
    ----------
    tau : Tensor
        Attributions `(T, N)`.
    tau_random : Tensor
        The same `(T, N)` for a network with random weights (`TrainedClassifier.randomised`).
    correlation : str
        "spearman" or "kendall".

    Returns
    -------
    AttributionScore
        Of correlations by test point.
    """
    _check_tau(tau)
    check_array("tau_random", tau_random, tuple(tau.shape))
    check_choice("correlation", correlation, ("spearman", "kendall"))
    return _score(rank_correlation(wide(tau), wide(tau_random), kind=correlation), 0.0)


def topk_cardinality(tau: Tensor, *, k: int = 1) -> AttributionScore:
    """Different training points among all test points' k strongest, over T k; high means specific to the test point.

    Parameters
    ----------
    tau : Tensor
        Attributions `(T, N)`.
    k : int
        Points looked at per test point.

    Returns
    -------
    AttributionScore
        `chance` is the expectation for k points drawn at random for each test point; `per_item` is empty.
    """
    _check_tau(tau)
    T, N = tau.shape
    check_range("k", k, 1, N)
    seen = len(tau.topk(k, 1).indices.unique())
    return AttributionScore(seen / (T * k), tau.new_empty(0), T, N * (1 - (1 - k / N) ** T) / (T * k))


def sparsity_curve(tau: Tensor) -> Tensor:
    """Share of Σ_i |τ_i| in the j largest, mean over test points, for j = 1 … N.

    Parameters
    ----------
    tau : Tensor
        Attributions `(T, N)`.

    Returns
    -------
    Tensor
        `(N,)` float64.
    """
    _check_tau(tau)
    mass = wide(tau).abs().sort(1, descending=True).values.cumsum(1)
    mass = mass[mass[:, -1] > 0]
    return (mass / mass[:, -1:]).mean(0)


def _random_average_precision(n: int, total: int) -> float:
    """E[AP] of a random order with n positives: (1/n) Σ_k E[rel_k Σ_{j≤k} rel_j] / k, in closed form."""
    harmonic = float((1 / torch.arange(1, total + 1, dtype=torch.float64)).sum())
    return (harmonic + (n - 1) / (total - 1) * (total - harmonic)) / total


def _check_tau(tau: Tensor) -> None:
    check_array("tau", tau, ("T", "N"))


def _score(per_item: Tensor, chance: float) -> AttributionScore:
    used = per_item[torch.isfinite(per_item)]
    if not len(used):
        warnings.warn(f"none of {len(per_item)} test points could be scored; the score is NaN", stacklevel=3)
    return AttributionScore(float(used.mean()) if len(used) else float(np.nan), per_item, len(used), chance)
