"""From distances to neighbour probabilities: bandwidths of given perplexity, and the two ways to symmetrise them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.neighbors import NearestNeighbors

from shared._checks import check_array, check_choice, check_range
from shared.embeddings._distances import as_points, distances_between
from shared.embeddings._validation import check_perplexity

SYMMETRISE = ("conditional", "sigma")
_ROWS = 4096  # rows whose bandwidths are sought together on a GPU
_TOGETHER = 2**16  # and on a CPU, as distances: few enough for the cache
_NEWTON_STEPS = 50  # most rows take under ten; of several hundred some take forty
_EXACT_NEIGHBOURS_UP_TO = 5000  # points; beyond, neighbours are approximate where pynndescent is installed


def bandwidths(
    squared: torch.Tensor, perplexity: float, *, tolerance: float = 1e-8, max_steps: int = 100
) -> torch.Tensor:
    """Gaussian bandwidths sigma_i for which 2^H(P_i) is `perplexity`, P_i ∝ exp(-d²/2σ_i²) over a row of `squared`.

    Newton steps on log β, β = 1/2σ², kept inside a bracket: H falls with β and dH/dlog β = -β² Var(d²); rows in which
    these go round in circles are bisected. A row in which more than `perplexity` candidates tie for nearest has no
    solution: its σ is set to the least of the others, as dense as the densest of them (a smaller one would make all
    others look alike to dtSNE), and a warning tells how many there are.

    Parameters
    ----------
    squared : (n, m) tensor
        Squared distances to the candidates; infinity marks what is none, e.g. the point itself.
    perplexity : float
        Effective number of neighbours.
    tolerance : float
        Largest error of H - log perplexity, in nats.
    max_steps : int
        Of Newton or bisection.

    Returns
    -------
    (n,) float64 tensor
        σ, in the unit of the distances.

    Raises
    ------
    ValueError
        If all distances are zero, or every row has too many ties.
    """
    check_range("max_steps", max_steps, 1)
    check_array("squared", squared.masked_fill(squared == math.inf, 0.0), ("n", "m"))
    rows = max(16, _TOGETHER // squared.shape[1]) if squared.device.type == "cpu" else _ROWS
    solved = [_solve(some.to(torch.float64), perplexity, tolerance, max_steps) for some in squared.split(rows)]
    log_beta, gap, scale = (torch.cat(part) for part in zip(*solved, strict=True))
    if not bool((scale > 0).any()):
        raise ValueError("all distances are equal to zero or to each other: no bandwidth has the wanted perplexity")
    sigma = torch.exp(-0.5 * log_beta) / math.sqrt(2)
    unsolved = (gap > 1e-3) | (scale == 0)  # H can't fall to the target: ties for nearest, or all distances one
    if bool(unsolved.any()):
        if bool(unsolved.all()):
            raise ValueError(
                f"every point has more than perplexity={perplexity} neighbours at the same distance "
                "(duplicates?); raise the perplexity or drop duplicates"
            )
        sigma = torch.where(unsolved, sigma[~unsolved].min(), sigma)
        warnings.warn(
            f"{int(unsolved.sum())} points have more than perplexity={perplexity} neighbours tied for nearest "
            "(duplicates): their bandwidth is set to the least of the others",
            stacklevel=2,
        )
    return sigma


def _solve(
    squared: torch.Tensor, perplexity: float, tolerance: float, max_steps: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log β, H - log perplexity there, and the mean distance above a row's least, each (n,)."""
    target = math.log(perplexity)
    shifted = squared - squared.min(1, keepdim=True).values  # the row's minimum cancels in P
    finite = torch.isfinite(shifted)
    shifted = torch.where(finite, shifted, 0.0)
    scale = shifted.sum(1) / finite.sum(1)
    log_beta = -torch.log(scale.clamp_min(1e-300))
    low = log_beta - 60.0
    high = log_beta + 60.0
    for step in range(max_steps):
        weight = torch.exp(-shifted * log_beta.exp()[:, None]).masked_fill(~finite, 0.0)
        total = weight.sum(1)
        mean = (weight * shifted).sum(1) / total
        variance = ((weight * shifted.square()).sum(1) / total - mean.square()).clamp_min(0.0)
        beta = log_beta.exp()
        gap = total.log() + beta * mean - target  # H - log perplexity
        done = gap.abs() < tolerance
        if bool(done.all()):
            break
        low = torch.where(gap > 0, log_beta, low)
        high = torch.where(gap > 0, high, log_beta)
        middle = 0.5 * (low + high)
        if step < _NEWTON_STEPS:
            newton = log_beta + gap / (beta.square() * variance).clamp_min(1e-300)
            log_beta = torch.where((newton > low) & (newton < high), newton, middle)
        else:
            log_beta = torch.where(done, log_beta, middle)
    return log_beta, gap, scale


