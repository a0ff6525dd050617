"""Neighbour embeddings with scikit-learn's interface: dtSNE (and t-SNE), JEDI."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from shared._checks import check_choice, check_finite, check_range, check_shape
from shared.embeddings._affinities import affinities, density_scale, neighbour_affinities
from shared.embeddings._descent import Callback, Schedule, descend
from shared.embeddings._leaves import attraction, group, repulsion
from shared.embeddings._objectives import check_jedi, jedi_objective, kl_gradient, kl_objective
from shared.embeddings._validation import as_data, as_distances

_EXACT_UP_TO = 3000  # points for which method="auto" works over all pairs
_REGROUP = 10  # gradients for which the points keep their groups


class _NeighbourEmbedding(BaseEstimator):
    """What DTSNE and JEDI share: parameters, the start, the descent."""

    def fit_transform(self, X: np.ndarray, y=None, **options) -> np.ndarray:
        """Embed and return the coordinates (n, n_components)."""
        return self.fit(X, y, **options).embedding_

    def transform(self, X):
        """There is no map for new points."""
        raise NotImplementedError(f"{type(self).__name__} embeds the points it is fitted on only; use fit_transform")

    def _schedule(self) -> Schedule:
        if self.n_iter < 1:
            raise ValueError(f"n_iter={self.n_iter} must be at least 1")
        check_range("exaggeration", self.exaggeration, 1.0)
        if self.learning_rate != "auto":
            check_range("learning_rate", self.learning_rate, 1e-12)
        return Schedule(self.n_iter, self.exaggeration, self.exaggeration_iter, self.learning_rate)

    def _start(self, X: np.ndarray) -> np.ndarray:
        """The first embedding (n, n_components): a given one, the last fit's, principal components or noise."""
        shape = (len(X), self.n_components)
        if self.warm_start and hasattr(self, "embedding_") and self.embedding_.shape == shape:
            return self.embedding_
        if not isinstance(self.init, str):
            start = np.asarray(self.init, dtype=np.float64)
            check_shape("init", start, shape)
            check_finite("init", start)
            return start
        check_choice("init", self.init, ("pca", "random"))
        random = check_random_state(self.random_state)
        if self.init == "random":
            return 1e-3 * random.standard_normal(shape)
        if self.metric == "precomputed":
            start = classical_scaling(X, self.n_components)
        else:
            seed = random.randint(2**31 - 1)
            start = PCA(self.n_components, svd_solver="auto", random_state=seed).fit_transform(X)
        return start / max(start[:, 0].std(), np.finfo(float).tiny) * 1e-3

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


