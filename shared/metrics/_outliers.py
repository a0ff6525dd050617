"""How far an input lies outside the training distribution, from a classifier's logits or features.

Every score is larger for stranger inputs, so that `stats.auroc(score, is_outlier)` reads the same for all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_array, check_range, wide


def max_softmax(logits: Tensor) -> Tensor:
    """`1 − max_c softmax(z)_c` (Hendrycks & Gimpel 2017).

    Parameters
    ----------
    logits : `(B, C)`.

    Returns
    -------
    `(B,)`, from 0 to 1 − 1/C.

    Raises
    ------
    ValueError
        Another number of axes, NaN.
    """
    check_array("logits", logits, ("B", "C"))
    return 1 - wide(logits).softmax(1).amax(1)


def energy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """`−T log Σ_c exp(z_c / T)` (Liu et al. 2020); at small T the negative largest logit.

    Parameters
    ----------
    logits : `(B, C)`.
    temperature : T > 0.

    Returns
    -------
    `(B,)`.

    Raises
    ------
    ValueError
        Another number of axes, NaN, a temperature that isn't positive.
    """
    check_array("logits", logits, ("B", "C"))
    check_range("temperature", temperature, torch.finfo(torch.float32).tiny)
    return -temperature * (wide(logits) / temperature).logsumexp(1)


def mahalanobis(reference: Tensor, labels: Tensor, features: Tensor, *, shrinkage: float = 1e-3) -> Tensor:
    """Squared distance to the nearest class mean under the classes' common covariance (Lee et al. 2018).

    Parameters
    ----------
    reference : training features `(N, d)`.
    labels : their classes, int64 `(N,)`.
    features : `(B, d)`.
    shrinkage : share of the mean variance that is added to the covariance's diagonal.

    Returns
    -------
    `(B,)`.

    Raises
    ------
    ValueError
        Shapes that don't belong together, NaN, a negative shrinkage, features that never vary.
    """
    check_array("reference", reference, ("N", "d"))
    check_array("labels", labels, (len(reference),))
    check_array("features", features, ("B", reference.shape[1]))
    check_range("shrinkage", shrinkage, 0)
    x = wide(reference)
    classes, member = labels.to(x.device).unique(return_inverse=True)
    sums = x.new_zeros(len(classes), x.shape[1]).index_add(0, member, x)
    means = sums / member.bincount()[:, None]
    centred = x - means[member]
    covariance = centred.T @ centred / len(x)
    ridge = shrinkage * covariance.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(len(covariance)).to(covariance))
    if int(failed):
        raise ValueError(f"reference has features whose covariance is singular at shrinkage={shrinkage!r}; raise it")
    whiten = lambda rows: torch.linalg.solve_triangular(factor, rows.T, upper=False).T  # noqa: E731
    return torch.cdist(whiten(wide(features)), whiten(means)).square().amin(1)


def neighbour_distance(reference: Tensor, features: Tensor, *, k: int = 50, normalise: bool = True) -> Tensor:
    """Distance to the k-th nearest training sample (Sun et al. 2022).

    Parameters
    ----------
    reference : training features `(N, d)`.
    features : `(B, d)`.
    k : from 1 to N.
    normalise : scale every row to length 1 first, as the source does; a row of zeros stays.

    Returns
    -------
    `(B,)`.

    Raises
    ------
    ValueError
        Shapes that don't belong together, NaN, k larger than the number of training samples.
    """
    check_array("reference", reference, ("N", "d"))
    check_array("features", features, ("B", reference.shape[1]))
    check_range("k", k, 1, len(reference))
    known, asked = wide(reference), wide(features)
    if normalise:
        least = torch.finfo(known.dtype).tiny
        known, asked = (torch.nn.functional.normalize(rows, dim=1, eps=least) for rows in (known, asked))
    return torch.cat([torch.cdist(rows, known).kthvalue(k, dim=1).values for rows in asked.split(1024)])
