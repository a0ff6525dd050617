"""New last layers: refitted on balanced groups, or moved to another prior."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_range, wide


def last_layer_refit(
    F: Tensor,
    y: Tensor,
    *,
    groups: Tensor | None = None,
    n_subsamples: int = 10,
    C: float = 1.0,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """The last layer refitted on group-balanced subsamples (DFR, Kirichenko et al. 2023).

    Standardises, fits multinomial logistic regression to each subsample and averages; the scaling is folded back in,
    and rows are centred over classes.

    Parameters
    ----------
    F : penultimate activations (n, d).
    y : classes (n,), from 0, every one of them.
    groups : (n,), numbers of the groups to balance; the classes unless given.
    n_subsamples : fits that are averaged.
    C : inverse penalty.
    generator : of the subsamples.

    Returns
    -------
    Weights (classes, d) and bias (classes,).
    """
    check_array("F", F, ("n", "d"))
    check_array("y", y, (len(F),))
    check_range("n_subsamples", n_subsamples, 1)
    if groups is not None:
        check_array("groups", groups, (len(F),))
    labels = y.cpu().numpy()
    g = labels if groups is None else groups.cpu().numpy()
    classes = int(labels.max()) + 1
    if len(np.unique(labels)) < max(classes, 2):
        raise ValueError(f"y has {len(np.unique(labels))} different classes of {classes}; every class must occur")
    X = wide(F.detach().cpu()).numpy()
    mean, deviation = X.mean(0), X.std(0).clip(min=1e-8)
    present = np.unique(g)
    smallest = min(np.bincount(g)[present])
    W, b = np.zeros((classes, X.shape[1])), np.zeros(classes)
    for _ in range(n_subsamples):
        drawn = [generator.choice(np.flatnonzero(g == v), smallest, replace=False) for v in present]
        rows = np.concatenate(drawn)
        coef, bias = _fit((X[rows] - mean) / deviation, labels[rows], classes, C)
        W, b = W + coef / n_subsamples, b + bias / n_subsamples
    W = W / deviation
    b = b - W @ mean
    return torch.from_numpy(W - W.mean(0)).float(), torch.from_numpy(b - b.mean()).float()


def _fit(X: np.ndarray, labels: np.ndarray, classes: int, C: float) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression, one row per class also for two."""
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression(C=C, max_iter=2000).fit(X, labels)
    if classes != 2:
        return fit.coef_, fit.intercept_
    both = [np.concatenate([-part, part]) / 2 for part in (fit.coef_, fit.intercept_)]
    return both[0], both[1]


def prior_shift(bias: Tensor, train_prior: Tensor, target_prior: Tensor) -> Tensor:
    """A classifier's bias moved from one class prior to another: the baseline that a refit must beat.

    Parameters
    ----------
    bias : (classes,).
    train_prior, target_prior : (classes,), positive.

    Returns
    -------
    (classes,).
    """
    check_array("bias", bias, ("classes",))
    check_array("train_prior", train_prior, (len(bias),))
    check_array("target_prior", target_prior, (len(bias),))
    return bias - train_prior.to(bias).log() + target_prior.to(bias).log()
