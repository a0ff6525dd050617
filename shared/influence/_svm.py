"""The multi-class SVM of Crammer and Singer (2001), solved in its dual, with the dual variables kept.

With p_i = C e_{y_i} - α_i the dual's constraints say that p_i lies in the simplex of size C, so

    min over p_i in C·Δ of  ½ Σ_c |w_c|² - Σ_i α_{i y_i},   w_c = Σ_i α_ic f_i,   α_i = C e_{y_i} - p_i.

A single row's subproblem, and the step of a projected gradient, are both a projection onto that simplex.
"""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice, check_finite, check_range, check_shape, wide

try:  # optional: the sequential solver in machine code
    from shared.influence import _svm_numba as fast
except ImportError:
    fast = None

SOLVERS = ("auto", "sequential", "gradient")


class CrammerSingerSVM:
    """min over W of ½ Σ_c |w_c|² + C Σ_i max_c (w_c·f_i + 1 - [c = y_i] - w_{y_i}·f_i), in float64.

    Parameters
    ----------
    C : float
        Weight of the hinge losses; large C gives few support vectors. Its meaning depends on the features' scale.
    tol : float
        Stop when no point violates its optimality condition by more than this (as LIBLINEAR's `eps`).
    max_epochs : int
        Sweeps over the unsettled points; a warning if they don't suffice.
    fit_intercept : bool
        Add a constant feature 1, as LIBLINEAR does: the intercept is a regularised weight.
    solver : str
        "sequential" visits one point after another (Keerthi et al. 2008; needs numba and the CPU), "gradient" is an
        accelerated projected gradient on whole matrices (any device); "auto" is sequential where it can be.
    random_state : int
        Seeds the order of visits.

    Attributes
    ----------
    alpha_ : Tensor
        Dual variables `(N, K)`; `alpha_.T @ F` is `coef_`.
    coef_ : Tensor
        `(K, d)`.
    intercept_ : Tensor
        `(K,)`: sums of the dual variables, or zeros.
    duality_gap_ : float
        (primal - dual) / primal at the solution.
    violation_ : float
        The largest one.
    n_epochs_ : int
        Sweeps made.
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-4,
        max_epochs: int = 100_000,
        fit_intercept: bool = True,
        solver: str = "auto",
        random_state: int = 0,
    ) -> None:
        check_range("C", C, 1e-300)
        check_range("tol", tol, 1e-15)
        check_range("max_epochs", max_epochs, 1)
        self.C = float(C)
        self.tol = tol
        self.max_epochs = max_epochs
        self.fit_intercept = fit_intercept
        self.solver = check_choice("solver", solver, SOLVERS)
        self.random_state = random_state
        if solver == "sequential" and fast is None:
            raise ValueError('solver="sequential" needs numba, which isn\'t installed; accepted here: auto, gradient')

    def fit(self, F: Tensor, y: Tensor) -> Self:
        """Solve.

        Parameters
        ----------
        F : Tensor
            Features `(N, d)`.
        y : Tensor
            Labels `(N,)` from 0 to K - 1, each of which must occur.

        Returns
        -------
        CrammerSingerSVM
            Itself.

        Raises
        ------
        ValueError
            NaN, fewer than two classes, a class without points, or features that are all constant.
        """
        F, y = _checked(F, y)
        X = torch.cat([F, F.new_ones(len(F), 1)], 1) if self.fit_intercept else F
        sequential = self.solver != "gradient" and fast is not None and X.device.type == "cpu"
        P, self.n_epochs_, self.violation_ = (self._sequential if sequential else self._gradient)(X, y)
        alpha = -P
        alpha[torch.arange(len(y)), y] += self.C
        W = alpha.T @ X
        self.alpha_ = alpha
        self.coef_ = W[:, : F.shape[1]].contiguous()
        self.intercept_ = W[:, -1].clone() if self.fit_intercept else W.new_zeros(len(W))
        self.duality_gap_ = self._gap(X, y, W, alpha)
        if self.violation_ > self.tol:
            warnings.warn(
                f"the SVM's largest violation is {self.violation_:.1e} after {self.n_epochs_} epochs "
                f"(tol={self.tol:g}, relative duality gap {self.duality_gap_:.1e}); raise max_epochs or tol, "
                "or scale the features",
                RuntimeWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, F: Tensor) -> Tensor:
        """Scores of features.

        Parameters
        ----------
        F : Tensor
            `(T, d)`.

        Returns
        -------
        Tensor
            `(T, K)` float64.
        """
        check_shape("F", F, ("T", self.coef_.shape[1]))
        return wide(F) @ self.coef_.T + self.intercept_

    def _gap(self, X: Tensor, y: Tensor, W: Tensor, alpha: Tensor) -> float:
        rows = torch.arange(len(y))
        margins = X @ W.T + 1
        margins[rows, y] -= 1
        loss = margins.max(1).values - margins[rows, y]
        half = 0.5 * W.square().sum()
        primal, dual = half + self.C * loss.sum(), alpha[rows, y].sum() - half
        return float((primal - dual) / primal)

    def _sequential(self, X: Tensor, y: Tensor) -> tuple[Tensor, int, float]:
        squares = X.square().sum(1).numpy()
        P, _, epochs, worst = fast.descend(
            np.ascontiguousarray(X.numpy()), y.numpy(), squares, self.C, self.tol, self.max_epochs, self.random_state
        )
        return torch.from_numpy(P), int(epochs), float(worst)

    def _gradient(self, X: Tensor, y: Tensor) -> tuple[Tensor, int, float]:
        """FISTA with restarts (O'Donoghue & Candès 2015) over all rows at once; step 1 / λ_max(X Xᵀ)."""
        onehot = torch.nn.functional.one_hot(y).to(X)
        full = (X != 0).any(1)  # a row of zeros has no say: it stays at α = 0
        step = 1 / float(torch.linalg.matrix_norm(X, 2) ** 2)
        P = self.C * onehot
        Q = P  # the extrapolated point
        t = 1.0  # momentum
        worst = float("inf")
        for epoch in range(1, self.max_epochs + 1):
            G = X @ ((self.C * onehot - Q).T @ X).T + 1 - onehot  # ascent direction of p: the margin violations
            new = project_simplex(Q + step * G, self.C)
            if float(((Q - new) * (new - P)).sum()) > 0:
                t = 1.0
            faster = (1 + (1 + 4 * t * t) ** 0.5) / 2
            Q = new + (t - 1) / faster * (new - P)
            P = new
            t = faster
            if epoch % 20 == 0 or epoch == self.max_epochs:
                G = X @ ((self.C * onehot - P).T @ X).T + 1 - onehot
                used = torch.where(P > 0, G, torch.inf).min(1).values
                worst = float(torch.where(full, G.max(1).values - used, 0.0).max())
                if worst <= self.tol:
                    break
        P[~full] = self.C * onehot[~full]
        return P, epoch, worst


def project_simplex(D: Tensor, size: float) -> Tensor:
    """Each row of D (N, K) projected onto {p >= 0, Σ p = size}."""
    ordered = D.sort(1, descending=True).values
    count = torch.arange(1, D.shape[1] + 1, device=D.device, dtype=D.dtype)
    theta = (ordered.cumsum(1) - size) / count
    last = (ordered > theta).sum(1, keepdim=True) - 1
    return (D - theta.gather(1, last)).clamp_(min=0)


def _checked(F: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    F, y = torch.as_tensor(F).detach(), torch.as_tensor(y)
    check_shape("F", F, ("N", "d"))
    check_finite("F", F)
    check_shape("y", y, (len(F),))
    if y.is_floating_point() or y.dtype == torch.bool or int(y.min()) < 0:
        raise ValueError("y must hold integer classes from 0")
    counts = torch.bincount(y)
    if len(counts) < 2 or int((counts > 0).sum()) < 2:
        raise ValueError("y holds one class only; an SVM needs two or more")
    if bool((counts == 0).any()):
        missing = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(f"y has no point of class {missing}; number the classes from 0 without gaps")
    if bool((F == F[:1]).all()):
        raise ValueError("F is constant: every training point has the same features, so nothing separates the classes")
    return wide(F), y.long()
