"""What neighbour embeddings have in common: the start, the schedule, the descent, scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg  # noqa: F401 (makes sp.linalg)
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from shared._checks import check_choice, check_finite, check_range, check_shape
from shared.embeddings._descent import DescentSchedule, descend
from shared.embeddings._validation import as_distances


class NeighbourEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What DTSNE and JEDI share: parameters, the start, the descent."""

    def fit_transform(self, X: np.ndarray, y: None = None, **options: Any) -> np.ndarray:
        """Embed the points.

        Parameters
        ----------
        X : (n, d) array
            Data, or (n, n) distances with `metric="precomputed"`.
        y : ignored
            For scikit-learn's pipelines.
        **options
            For `fit`.

        Returns
        -------
        (n, n_components) float32
            The map.
        """
        return self.fit(X, y, **options).embedding_

    def _schedule(self) -> DescentSchedule:
        check_range("max_iter", self.max_iter, 1)
        check_range("early_exaggeration", self.early_exaggeration, 1.0)
        if self.lr != "auto":
            check_range("lr", self.lr, 1e-12)
        return DescentSchedule(
            max_iter=self.max_iter,
            early_exaggeration=self.early_exaggeration,
            early_exaggeration_iter=self.early_exaggeration_iter,
            lr=self.lr,
        )

    def _start(self, X: np.ndarray, P: Any = None) -> np.ndarray:
        """The first embedding (n, n_components): a given one, the last fit's, principal components, P's or noise."""
        shape = (len(X), self.n_components)
        if self.warm_start and hasattr(self, "embedding_") and self.embedding_.shape == shape:
            return self.embedding_
        if not isinstance(self.init, str):
            start = np.asarray(self.init, dtype=np.float64)
            check_shape("init", start, shape)
            check_finite("init", start)
            return start
        check_choice("init", self.init, ("pca", "random") if P is None else ("pca", "spectral", "random"))
        random = check_random_state(self.random_state)
        if self.init == "random":
            return 1e-3 * random.standard_normal(shape)
        if self.init == "spectral":
            return _to_scale(spectral_layout(P, self.n_components, random))
        if self.metric != "precomputed" and X.shape[1] < self.n_components:
            raise ValueError(
                f"X has {X.shape[1]} feature(s), so init='pca' has no start in {self.n_components} dimensions; "
                "pass init='random'"
            )
        if self.metric == "precomputed":
            start = classical_scaling(X, n_components=self.n_components)
        else:
            seed = random.randint(2**31 - 1)
            start = PCA(self.n_components, svd_solver="auto", random_state=seed).fit_transform(X)
        return _to_scale(start)

    def _descend(self, start: np.ndarray, gradient: Callable, dtype: torch.dtype) -> torch.Tensor:
        Y = torch.as_tensor(np.ascontiguousarray(start), dtype=dtype, device=self.device)
        Y, self.n_iter_ = descend(
            Y,
            gradient,
            self._schedule(),
            callback=self.callback,
            callback_every=self.callback_every,
            progress=self.progress,
        )
        self.embedding_ = Y.cpu().numpy()
        return Y

    @property
    def _n_features_out(self) -> int:
        return self.embedding_.shape[1]


def _to_scale(start: np.ndarray) -> np.ndarray:
    return start / max(start[:, 0].std(), np.finfo(float).tiny) * 1e-3


def spectral_layout(P: Any, n_components: int, random: np.random.RandomState) -> np.ndarray:
    """Laplacian eigenmap of the graph P: its slowest modes but the constant one; columns' largest entries positive."""
    P = P.cpu().numpy() if isinstance(P, torch.Tensor) else P
    root = np.sqrt(np.asarray(P.sum(1)).ravel())
    if sp.issparse(P):
        scaled = sp.diags(1 / root) @ P @ sp.diags(1 / root)
        start = random.uniform(-1, 1, P.shape[0])
        values, vectors = sp.linalg.eigsh(scaled, k=n_components + 1, which="LA", v0=start, tol=1e-6)
    else:
        values, vectors = np.linalg.eigh(P / root[:, None] / root)
    slowest = np.argsort(-values)[1 : n_components + 1]
    layout = vectors[:, slowest] / root[:, None]
    return layout * np.sign(layout[np.abs(layout).argmax(0), np.arange(n_components)])


def classical_scaling(D: np.ndarray, *, n_components: int = 2) -> np.ndarray:
    """Classical multidimensional scaling: principal components, if the distances are Euclidean.

    Parameters
    ----------
    D : (n, n) array
        Distances.
    n_components : int
        Dimensions of the map.

    Returns
    -------
    (n, n_components) float64
        The map; each column's largest entry is positive.
    """
    squared = np.square(as_distances("D", D))
    check_range("n_components", n_components, 1, len(squared))
    inner = -0.5 * (squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean())
    values, vectors = np.linalg.eigh(inner)
    values = values[::-1][:n_components]  # largest first
    vectors = vectors[:, ::-1][:, :n_components]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(n_components)])
    return vectors * signs * np.sqrt(values.clip(min=0.0))
