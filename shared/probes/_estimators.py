"""Linear probes with scikit-learn's interface on torch tensors; one fit serves hundreds of concepts."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.probes._factor import SharedFactor
from shared.probes._inputs import DegenerateDirectionError, as_activations, as_labels, centre, gram
from shared.probes._lasso import lasso
from shared.probes._margin import fit_margins, logistic_loss, squared_hinge_loss


class Probe(ClassifierMixin, BaseEstimator):
    """Common part of the estimators: activations (n, d), labels 0/1, (n,) or (n, k) for k concepts at once.

    Attributes
    ----------
    coef_ : (k, d), tensor on the activations' device in double precision; points from non-concept to concept.
    intercept_ : (k,), likewise.
    """

    def fit(self, H: Any, y: Any, *, factor: SharedFactor | None = None) -> Probe:
        """Fit one direction per concept.

        Parameters
        ----------
        H : activations (n, d), tensor or array, finite.
        y : labels 0 or 1, (n,) or (n, k); two of each at least.
        factor : `SharedFactor(H)`, made before and used again.

        Returns
        -------
        The probe.

        Raises
        ------
        ValueError
            Bad input; `DegenerateDirectionError` for a zero direction.
        """
        activations = as_activations(H)
        labels, self._single = as_labels(y, activations, least=self._least)
        if factor is not None and (factor.n, factor.d) != tuple(activations.shape):
            raise ValueError(f"factor is of activations {(factor.n, factor.d)}, H has shape {tuple(activations.shape)}")
        if bool((activations[:2] == activations[0]).all()) and bool((activations == activations[0]).all()):
            raise DegenerateDirectionError("H is constant: all samples have the same activation; there is no direction")
        self.coef_, self.intercept_ = self._solve(activations, labels, factor)
        _check_directions(self.coef_)
        self.classes_ = torch.tensor([0, 1]).numpy()
        self.n_features_in_ = activations.shape[1]
        return self

    _least = 2  # samples of each class

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def decision_function(self, H: Any) -> Any:
        """Signed distance in the probe's own scale, `H @ coef_.T + intercept_`.

        Parameters
        ----------
        H : activations (n, d).

        Returns
        -------
        (n,) or (n, k), as labels came; an array for an array.
        """
        activations = as_activations(H).to(self.coef_.device)
        if activations.shape[1] != self.n_features_in_:
            raise ValueError(f"H has {activations.shape[1]} features; the probe was fitted on {self.n_features_in_}")
        scores = activations @ self.coef_.T + self.intercept_
        scores = scores[:, 0] if self._single else scores
        return scores if isinstance(H, Tensor) else scores.cpu().numpy()

    def predict(self, H: Any) -> Any:
        """0 or 1, by the sign of the decision function.

        Parameters
        ----------
        H : activations (n, d).

        Returns
        -------
        (n,) or (n, k), as labels came; an array for an array.
        """
        labels = (self.decision_function(torch.as_tensor(H)) > 0).long()
        return labels if isinstance(H, Tensor) else labels.cpu().numpy()


def _check_directions(coef: Tensor) -> None:
    size = coef.norm(dim=1)
    bad = (~torch.isfinite(size) | (size == 0)).nonzero().flatten().tolist()
    if bad:
        raise DegenerateDirectionError(f"the direction of concept {bad[0]} is zero or undefined ({len(bad)} such)")


def class_means(H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of concept and non-concept samples, (k, d) each, and shares of concept samples (k,)."""
    positive, total = Y.sum(0), H.sum(0)
    inside = Y.T @ H
    return inside / positive[:, None], (total - inside) / (len(H) - positive)[:, None], positive / len(H)


class MeanDifference(Probe):
    """`mean of concept − mean of non-concept`; the threshold lies midway between the means."""

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        concept, other, _ = class_means(H, Y)
        return _between(concept - other, concept, other)


class PatternCAV(Probe):
    """`Cov(h, y) / Var(y)`, the slope of the activations on the label (Pahde et al. 2024, arXiv 2202.03482).

    For labels 0/1 it equals the difference of means.
    """

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        concept, other, _ = class_means(H, Y)
        centred = Y - Y.mean(0)
        return _between((centred.T @ (H - H.mean(0))) / centred.square().sum(0)[:, None], concept, other)


class FastCAV(Probe):
    """`mean of concept − mean of all` (Schmalwasser et al. 2025); equals (1 − p) times the difference of means."""

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        concept, _, _ = class_means(H, Y)
        mean = H.mean(0)
        direction = concept - mean
        return direction, -(direction @ mean)


class MedianDifference(Probe):
    """Difference of the classes' medians per dimension."""

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        ends = [torch.stack([H[Y[:, k] == c].quantile(0.5, dim=0) for k in range(Y.shape[1])]) for c in (1, 0)]
        return _between(ends[0] - ends[1], *ends)