class DTSNE(_NeighbourEmbedding):
    """dtSNE: t-SNE whose map keeps relative densities (Fischer, Burkholz, Vreeken 2023).

    Parameters
    ----------
    density : with False, γ ≡ 1 and conditional symmetrisation: plain t-SNE.
    method : "exact" over all pairs (any n_components, O(n²) memory); "approximate" with P on 3·perplexity neighbours
        and far groups of points lumped (2 components, O(n) memory); "auto" is exact up to 3,000 points.
    theta : accuracy of "approximate": 0 lumps nothing; 0.25 keeps the gradient within some 0.2 % of the exact one
        (0.1 % on a CPU with numba).
    exaggeration, exaggeration_iter : factor on P and for how many iterations.
    learning_rate : "auto" is max(n / (4 · exaggeration in force), 50).
    init : "pca" (scaled to a standard deviation of 1e-3), "random", or an array (n, n_components).
    metric : "euclidean", or "precomputed" when X is a distance matrix (exact only).
    warm_start : start from the last fit's embedding (pass `exaggeration_iter=0` with it, as a rule).
    callback : called with (iteration, embedding tensor) every `callback_every` iterations; True stops.

    Attributes: embedding_ (n, n_components) float32, sigma_ (n,) bandwidths, kl_ final KL divergence, n_iter_.
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        perplexity: float = 30.0,
        density: bool = True,
        n_iter: int = 750,
        exaggeration: float = 12.0,
        exaggeration_iter: int = 250,
        learning_rate: float | str = "auto",
        init: str | np.ndarray = "pca",
        metric: str = "euclidean",
        method: str = "auto",
        theta: float = 0.25,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        callback: Callback | None = None,
        callback_every: int = 50,
        progress: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.density = density
        self.n_iter = n_iter
        self.exaggeration = exaggeration
        self.exaggeration_iter = exaggeration_iter
        self.learning_rate = learning_rate
        self.init = init
        self.metric = metric
        self.method = method
        self.theta = theta
        self.warm_start = warm_start
        self.random_state = random_state
        self.callback = callback
        self.callback_every = callback_every
        self.progress = progress
        self.device = device

    def fit(self, X: np.ndarray, y=None) -> DTSNE:
        """Embed X: (n, d) data or, with metric="precomputed", (n, n) distances."""
        check_choice("metric", self.metric, ("euclidean", "precomputed"))
        check_choice("method", self.method, ("auto", "exact", "approximate"))
        X = as_distances("X", X, min_points=10) if self.metric == "precomputed" else as_data("X", X)
        exact = self.method == "exact" or (self.method == "auto" and len(X) <= _EXACT_UP_TO)
        if not exact and (self.metric == "precomputed" or self.n_components != 2):
            raise ValueError(
                f"method='approximate' takes metric='euclidean' and n_components=2; got {self.metric!r} and "
                f"{self.n_components} (method='auto' is approximate beyond {_EXACT_UP_TO} points)"
            )
        (self._fit_exact if exact else self._fit_approximate)(X)
        return self

    def _fit_exact(self, X: np.ndarray) -> None:
        P, sigma = affinities(
            X,
            self.perplexity,
            metric=self.metric,
            symmetrise="sigma" if self.density else "conditional",
            device=self.device,
        )
        gamma = density_scale(sigma).float() if self.density else None
        P = P.float()
        Y = self._descend(self._start(X), lambda Y, factor: kl_gradient(Y, P, gamma, exaggeration=factor), P.dtype)
        self.sigma_ = sigma.cpu().numpy()
        self.kl_ = float(kl_objective(Y, P, gamma)[0])

    def _fit_approximate(self, X: np.ndarray) -> None:
        P, sigma = neighbour_affinities(
            X,
            self.perplexity,
            symmetrise="sigma" if self.density else "conditional",
            random_state=self.random_state,
        )
        check_range("theta", self.theta, 0.0, 1.0)
        problem = SparseKL(P, sigma if self.density else None, theta=self.theta, device=self.device)
        Y = self._descend(self._start(X), problem.gradient, torch.float32)
        self.sigma_ = sigma
        self.kl_ = problem.loss(Y)


class SparseKL:
    """KL(P‖Q) for a sparse P (n, n) over points in the plane; `sigma` (n,) makes it dtSNE's, None t-SNE's."""

    def __init__(self, P, sigma: np.ndarray | None, *, theta: float = 0.25, device: str | torch.device = "cpu") -> None:
        P = P.tocsr()
        self.rows = torch.as_tensor(P.indptr.astype(np.int64), device=device)
        self.columns = torch.as_tensor(P.indices.astype(np.int32), device=device)
        self.p = torch.as_tensor(P.data.astype(np.float32), device=device)
        sigma = np.ones(P.shape[0]) if sigma is None else np.asarray(sigma) / np.median(sigma)
        self.sigma = torch.as_tensor(sigma, dtype=torch.float32, device=device)
        self.scale = float(np.partition(sigma, 1)[:2].sum() ** 2)  # the densest pair has γ = 1
        self.theta = theta
        self._calls, self._order = 0, None

    def gradient(self, Y: torch.Tensor, exaggeration: float = 1.0) -> torch.Tensor:
        """4 Σ_j (exaggeration · p_ij - q_ij) γ_ij w_ij (y_i - y_j): (n, 2)."""
        if self._calls % _REGROUP == 0:
            self._order = group(Y)
        self._calls += 1
        push, Z = repulsion(Y, self.sigma, self.scale, self.theta, self._order)
        pull = attraction(Y, self.rows, self.columns, self.p, self.sigma, self.scale)
        return pull.mul_(4 * exaggeration).sub_(push, alpha=4 / float(Z))

    def loss(self, Y: torch.Tensor) -> float:
        """KL(P‖Q)."""
        _, Z = repulsion(Y, self.sigma, self.scale, self.theta)
        i = torch.repeat_interleave(torch.arange(len(Y), device=Y.device), self.rows.diff())
        squared = (self.sigma[i] + self.sigma[self.columns]).square()
        w = squared / (squared + self.scale * (Y[i] - Y[self.columns]).square().sum(1))
        p = self.p.double()
        return float((torch.xlogy(p, p) - torch.xlogy(p, w.double())).sum() + p.sum() * math.log(float(Z)))


class JEDI(_NeighbourEmbedding):
    """JEDI: a t-SNE map unlike a prior's neighbourhoods (Heiter, Fischer, Vreeken 2021); exact, O(n²).

    Minimises KL(P‖Q) - JS(P'‖Q), P' being the neighbour probabilities of the prior distances.

    Parameters
    ----------
    alpha, beta : weights of the divergence (see `js_divergence`); its bound -log(1 - beta) weighs it against KL.
    perplexity, prior_perplexity : of the data and of the prior (None: as the data).
    The others are those of `DTSNE`.

    Attributes: embedding_, sigma_, objective_ (final value), n_iter_.
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        alpha: float = 0.5,
        beta: float = 0.99,
        perplexity: float = 30.0,
        prior_perplexity: float | None = None,
        n_iter: int = 750,
        exaggeration: float = 12.0,
        exaggeration_iter: int = 250,
        learning_rate: float | str = "auto",
        init: str | np.ndarray = "random",
        metric: str = "euclidean",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        callback: Callback | None = None,
        callback_every: int = 50,
        progress: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.beta = beta
        self.perplexity = perplexity
        self.prior_perplexity = prior_perplexity
        self.n_iter = n_iter
        self.exaggeration = exaggeration
        self.exaggeration_iter = exaggeration_iter
        self.learning_rate = learning_rate
        self.init = init
        self.metric = metric
        self.warm_start = warm_start
        self.random_state = random_state
        self.callback = callback
        self.callback_every = callback_every
        self.progress = progress
        self.device = device

    def fit(self, X: np.ndarray, y=None, *, prior: np.ndarray) -> JEDI:
        """Embed X (n, d), or distances (n, n) with metric="precomputed"; `prior` (n, n): distances to factor out."""
        check_choice("metric", self.metric, ("euclidean", "precomputed"))
        check_jedi(self.alpha, self.beta)
        X = as_distances("X", X, min_points=10) if self.metric == "precomputed" else as_data("X", X)
        prior = as_distances("prior", prior, n=len(X))
        P, sigma = affinities(X, self.perplexity, metric=self.metric, device=self.device)
        prior_P, _ = prior_affinities(prior, self.prior_perplexity or self.perplexity, self.device)
        P, prior_P = P.float(), prior_P.float()

        def gradient(Y: torch.Tensor, factor: float) -> torch.Tensor:
            return jedi_objective(Y, P, prior_P, self.alpha, self.beta, exaggeration=factor)[1]

        Y = self._descend(self._start(X), gradient, P.dtype)
        self.sigma_ = sigma.cpu().numpy()
        self.objective_ = float(jedi_objective(Y, P, prior_P, self.alpha, self.beta)[0])
        return self


def prior_affinities(
    prior: np.ndarray, perplexity: float, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Neighbour probabilities of a prior's distances; where they have only the values 0 and 1 (labels), uniform over
    each point's own group, since no bandwidth can have a perplexity below the group's size."""
    prior = as_distances("prior", prior)
    values = np.unique(prior)
    if len(values) <= 2:
        same = torch.as_tensor(prior == 0, dtype=torch.float64, device=device).fill_diagonal_(0.0)
        P = same / same.sum(1, keepdim=True).clamp_min(1.0)
        return (P + P.T) / P.sum().clamp_min(1e-300) / 2, None
    return affinities(prior, perplexity, metric="precomputed", device=device)


def classical_scaling(D: np.ndarray, n_components: int = 2) -> np.ndarray:
    """Classical multidimensional scaling (n, n_components) of distances (n, n): principal components, if Euclidean."""
    squared = np.square(as_distances("D", D))
    inner = -0.5 * (squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean())
    values, vectors = np.linalg.eigh(inner)
    values, vectors = values[::-1][:n_components], vectors[:, ::-1][:, :n_components]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(n_components)])
    return vectors * signs * np.sqrt(values.clip(min=0.0))