def affinities(
    X: np.ndarray,
    *,
    perplexity: float = 30.0,
    metric: str = "euclidean",
    symmetrise: str = "conditional",
    device: str | torch.device = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joint neighbour probabilities over all pairs.

    Parameters
    ----------
    X : (n, d) array
        Data, or with `metric="precomputed"` an (n, n) distance matrix (plain distances, not squared).
    perplexity : float
        Effective number of neighbours; above 1 and below (n - 1) / 3.
    metric : str
        scikit-learn's name ("euclidean", "cosine", "correlation", "manhattan", "chebyshev", "canberra", "braycurtis",
        "hamming"), or "precomputed" where X holds distances.
    symmetrise : "conditional" or "sigma"
        Average p_{j|i} and p_{i|j} made with each point's own bandwidth (t-SNE), or first give both directions the
        pair's bandwidth (σ_i + σ_j)/2 (dtSNE, Fischer et al. 2023).
    device : str or torch.device
        Where P is made.

    Returns
    -------
    P : (n, n) float64 tensor
        Sums to 1, zero diagonal.
    sigma : (n,) float64 tensor
        Bandwidths.
    """
    check_choice("symmetrise", symmetrise, SYMMETRISE)
    D = as_points("X", X, metric)
    perplexity = check_perplexity(perplexity, len(D))
    if metric != "euclidean":
        squared = torch.as_tensor(distances_between(D, metric), device=device).square()
    else:
        values = torch.as_tensor(D, device=device)
        squared = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").square()
    squared.fill_diagonal_(math.inf)
    sigma = bandwidths(squared, perplexity)
    width = (sigma[:, None] + sigma) / 2 if symmetrise == "sigma" else sigma[:, None]
    P = torch.softmax(-squared / (2 * width.square()), dim=1)
    return (P + P.T) / (2 * len(P)), sigma


def neighbour_affinities(
    X: np.ndarray,
    *,
    perplexity: float = 30.0,
    metric: str = "euclidean",
    symmetrise: str = "conditional",
    generator: np.random.Generator | None = None,
) -> tuple[sp.csr_matrix, np.ndarray]:
    """`affinities` over each point's ⌈3·perplexity⌉ nearest neighbours only.

    Neighbours are exact up to 5,000 points; beyond, by pynndescent if it is installed.

    Parameters
    ----------
    X : (n, d) array
        Data.
    perplexity, symmetrise
        See `affinities`.
    metric : str
        As there, but for "precomputed".
    generator : numpy.random.Generator, optional
        For pynndescent.

    Returns
    -------
    P : (n, n) float64 CSR
        Sums to 1.
    sigma : (n,) float64
        Bandwidths.
    """
    seed = None if generator is None else int(generator.integers(2**31))
    return seeded_neighbour_affinities(X, perplexity, symmetrise, seed, metric)


def seeded_neighbour_affinities(
    X: np.ndarray,
    perplexity: float,
    symmetrise: str,
    random_state: int | np.random.RandomState | None,
    metric: str = "euclidean",
) -> tuple[sp.csr_matrix, np.ndarray]:
    """`neighbour_affinities` with pynndescent's own kind of seed, as the estimators have it."""
    check_choice("symmetrise", symmetrise, SYMMETRISE)
    if metric == "precomputed":
        raise ValueError("metric='precomputed' has all pairs; take `affinities`, or data and another metric")
    X = as_points("X", X, metric)
    n = len(X)
    perplexity = check_perplexity(perplexity, n)
    indices, distances = _neighbours(X, min(n - 1, math.ceil(3 * perplexity)), random_state, metric)
    squared = torch.as_tensor(distances, dtype=torch.float64).square()
    sigma = bandwidths(squared, perplexity)
    width = sigma[:, None] if symmetrise == "conditional" else (sigma[:, None] + sigma[torch.as_tensor(indices)]) / 2
    P = torch.softmax(-squared / (2 * width.square()), dim=1).numpy()
    rows = np.repeat(np.arange(n), indices.shape[1])
    P = sp.csr_matrix((P.ravel(), (rows, indices.ravel())), shape=(n, n))
    return ((P + P.T) / (2 * n)).tocsr(), sigma.numpy()


def _neighbours(
    X: np.ndarray, k: int, random_state: int | np.random.RandomState | None, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (n, k) of each point's nearest others."""
    if len(X) > _EXACT_NEIGHBOURS_UP_TO:
        try:
            from pynndescent import NNDescent
        except ImportError:
            pass
        else:
            index = NNDescent(X.astype(np.float32), n_neighbors=k + 1, metric=metric, random_state=random_state)
            found, distances = index.neighbor_graph
            return _drop_self(found.astype(np.int64), distances.astype(np.float64), k)
    search = NearestNeighbors(n_neighbors=k, metric=metric).fit(X)
    distances, found = search.kneighbors()  # without the point itself
    return found, distances


def _drop_self(found: np.ndarray, distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Take each point out of its own list of k + 1, or the farthest if it isn't in it (duplicates)."""
    is_self = found == np.arange(len(found))[:, None]
    is_self[~is_self.any(1), -1] = True
    keep = ~is_self
    return found[keep].reshape(-1, k), distances[keep].reshape(-1, k)


def density_scale(sigma: torch.Tensor) -> torch.Tensor:
    """dtSNE's γ_ij = (σ_i + σ_j)^-2, divided by its largest value over pairs i ≠ j.

    Parameters
    ----------
    sigma : (n,) tensor
        Bandwidths, two at least.

    Returns
    -------
    (n, n) tensor
        1 for the densest pair.
    """
    check_array("sigma", sigma, ("n",))
    if len(sigma) < 2:
        raise ValueError("sigma is of one point; a pair needs two")
    two = torch.topk(sigma, 2, largest=False).values.sum()
    return (two / (sigma[:, None] + sigma)).square()