def _between(direction: Tensor, concept: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    return direction, -(direction * (concept + other)).sum(1) / 2


class RidgeProbe(Probe):
    """Least squares on the label with an L2 penalty: minimises `‖y − Hw − b‖² + alpha ‖w‖²` (scikit-learn's `Ridge`).

    The intercept isn't penalised. All concepts share one factorisation.

    Parameters
    ----------
    alpha : penalty, a number or one per concept (k,).
    """

    def __init__(self, *, alpha: float | Any = 1.0) -> None:
        self.alpha = alpha

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        alpha = torch.as_tensor(self.alpha, dtype=H.dtype, device=H.device)
        check_range("alpha", float(alpha.min()), 0)
        # Y isn't centred: the centred activations are orthogonal to constants
        if factor is None and alpha.ndim == 0 and alpha > 0 and H.shape[1] <= len(H):
            centred, mean = centre(H)
            scatter = gram(centred)
            scatter.diagonal().add_(alpha)
            coef = torch.cholesky_solve(centred.T @ Y, torch.linalg.cholesky(scatter)).T
            return coef, Y.mean(0) - coef @ mean
        factor = factor or SharedFactor(H)
        coef = factor.solve(factor.H.T @ Y, alpha).T
        return coef, Y.mean(0) - coef @ factor.mean


class LDAProbe(Probe):
    """Fisher's discriminant `S_W⁻¹ (mean of concept − mean of non-concept)`, S_W the pooled within-class covariance.

    S_W differs from the shared total scatter by one rank-one term per concept, so all concepts share one factorisation
    (Sherman and Morrison).

    Parameters
    ----------
    shrinkage : s in [0, 1]; uses `(1 − s) S_W + s tr(S_W)/d I`, as scikit-learn's `LinearDiscriminantAnalysis` with
        `solver="lsqr"`.
    """

    def __init__(self, *, shrinkage: float = 0.0) -> None:
        self.shrinkage = shrinkage

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        check_range("shrinkage", self.shrinkage, 0, 1)
        factor = factor or SharedFactor(H)
        n, d = H.shape
        concept, other, p = class_means(H, Y)
        delta = concept - other
        weight = n * p * (1 - p)  # the total scatter is n S_W + weight δδᵀ
        if self.shrinkage == 1:
            level = (factor.values.sum() - weight * delta.square().sum(1)) / (n * d)
            coef = delta / level[:, None]
        else:
            keep = 1 - self.shrinkage
            if self.shrinkage == 0 and len(factor.values) < d:
                raise torch.linalg.LinAlgError(
                    f"the within-class covariance is singular: {n} samples, {d} dimensions, rank {len(factor.values)}; "
                    "set shrinkage, e.g. LDAProbe(shrinkage=0.1)"
                )
            trace = factor.values.sum() - weight * delta.square().sum(1)
            solved = factor.solve(delta.T, self.shrinkage / keep * trace / d).T
            gain = 1 - weight * (delta * solved).sum(1)
            if bool((gain <= 1e-10).any()):
                raise torch.linalg.LinAlgError(
                    f"the within-class covariance is singular ({n} samples, {d} dimensions); set shrinkage, "
                    "e.g. LDAProbe(shrinkage=0.1)"
                )
            coef = n * solved / gain[:, None] / keep
        intercept = -(coef * (concept + other)).sum(1) / 2 + (p / (1 - p)).log()
        return coef, intercept


class _MarginProbe(Probe):
    """Common part of logistic regression and the linear SVM; both minimise `½‖w‖² + C Σ weight · loss`."""

    def __init__(
        self, *, C: float = 1.0, class_weight: str | None = None, tol: float = 1e-8, max_iter: int = 1000
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

    def _weights(self, Y: Tensor) -> Tensor | None:
        check_choice("class_weight", self.class_weight, (None, "balanced"))
        if self.class_weight is None:
            return None
        positive = Y.sum(0)
        return len(Y) / 2 * torch.where(Y > 0, 1 / positive, 1 / (len(Y) - positive))

    def _minimise(self, X: Tensor, scale: Tensor, free: int, Y: Tensor, loss: Any) -> Tensor:
        """Weights (p, k) of X's columns; `scale` (p,) are the columns' scales, the last `free` aren't penalised."""
        penalty = scale.square() / self.C
        if free:
            penalty[-free:] = 0
        result, failed = fit_margins(
            X * scale, 2 * Y - 1, self._weights(Y), penalty, loss, tol=self.tol, max_iter=self.max_iter
        )
        if failed:
            warnings.warn(
                f"{failed} of {Y.shape[1]} probes did not converge in max_iter={self.max_iter} steps",
                ConvergenceWarning,
                stacklevel=4,
            )
        return result * scale[:, None]


class LogisticProbe(_MarginProbe):
    """Logistic regression with an L2 penalty, as scikit-learn's `LogisticRegression`; the intercept isn't penalised.

    All concepts run in one L-BFGS, preconditioned by the shared factorisation (the logistic loss's curvature is at most
    ¼ of the scatter).

    Parameters
    ----------
    C : inverse penalty: minimises `½‖w‖² + C Σ weight · loss`.
    class_weight : None, or "balanced": n / (2 · number of its class).
    tol : on the gradient's norm, as a share of the one at zero.
    max_iter : steps of L-BFGS.
    """

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        check_range("C", self.C, 1e-12)
        factor = factor or SharedFactor(H)
        ones = H.new_ones(len(H), 1)
        X = torch.cat([factor.H @ factor.vectors, ones], 1)
        curvature = torch.cat([factor.values / 4 + 1 / self.C, H.new_tensor([len(H) / 4])])
        weights = self._minimise(X, curvature.rsqrt(), 1, Y, logistic_loss)
        coef = (factor.vectors @ weights[:-1]).T
        return coef, weights[-1] - coef @ factor.mean

    def predict_proba(self, H: Any) -> Any:
        """Probabilities of the concept.

        Parameters
        ----------
        H : activations (n, d).

        Returns
        -------
        (n, 2) for one concept, as scikit-learn has it; (n, k) of the concept class for several.
        """
        p = torch.sigmoid(torch.as_tensor(self.decision_function(torch.as_tensor(H))))
        p = torch.stack([1 - p, p], 1) if self._single else p
        return p if isinstance(H, Tensor) else p.cpu().numpy()


class SVMProbe(_MarginProbe):
    """Linear SVM with squared hinge loss, as scikit-learn's `LinearSVC`, which penalises the intercept too.

    Parameters
    ----------
    C : inverse penalty: minimises `½‖w‖² + C Σ weight · loss`.
    class_weight : None, or "balanced": n / (2 · number of its class).
    tol : on the gradient's norm, as a share of the one at zero.
    max_iter : steps of L-BFGS.
    """

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        check_range("C", self.C, 1e-12)
        wide = torch.cat([H, H.new_ones(len(H), 1)], 1)
        if wide.shape[1] <= len(wide):
            values, vectors = torch.linalg.eigh(gram(wide))
        else:
            values, left = torch.linalg.eigh(wide @ wide.T)
            vectors = wide.T @ left / values.clamp(min=values[-1] * 1e-14).sqrt()
        good = values > values[-1] * 1e-13
        values, vectors = values[good], vectors[:, good]
        weights = self._minimise(wide @ vectors, (2 * values + 1 / self.C).rsqrt(), 0, Y, squared_hinge_loss)
        coef = (vectors @ weights).T
        return coef[:, :-1], coef[:, -1]


class LassoProbe(Probe):
    """Sparse probe: minimises `‖y − Hw − b‖² / 2n + alpha ‖w‖₁` (scikit-learn's `Lasso`).

    Accelerated proximal gradient with restarts on the shared Gram matrix.

    Parameters
    ----------
    alpha : absolute; None takes `ratio` times the smallest alpha that makes all weights zero, concept by concept, so
        that a direction is never empty.
    ratio : see alpha.
    tol : stops at a duality gap of this share of the label's variance.
    max_iter : steps.
    """

    def __init__(
        self, *, alpha: float | None = None, ratio: float = 0.1, tol: float = 1e-7, max_iter: int = 20_000
    ) -> None:
        self.alpha = alpha
        self.ratio = ratio
        self.tol = tol
        self.max_iter = max_iter

    def _solve(self, H: Tensor, Y: Tensor, factor: SharedFactor | None) -> tuple[Tensor, Tensor]:
        check_range("ratio", self.ratio, 1e-9, 1 - 1e-9)
        centred, mean = centre(H)
        target = Y - Y.mean(0)
        scatter, cross = gram(centred) / len(H), centred.T @ target / len(H)
        if self.alpha is None:
            alpha = self.ratio * cross.abs().amax(0)
        else:
            check_range("alpha", self.alpha, 0)
            alpha = cross.new_full((cross.shape[1],), float(self.alpha))
        coef = lasso(scatter, cross, target.square().mean(0), alpha, self.tol, self.max_iter).T
        return coef, Y.mean(0) - coef @ mean


PROBE_METHODS: dict[str, type[Probe]] = {
    "mean": MeanDifference,
    "pattern": PatternCAV,
    "fastcav": FastCAV,
    "median": MedianDifference,
    "ridge": RidgeProbe,
    "lda": LDAProbe,
    "logistic": LogisticProbe,
    "svm": SVMProbe,
    "lasso": LassoProbe,
}
