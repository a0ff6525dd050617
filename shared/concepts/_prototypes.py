"""Prototypes of a class: the components of a Gaussian mixture over its samples' concept vectors (PCX)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from shared._checks import as_numbers, check_array, check_choice, check_range, check_shape

COVARIANCES = ("full", "tied", "diag", "spherical")


class ClassPrototypes(BaseEstimator):
    """One Gaussian mixture per class over concept vectors; a component is a prototype (Dreyer et al. 2024, section 3).

    `p(ν | k) = Σ_i λ_i N(ν; μ_i, Σ_i)`. A prediction of class k with a low `log p` is unusual for its class.

    Parameters
    ----------
    n_prototypes : components per class.
    covariance : "full", "tied", "diag" or "spherical", as scikit-learn has them.
    reg_covar : added to the covariances' diagonals. Vectors whose absolute values sum to 1 have variances of about
        1/d² and lie on a plane, so it decides what the likelihood makes of directions in which a class never varies.
    n_init : starts of EM, the best of which counts.
    random_state : seed of EM.

    Attributes
    ----------
    classes_ : the classes, ascending.
    mixtures_ : class -> fitted `sklearn.mixture.GaussianMixture`; `.means_` are the prototypes.
    """

    def __init__(
        self,
        *,
        n_prototypes: int = 8,
        covariance: str = "full",
        reg_covar: float = 1e-6,
        n_init: int = 1,
        random_state: int | None = 0,
    ) -> None:
        self.n_prototypes = n_prototypes
        self.covariance = covariance
        self.reg_covar = reg_covar
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> ClassPrototypes:
        """Fit every class's mixture.

        Parameters
        ----------
        X : concept vectors of training samples `(N, d)`.
        y : the classes they were explained for `(N,)`.

        Returns
        -------
        Itself.

        Raises
        ------
        ValueError
            NaN; a class with fewer samples than prototypes (it is named).
        """
        check_choice("covariance", self.covariance, COVARIANCES)
        check_range("n_prototypes", self.n_prototypes, 1)
        X, y = self._checked(X, y)
        self.classes_, counts = np.unique(y, return_counts=True)
        least = max(self.n_prototypes, 2)  # one sample has no covariance
        for k, count in zip(self.classes_, counts):
            if count < least:
                raise ValueError(
                    f"y has {count} samples of class {k}, fewer than the {least} that n_prototypes={self.n_prototypes} "
                    "needs"
                )
        self.n_features_in_ = X.shape[1]
        self.mixtures_ = {k: self._mixture().fit(X[y == k]) for k in self.classes_.tolist()}
        self._own = {k: np.sort(m.score_samples(X[y == k])) for k, m in self.mixtures_.items()}
        self._train = X, y
        return self

    def log_likelihood(self, X: Any, y: Any) -> np.ndarray:
        """`log p(ν | k)` under each row's own class.

        Parameters
        ----------
        X : `(B, d)`.
        y : the class each was explained for, usually the predicted one `(B,)`.

        Returns
        -------
        float64 `(B,)`.
        """
        return self._per_class(X, y, lambda mixture, rows: mixture.score_samples(rows))

    def percentile(self, X: Any, y: Any) -> np.ndarray:
        """Share of the class's training samples that are no more likely: comparable between classes.

        Parameters
        ----------
        X : `(B, d)`.
        y : `(B,)`, as for `log_likelihood`.

        Returns
        -------
        float64 `(B,)` in [0, 1].
        """
        found, y = self.log_likelihood(X, y), np.asarray(y)
        for k in np.unique(y).tolist():
            mine = y == k
            found[mine] = np.searchsorted(self._own[k], found[mine], side="right") / len(self._own[k])
        return found

    def assign(self, X: Any, y: Any) -> np.ndarray:
        """Each row's prototype, `argmax_i log λ_i N(ν; μ_i, Σ_i)`.

        Parameters
        ----------
        X : `(B, d)`.
        y : `(B,)`, as for `log_likelihood`.

        Returns
        -------
        int64 `(B,)`, numbers within the class.
        """
        return self._per_class(X, y, lambda mixture, rows: mixture.predict(rows)).astype(np.int64)

    def distance(self, X: Any, y: Any) -> np.ndarray:
        """Euclidean distance to the nearest prototype of the row's class.

        Parameters
        ----------
        X : `(B, d)`.
        y : `(B,)`, as for `log_likelihood`.

        Returns
        -------
        float64 `(B,)`.
        """
        return self._per_class(X, y, lambda mixture, rows: cdist(rows, mixture.means_).min(1))

    def delta(self, X: Any, y: Any) -> np.ndarray:
        """`Δ = ν − μ` to the assigned prototype: concepts used more (positive) or less than usual.

        Parameters
        ----------
        X : `(B, d)`.
        y : `(B,)`, as for `log_likelihood`.

        Returns
        -------
        float64 `(B, d)`.
        """
        X, classes = self._known(X, y)
        nearest = self.assign(X, classes)
        return X - np.stack([self.mixtures_[k].means_[i] for k, i in zip(classes.tolist(), nearest)])

    def exemplars(self, target: Any, *, n: int = 8) -> np.ndarray:
        """The training samples closest to each prototype of a class, which show it.

        Parameters
        ----------
        target : the class.
        n : samples per prototype.

        Returns
        -------
        int64 `(n_prototypes, n)`, rows of the training data, the closest first.

        Raises
        ------
        ValueError
            An unknown class, or more samples than it has.
        """
        check_is_fitted(self)
        check_choice("target", target, self.classes_.tolist())
        X, y = self._train
        rows = np.flatnonzero(y == target)
        check_range("n", n, 1, len(rows))
        return rows[cdist(self.mixtures_[target].means_, X[rows]).argsort(1, kind="stable")[:, :n]]

    def _mixture(self) -> GaussianMixture:
        return GaussianMixture(
            self.n_prototypes,
            covariance_type=self.covariance,
            reg_covar=self.reg_covar,
            n_init=self.n_init,
            random_state=self.random_state,
        )

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = _table(X), np.asarray(y)
        check_array("X", X, (None, None))
        check_shape("y", y, (len(X),))
        return X, y

    def _known(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        X, y = self._checked(X, y)
        check_shape("X", X, (None, self.n_features_in_))
        unknown = sorted(set(y.tolist()) - set(self.classes_.tolist()))
        if unknown:
            raise ValueError(f"y holds classes that were not fitted: {unknown[:5]}; known: {self.classes_.tolist()}")
        return X, y

    def _per_class(self, X: Any, y: Any, function: Any) -> np.ndarray:
        X, y = self._known(X, y)
        found = np.empty(len(X))
        for k in np.unique(y).tolist():
            found[y == k] = function(self.mixtures_[k], X[y == k])
        return found


def prototype_stability(
    X: Any, y: Any, *, generator: np.random.Generator, n_subsets: int = 4, share: float = 0.5, **options: Any
) -> np.ndarray:
    """Do other samples of a class give the same prototypes: mean cosine of matched means over pairs of random subsets.

    Parameters
    ----------
    X : concept vectors `(N, d)`.
    y : their classes `(N,)`.
    generator : draws the subsets.
    n_subsets : at least 2.
    share : of each class's samples in a subset.
    options : arguments of `ClassPrototypes`.

    Returns
    -------
    float64 `(classes,)`, 1 for identical prototypes; the classes in ascending order.

    Raises
    ------
    ValueError
        A subset with fewer samples of a class than prototypes; what `ClassPrototypes.fit` refuses.
    """
    X, y = _table(X), np.asarray(y)
    check_array("X", X, (None, None))
    check_shape("y", y, (len(X),))
    check_range("n_subsets", n_subsets, 2)
    check_range("share", share, 0, 1)
    fits = []
    for _ in range(n_subsets):
        order = generator.permutation(len(X))
        parts = [mine[: round(share * len(mine))] for mine in (order[y[order] == k] for k in np.unique(y))]
        rows = np.concatenate(parts)
        fits.append(ClassPrototypes(**options).fit(X[rows], y[rows]))
    pairs = [(a, b) for i, a in enumerate(fits) for b in fits[i + 1 :]]
    found = [
        np.mean([_matched_cosine(a.mixtures_[k].means_, b.mixtures_[k].means_) for a, b in pairs])
        for k in np.unique(y).tolist()
    ]
    return np.array(found)


def gini(vectors: Any) -> np.ndarray:
    """Gini index of the absolute values, a measure of sparseness: 0 for equal ones, 1 − 1/d for a single one.

    Parameters
    ----------
    vectors : `(n, d)`.

    Returns
    -------
    float64 `(n,)`; 0 for a row of zeros.

    Raises
    ------
    ValueError
        Another number of axes, NaN.
    """
    vectors = as_numbers(vectors)
    check_array("vectors", vectors, (None, None))
    size = np.sort(np.abs(vectors), axis=1)
    total = size.sum(1)
    d = size.shape[1]
    weighted = (size * (2 * np.arange(1, d + 1) - d - 1)).sum(1)
    return np.divide(weighted, d * total, out=np.zeros(len(size)), where=total > 0)


def _table(X: Any) -> np.ndarray:
    """Numbers of arrays, tensors, lists, frames and sparse tables; missing values become NaN."""
    if hasattr(X, "toarray"):
        X = X.toarray()
    if hasattr(X, "to_numpy"):
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    return as_numbers(X)


def _matched_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of two sets of means, each paired with one of the other's."""
    length = [np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-300) for m in (a, b)]
    cosine = (a / length[0]) @ (b / length[1]).T
    return float(cosine[linear_sum_assignment(-cosine)].mean())
