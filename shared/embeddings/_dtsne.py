"""dtSNE (and t-SNE) with scikit-learn's interface, over all pairs or over neighbours."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.validation import check_is_fitted

from shared._checks import check_choice, check_range, wide
from shared.embeddings._affinities import affinities, density_scale, seeded_neighbour_affinities
from shared.embeddings._base import NeighbourEmbedding
from shared.embeddings._descent import Callback
from shared.embeddings._distances import as_points, distances_to
from shared.embeddings._leaves import attraction, dense_gradient, group, repulsion
from shared.embeddings._objectives import kl_objective
from shared.embeddings._placing import place
from shared.embeddings._validation import check_perplexity

_EXACT_UP_TO = 3000  # points for which method="auto" works over all pairs
_REGROUP = 10  # gradients for which the points keep their groups


class DTSNE(NeighbourEmbedding):
    """dtSNE: t-SNE whose map keeps relative densities (Fischer, Burkholz, Vreeken 2023).

    Parameters
    ----------
    n_components : int
        Dimensions of the map; the approximate method knows two only.
    perplexity : float
        Effective number of neighbours of each point, above 1 and below (n - 1) / 3. Larger values show coarser
        structure; the density of a region is measured on this scale.
    density : bool
        Keep relative densities: γ scales each pair's kernel by its bandwidths, and both directions of P share one
        bandwidth. With False, γ ≡ 1 and P is symmetrised as in t-SNE: plain t-SNE.
    max_iter : int
        Iterations of gradient descent, those of the early exaggeration among them.
    early_exaggeration : float
        How tight groups are drawn together at first: the factor on P, at least 1. Larger values leave more empty space
        between them.
    early_exaggeration_iter : int
        For how many iterations it is in force; momentum is 0.5 until then and 0.8 after.
    lr : float or "auto"
        Learning rate. Too high, and the map becomes a ball of equidistant points or diverges; too low, and most points
        stay in a dense cloud. "auto" is max(n / (4 · exaggeration in force), 50).
    init : "pca", "spectral", "random" or (n, n_components) array
        The first map: principal components (classical scaling of distances) with a standard deviation of 1e-3, which
        keeps the global arrangement; the slowest modes of the neighbour graph P, which unrolls curved sheets; noise of
        that size; or your own.
    metric : str
        scikit-learn's name ("euclidean", "cosine", "correlation", "manhattan", "chebyshev", "canberra", "braycurtis",
        "hamming"), or "precomputed" if X is a matrix of distances (plain, not squared); the exact method only.
    method : "auto", "exact" or "approximate"
        "exact" works over all pairs (any `n_components`, O(n²) memory); "approximate" has P on 3·perplexity neighbours
        and lumps far groups of points (O(n) memory); "auto" is exact up to 3,000 points.
    theta : float
        Accuracy of "approximate", the angle of Barnes and Hut: 0 lumps nothing; 0.25 keeps the gradient within some
        0.2 % of the exact one (0.1 % on a CPU with numba).
    warm_start : bool
        Start from the last fit's embedding if its shape fits; pass `early_exaggeration_iter=0` with it, as a rule.
    random_state : int, RandomState or None
        For `init`, and for the approximate neighbours beyond 5,000 points; an int gives the same map each time on the
        same machine.
    callback : callable, optional
        Called with (iteration, embedding tensor) every `callback_every` iterations and at the last; True stops the
        descent.
    callback_every : int
        See `callback`.
    progress : bool
        Show a progress bar.
    device : str or torch.device
        Where the descent runs.

    Attributes
    ----------
    embedding_ : (n, n_components) float32
        The map.
    sigma_ : (n,) float64
        Bandwidths, in the unit of the data's distances.
    kl_ : float
        Final KL divergence, in nats.
    n_iter_ : int
        Iterations made.
    """

    def __init__(
        self,
        *,
        n_components: int = 2,
        perplexity: float = 30.0,
        density: bool = True,
        max_iter: int = 750,
        early_exaggeration: float = 12.0,
        early_exaggeration_iter: int = 250,
        lr: float | str = "auto",
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
        self.max_iter = max_iter
        self.early_exaggeration = early_exaggeration
        self.early_exaggeration_iter = early_exaggeration_iter
        self.lr = lr
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

    def fit(self, X: np.ndarray, y: None = None) -> DTSNE:
        """Embed the points.

        Parameters
        ----------
        X : (n, d) array or scipy sparse matrix
            Data, at least 10 points; or (n, n) distances with `metric="precomputed"`.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        DTSNE
            Itself.

        Raises
        ------
        ValueError
            For options that don't fit each other or the data.
        FloatingPointError
            If the descent diverges.
        """
        check_choice("method", self.method, ("auto", "exact", "approximate"))
        X = as_points("X", X, self.metric)
        self._reference = X
        self.n_features_in_ = X.shape[1]
        exact = self.method == "exact" or (self.method == "auto" and len(X) <= _EXACT_UP_TO)
        if not exact and (self.metric == "precomputed" or self.n_components != 2):
            raise ValueError(
                f"method='approximate' takes no metric='precomputed' and n_components=2; got {self.metric!r} and "
                f"{self.n_components} (method='auto' is approximate beyond {_EXACT_UP_TO} points)"
            )
        (self._fit_exact if exact else self._fit_approximate)(X)
        return self

    def transform(self, X: np.ndarray, *, perplexity: float | None = None, max_iter: int = 100) -> np.ndarray:
        """Places new points in the map, which stays as it is; rows that were in the fit keep their places.

        Each point finds its neighbours among the fit's, at a bandwidth of its own and (with `density`) the fit's, and
        descends to where its map neighbours have those probabilities: one point doesn't depend on the others.

        Parameters
        ----------
        X : (m, d) array or scipy sparse matrix
            New points; (m, n) distances to the fit's points with `metric="precomputed"`.
        perplexity : float, optional
            Effective number of reference points that decide a new one's place; by default the fit's.
        max_iter : int
            Steps.

        Returns
        -------
        (m, n_components) float32
            The places.
        """
        check_is_fitted(self, "embedding_")
        check_range("max_iter", max_iter, 1)
        wide = check_perplexity(self.perplexity if perplexity is None else perplexity, len(self._reference))
        D = distances_to("X", X, self._reference, self.metric)
        sigma = self.sigma_ if self.density else None
        found = place(D, self.embedding_, sigma, wide, max_iter, self.device).astype(np.float32)
        nearest = D.argmin(1)
        same = D[np.arange(len(D)), nearest] <= 1e-9 * np.median(D)
        found[same] = self.embedding_[nearest[same]]
        return found

    def _fit_exact(self, X: np.ndarray) -> None:
        P, sigma = affinities(
            X,
            perplexity=self.perplexity,
            metric=self.metric,
            symmetrise="sigma" if self.density else "conditional",
            device=self.device,
        )
        gamma = density_scale(sigma).float() if self.density else None
        P = P.float()
        start = self._start(X, P)
        like = torch.as_tensor(start, dtype=P.dtype, device=self.device)
        Y = self._descend(start, dense_gradient(like, P, gamma, sigma if self.density else None), P.dtype)
        self.sigma_ = sigma.cpu().numpy()
        self.kl_ = float(kl_objective(Y, P, gamma=gamma)[0])

    def _fit_approximate(self, X: np.ndarray) -> None:
        check_range("theta", self.theta, 0.0, 1.0)
        symmetrise = "sigma" if self.density else "conditional"
        P, sigma = seeded_neighbour_affinities(X, self.perplexity, symmetrise, self.random_state, self.metric)
        problem = SparseKL(P, sigma if self.density else None, theta=self.theta, device=self.device)
        Y = self._descend(self._start(X, P), problem.gradient, torch.float32)
        self.sigma_ = sigma
        self.kl_ = problem.loss(Y)


class SparseKL:
    """KL(P‖Q) for a sparse P over points in the plane.

    Parameters
    ----------
    P : (n, n) scipy sparse matrix
        Joint probabilities, from `neighbour_affinities`.
    sigma : (n,) array or None
        Bandwidths, which make it dtSNE's objective; None: t-SNE's.
    theta : float
        Accuracy of the repulsion; 0 is exact.
    device : str or torch.device
        Of the map.
    """

    def __init__(
        self,
        P: sp.csr_matrix,
        sigma: np.ndarray | None,
        *,
        theta: float = 0.25,
        device: str | torch.device = "cpu",
    ) -> None:
        P = P.tocsr()
        self.rows = torch.as_tensor(P.indptr.astype(np.int64), device=device)
        self.columns = torch.as_tensor(P.indices.astype(np.int32), device=device)
        self.p = torch.as_tensor(P.data.astype(np.float32), device=device)
        sigma = np.ones(P.shape[0]) if sigma is None else np.asarray(sigma) / np.median(sigma)
        self.sigma = torch.as_tensor(sigma, dtype=torch.float32, device=device)
        self.scale = float(np.partition(sigma, 1)[:2].sum() ** 2)  # the densest pair has γ = 1
        self.theta = theta
        self._calls = 0
        self._order: torch.Tensor | None = None

    def gradient(self, Y: torch.Tensor, exaggeration: float) -> torch.Tensor:
        """4 Σ_j (exaggeration · p_ij - q_ij) γ_ij w_ij (y_i - y_j).

        Parameters
        ----------
        Y : (n, 2) float32 tensor
            The map.
        exaggeration : float
            Factor on P, 1 for none.

        Returns
        -------
        (n, 2) tensor
            The gradient.
        """
        if self._calls % _REGROUP == 0:
            self._order = group(Y)
        self._calls += 1
        push, Z = repulsion(Y, self.sigma, self.scale, self.theta, self._order)
        pull = attraction(Y, self.rows, self.columns, self.p, self.sigma, self.scale)
        return pull.mul_(4 * exaggeration).sub_(push, alpha=4 / float(Z))

    def loss(self, Y: torch.Tensor) -> float:
        """KL(P‖Q).

        Parameters
        ----------
        Y : (n, 2) float32 tensor
            The map.

        Returns
        -------
        float
            In nats.
        """
        _, Z = repulsion(Y, self.sigma, self.scale, self.theta)
        i = torch.repeat_interleave(torch.arange(len(Y), device=Y.device), self.rows.diff())
        squared = (self.sigma[i] + self.sigma[self.columns]).square()
        w = squared / (squared + self.scale * (Y[i] - Y[self.columns]).square().sum(1))
        p = wide(self.p)
        return float((torch.xlogy(p, p) - torch.xlogy(p, wide(w))).sum() + p.sum() * math.log(float(Z)))
