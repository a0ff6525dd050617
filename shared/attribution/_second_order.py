"""Second-order explanations of predictive uncertainty: the covariance of first-order explanations over an ensemble.

Bley, Lapuschkin, Samek and Montavon 2024, "Explaining Predictive Uncertainty by Exposing Second-Order Effects" (arXiv
2401.17441). M members, B rows, K outputs, features of shape S; the predictive variance sums the outputs' variances.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared._checks import check_finite, check_shape
from shared.attribution._members import Members, Rules, divisor, explain_members, predictive_variance


@dataclass(frozen=True)
class SecondOrder:
    """`R_ij = sum_k Cov_m(R_i, R_j)`, the shares of features and pairs of features in the predictive variance.

    Attributes
    ----------
    diagonal : `R_ii` `(B, *S)`, never negative: what the feature does by itself.
    marginal : `sum_j R_ij` `(B, *S)`: with its share in every pair; may be negative, sums to `total`.
    total : `sum_ij R_ij` `(B,)`, the variance of the summed explanations. It is `uncertainty` if every member's
        explanation sums to its output up to one constant.
    uncertainty : the predictive variance `(B,)`.
    centred : explanations minus their mean over members `(M, B, K, *S)`, of which `matrix` is made.
    ddof : the covariance divides by M - ddof.
    """

    diagonal: Tensor
    marginal: Tensor
    total: Tensor
    uncertainty: Tensor
    centred: Tensor = field(repr=False)
    ddof: int = 0

    @property
    def gap(self) -> Tensor:
        """`uncertainty - total` `(B,)`: what biases and non-conserving explainers keep."""
        return self.uncertainty - self.total

    def matrix(self) -> Tensor:
        """All pairs of features.

        Returns
        -------
        `R_ij` `(B, D, D)`, symmetric, positive semi-definite, of rank <= (M - 1) K; D is the product of S.
        """
        flat = self.centred.flatten(3)
        return torch.einsum("mbki,mbkj->bij", flat, flat) / (len(flat) - self.ddof)


def second_order(explanations: Tensor, outputs: Tensor, *, ddof: int = 0) -> SecondOrder:
    """Covariance over members of any first-order explanations: CovLRP from LRP, CovGI from gradient x input, ...

    Costs O(M B K D); only `matrix` is quadratic in D.

    Parameters
    ----------
    explanations : `(M, B, K, *S)`, M >= 2: what each feature contributes to output k of member m.
    outputs : `(M, B, K)`.
    ddof : the covariance divides by M - ddof.

    Returns
    -------
    `SecondOrder`.

    Raises
    ------
    ValueError
        Bad input, fewer than two members.
    """
    if explanations.ndim < 4:
        raise ValueError(f"explanations has shape {tuple(explanations.shape)}; expected (M, B, K, *features)")
    check_finite("explanations", explanations)
    check_shape("outputs", outputs, tuple(explanations.shape[:3]))
    count = divisor(len(explanations), ddof)
    explanations = explanations.detach()
    centred = explanations - explanations.mean(0)
    summed = centred.flatten(3).sum(3)
    diagonal = centred.square().sum((0, 2)) / count
    marginal = (centred * summed.view(*summed.shape, *[1] * (centred.ndim - 3))).sum((0, 2)) / count
    total = summed.square().sum((0, 2)) / count
    return SecondOrder(diagonal, marginal, total, predictive_variance(outputs.detach(), ddof=ddof), centred, ddof)


def explain_uncertainty(
    members: Members,
    x: Tensor,
    *,
    method: str = "lrp",
    ddof: int = 0,
    composite: Rules = None,
    steps: int = 50,
    baseline: float | Tensor = 0.0,
    batch_size: int | None = None,
) -> SecondOrder:
    """Second-order explanation of an ensemble's variance: `second_order` of `explain_members`.

    Parameters
    ----------
    members : as for `explain_members`.
    x : as for `explain_members`.
    method : "lrp", "gi" or "ig": CovLRP, CovGI, CovIG.
    ddof : the covariance divides by M - ddof.
    composite : as for `explain_members`.
    steps : as for `explain_members`.
    baseline : as for `explain_members`.
    batch_size : as for `explain_members`.

    Returns
    -------
    `SecondOrder`.

    Raises
    ------
    ValueError, TypeError
        Bad input.
    ValueError
        A model in training mode with dropout or batch norm.
    """
    options = {"composite": composite, "steps": steps, "baseline": baseline, "batch_size": batch_size}
    return second_order(*explain_members(members, x, method=method, **options), ddof=ddof)
