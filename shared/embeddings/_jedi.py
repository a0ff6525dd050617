"""JEDI: a t-SNE map unlike a prior's neighbourhoods, with scikit-learn's interface."""

from __future__ import annotations

import numpy as np
import torch

from shared._checks import check_choice
from shared.embeddings._affinities import affinities
from shared.embeddings._base import NeighbourEmbedding
from shared.embeddings._confetti import label_distances
from shared.embeddings._descent import Callback
from shared.embeddings._leaves import jedi_gradient
from shared.embeddings._objectives import check_jedi, jedi_objective
from shared.embeddings._validation import as_data, as_distances


class JEDI(NeighbourEmbedding):
    """JEDI: a t-SNE map unlike a prior's neighbourhoods (Heiter, Fischer, Vreeken 2021); exact, O(n²).

    Minimises KL(P‖Q) - JS(P'‖Q), P' being the neighbour probabilities of the prior distances.

    Parameters
    ----------
    n_components : int
        Dimensions of the map.
    alpha : float
        In [0, 1]: the share of KL(P' ‖ mixture) in the divergence, the rest being KL(Q ‖ mixture); see `js_divergence`.
    beta : float
        In (0, 1): how much of the other distribution each mixture holds. The divergence is at most -log(1 - beta),
        which weighs it against KL.
    perplexity : float
        Effective number of neighbours of each point in the data, above 1 and below (n - 1) / 3.
    prior_perplexity : float, optional
        The same for the prior; as the data's unless told. Priors of two values (labels) have none.
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
    init : "pca", "random" or (n, n_components) array
        The first map: principal components (classical scaling of distances) with a standard deviation of 1e-3, which
        keeps the global arrangement; noise of that size; or your own.
    metric : "euclidean" or "precomputed"
        "precomputed" if X is a matrix of distances (plain, not squared).
    warm_start : bool
        Start from the last fit's embedding if its shape fits; pass `early_exaggeration_iter=0` with it, as a rule.
    random_state : int, RandomState or None
        For `init`; an int gives the same map on the same machine.
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
        Bandwidths of the data.
    objective_ : float
        Final value, in nats.
    n_iter_ : int
        Iterations made.
    """

    def __init__(
        self,
        *,
        n_components: int = 2,
        alpha: float = 0.5,
        beta: float = 0.99,
        perplexity: float = 30.0,
        prior_perplexity: float | None = None,
        max_iter: int = 750,
        early_exaggeration: float = 12.0,
        early_exaggeration_iter: int = 250,
        lr: float | str = "auto",
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
        self.max_iter = max_iter
        self.early_exaggeration = early_exaggeration
        self.early_exaggeration_iter = early_exaggeration_iter
        self.lr = lr
        self.init = init
        self.metric = metric
        self.warm_start = warm_start
        self.random_state = random_state
        self.callback = callback
        self.callback_every = callback_every
        self.progress = progress
        self.device = device

    def fit(self, X: np.ndarray, y: None = None, *, prior: np.ndarray) -> JEDI:
        """Embed the points.

        Parameters
        ----------
        X : (n, d) array
            Data, at least 10 points; or (n, n) distances with `metric="precomputed"`.
        y : ignored
            For scikit-learn's pipelines.
        prior : (n, n) array, or (n,) labels
            Distances of what is known and to be factored out; labels stand for their `label_distances`.

        Returns
        -------
        JEDI
            Itself.
        """
        check_choice("metric", self.metric, ("euclidean", "precomputed"))
        check_jedi(self.alpha, self.beta)
        X = as_distances("X", X, min_points=10) if self.metric == "precomputed" else as_data("X", X)
        self.n_features_in_ = X.shape[1]
        if np.ndim(prior) == 1:
            if len(prior) != len(X):
                raise ValueError(f"prior has {len(prior)} labels, the data {len(X)} points")
            prior = label_distances(prior)
        prior = as_distances("prior", prior, n=len(X))
        P, sigma = affinities(X, perplexity=self.perplexity, metric=self.metric, device=self.device)
        prior_P, _ = prior_affinities(prior, self.prior_perplexity or self.perplexity, device=self.device)
        P = P.float()
        prior_P = prior_P.float()
        start = self._start(X)
        like = torch.as_tensor(start, dtype=P.dtype, device=self.device)
        Y = self._descend(start, jedi_gradient(like, P, prior_P, self.alpha, self.beta), P.dtype)
        self.sigma_ = sigma.cpu().numpy()
        self.objective_ = float(jedi_objective(Y, P, prior_P, self.alpha, self.beta)[0])
        return self


def prior_affinities(
    prior: np.ndarray, perplexity: float, *, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Neighbour probabilities of a prior's distances.

    Where these have two values only (labels), uniform over each point's own group, since no bandwidth can have a
    perplexity below the group's size.

    Parameters
    ----------
    prior : (n, n) array
        Distances.
    perplexity : float
        Effective number of neighbours.
    device : str or torch.device
        Where P is made.

    Returns
    -------
    P : (n, n) float64 tensor
        Sums to 1.
    sigma : (n,) float64 tensor or None
        Bandwidths, None for labels.
    """
    prior = as_distances("prior", prior)
    values = np.unique(prior)
    if len(values) <= 2:
        same = torch.as_tensor(prior == 0, dtype=torch.float64, device=device).fill_diagonal_(0.0)
        P = same / same.sum(1, keepdim=True).clamp_min(1.0)
        return (P + P.T) / P.sum().clamp_min(1e-300) / 2, None
    return affinities(prior, perplexity=perplexity, metric="precomputed", device=device)
