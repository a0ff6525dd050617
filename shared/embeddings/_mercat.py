"""Mercat: a map on the unit sphere that keeps the angles of all triples of points (Fischer & Ma 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from shared._checks import check_choice, check_finite, check_range, check_shape, wide
from shared.embeddings._angles import random_triples, triple_angles
from shared.embeddings._descent import Callback
from shared.embeddings._distances import coordinates
from shared.embeddings._sphere import (
    check_unit,
    from_lonlat,
    pairwise_tangents,
    project_to_tangent,
    retract,
    to_lonlat,
)
from shared.embeddings._validation import as_data

LOSSES = ("cos", "angle")
_MOST_COMPONENTS = 10
_COINCIDENT = 1e-9  # squared distance, relative to the largest, below which two points have no direction


def angle_cosines(V: torch.Tensor) -> torch.Tensor:
    """Cosines of the angles at i between directions V_ij and V_ik.

    Parameters
    ----------
    V : (m, m, d) tensor
        Unit vectors, from `pairwise_directions` or `pairwise_tangents`.

    Returns
    -------
    (m, m, m) tensor
        In [-1, 1].
    """
    return V @ V.transpose(1, 2)


def pairwise_directions(X: torch.Tensor) -> torch.Tensor:
    """Unit vectors from each point to each other.

    Parameters
    ----------
    X : (m, d) tensor
        Points.

    Returns
    -------
    (m, m, d) tensor
        Zero where two points coincide.
    """
    V = X[None] - X[:, None]
    squared = V.square().sum(-1, keepdim=True)
    return torch.where(squared > _COINCIDENT * squared.max(), V / squared.clamp_min(1e-300).sqrt(), 0.0)


def angle_loss(data: torch.Tensor, Y: torch.Tensor, *, kind: str = "cos") -> torch.Tensor:
    """Mean squared difference of all angles of m points between data and sphere; differentiable in Y.

    A triple counts if its three points differ, in the data and on the sphere.

    Parameters
    ----------
    data : (m, m, m) tensor
        Cosines of the data's angles, from `angle_cosines(pairwise_directions(X))`.
    Y : (m, 3) tensor
        Unit vectors.
    kind : "cos" or "angle"
        Compare the cosines, or the angles in radians (clamped at 1e-6 from ±1, where arccos is steep).

    Returns
    -------
    scalar tensor
        The loss.
    """
    check_choice("kind", kind, LOSSES)
    here = angle_cosines(pairwise_tangents(Y))
    counts = _counts(data) & _counts(here.detach())
    if kind == "angle":
        edge = 1 - 1e-6
        data = data.clamp(-edge, edge).acos()
        here = here.clamp(-edge, edge).acos()
    return ((here - data).square() * counts).sum() / counts.sum().clamp_min(1)


def _counts(cosines: torch.Tensor) -> torch.Tensor:
    """Triples (m, m, m) that have an angle: three points, none of them without a direction from the first."""
    m = len(cosines)
    known = cosines.diagonal(dim1=1, dim2=2) > 0.5  # cos(j, j) is 1, or 0 where there is no direction to j
    different = ~torch.eye(m, dtype=torch.bool, device=cosines.device)
    return known[:, :, None] & known[:, None, :] & different[None]


def _loss_and_slope(X: torch.Tensor, Y: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """`angle_loss` of points X (m, d) and its gradient (m, 3), in closed form: a fourth of automatic differentiation's.

    With unit tangents u_ij = t_ij / |t_ij| and E_ijk half the loss's slope in cos b_ijk, that in u_ij is 4 Σ_k E u_ik.
    """
    V = pairwise_directions(X)
    dots = Y @ Y.T
    T = Y - dots[..., None] * Y[:, None]
    length = (T.square().sum(-1, keepdim=True) + 1e-12).sqrt()
    U = T / length
    known = ((V.square().sum(-1) > 0.5) & (U.square().sum(-1) > 0.5)).fill_diagonal_(False).to(Y.dtype)
    A, B = angle_cosines(V), angle_cosines(U)
    edge = 1 - 1e-6
    error = B - A if kind == "cos" else B.clamp(-edge, edge).acos() - A.clamp(-edge, edge).acos()
    error *= known[:, :, None]
    error *= known[:, None]
    error.diagonal(dim1=1, dim2=2).zero_()
    count = (known.sum(1).square() - known.sum(1)).sum().clamp_min(1)
    loss = error.square().sum() / count
    if kind == "angle":
        error = torch.where(B.abs() < edge, -error / (1 - B.square()).clamp_min(1e-12).sqrt(), 0.0)
    to_u = (4 / count) * (error @ U)
    to_t = (to_u - (to_u * U).sum(-1, keepdim=True) * U) / length
    along = (to_t * Y[:, None]).sum(-1)  # t_ij = y_j - (y_i·y_j) y_i moves with both points
    slope = to_t.sum(0) - along.T @ Y - along @ Y - (dots[..., None] * to_t).sum(1)
    return loss, slope


def pca_denoise(X: np.ndarray, *, rank: int | str = "auto") -> np.ndarray:
    """Scores of the leading principal components: the data without the noise of the others.

    Parameters
    ----------
    X : (n, d) array
        Data, four points at least.
    rank : int or "auto"
        Components kept. "auto": all of up to ten dimensions; of more, those whose singular value passes Gavish &
        Donoho's (2014) threshold for unknown noise, at least 2 and at most 10.

    Returns
    -------
    (n, rank) float64
        The scores.
    """
    X = as_data("X", X, min_points=4)
    n, d = X.shape
    U, s, _ = np.linalg.svd(X - X.mean(0), full_matrices=False)
    if s[0] <= 1e-12 * max(1.0, np.abs(X).max()):
        raise ValueError("all points of X are equal: there is no angle to keep")
    if rank == "auto":
        most = min(n - 1, d)
        ratio = min(n, d) / max(n, d)
        bound = (0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43) * np.median(s)
        rank = most if most <= _MOST_COMPONENTS else int(np.clip((s > bound).sum(), 2, _MOST_COMPONENTS))
    elif not (isinstance(rank, int | np.integer) and 1 <= rank <= min(n - 1, d)):
        raise ValueError(f"rank={rank!r} must be 'auto' or a whole number from 1 to min(n - 1, d) = {min(n - 1, d)}")
    return U[:, :rank] * s[:rank]


def sphere_patch(X: np.ndarray, *, span: float = 0.7 * math.pi) -> np.ndarray:
    """The first two columns of X laid on the sphere as longitude and latitude: Mercat's start.

    Both keep their proportion, their middle is at longitude and latitude 0; a one-column X lies on the equator.

    Parameters
    ----------
    X : (n, d) array
        Scores.
    span : float
        Width of the wider column, in radians.

    Returns
    -------
    (n, 3) float64
        Unit vectors.
    """
    X = as_data("X", X, min_points=1)
    plane = X[:, :2] if X.shape[1] > 1 else np.c_[X, np.zeros(len(X))]
    low, high = plane.min(0), plane.max(0)
    if not (high > low).any():
        raise ValueError("X has one place only in its first two columns: there is nothing to lay out")
    return from_lonlat(span * (plane - (low + high) / 2) / (high - low).max())


class Mercat(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed on the unit sphere so that angles at every point between every two others are those of the data.

    Parameters
    ----------
    metric : str
        As for `DTSNE`: of another than "euclidean", or distances ("precomputed"), the angles are those of points with
        such distances (classical scaling; what isn't Euclidean in them is left out).
    rank : int or "auto"
        Principal components kept before angles are taken; "auto": see `pca_denoise`.
    batch_points : int
        Points a step; all their triples are used, so a step costs O(batch_points³).
    max_iter : int or "auto"
        Steps; "auto" takes each point 200 times, 600 steps at least, so the whole is linear in n.
    lr : float
        Step size in radians of Adam on the sphere, with one second moment a point; falls to 0 by a half cosine.
    loss : "cos" or "angle"
        See `angle_loss`.
    init : "pca", "random" or (n, 3) array
        `sphere_patch` of the scores, uniform on the sphere, or your own unit vectors.
    n_restarts : int
        Further fits from random starts; the one of least loss is kept.
    random_state : int, RandomState or None
        For starts and batches; an int gives the same map on the same machine.
    callback : callable, optional
        Called with (iteration, Y tensor) every `callback_every` steps of each start; True ends that start.
    callback_every : int
        See `callback`.
    progress : bool
        Show a progress bar.
    device : str or torch.device
        Where the steps run.

    Attributes
    ----------
    embedding_ : (n, 3) float64
        Unit vectors.
    lonlat_ : (n, 2) float64
        Their longitude and latitude in radians.
    loss_ : float
        Over 20,000 random triples.
    loss_curve_ : (steps,) float64
        The loss of each step's batch.
    start_loss_ : float
        Of the first start before its first step, over the same triples as `loss_`.
    rank_ : int
        Components kept.
    best_start_ : int
        Which start was the best; 0 is `init`.
    """

    def __init__(
        self,
        *,
        metric: str = "euclidean",
        rank: int | str = "auto",
        batch_points: int = 48,
        max_iter: int | str = "auto",
        lr: float = 0.05,
        loss: str = "cos",
        init: str | np.ndarray = "pca",
        n_restarts: int = 0,
        random_state: int | np.random.RandomState | None = None,
        callback: Callback | None = None,
        callback_every: int = 50,
        progress: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self.metric = metric
        self.rank = rank
        self.batch_points = batch_points
        self.max_iter = max_iter
        self.lr = lr
        self.loss = loss
        self.init = init
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.callback = callback
        self.callback_every = callback_every
        self.progress = progress
        self.device = device

    def fit_transform(self, X: np.ndarray, y: None = None) -> np.ndarray:
        """Embed the points.

        Parameters
        ----------
        X : (n, d) array or scipy sparse matrix
            Data, four points at least; or (n, n) distances with `metric="precomputed"`.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        (n, 3) float64
            Unit vectors.
        """
        return self.fit(X, y).embedding_

    def fit(self, X: np.ndarray, y: None = None) -> Mercat:
        """Embed the points.

        Parameters
        ----------
        X : (n, d) array or scipy sparse matrix
            Data, four points at least; or (n, n) distances with `metric="precomputed"`.
        y : ignored
            For scikit-learn's pipelines.

        Returns
        -------
        Mercat
            Itself.
        """
        check_choice("loss", self.loss, LOSSES)
        check_range("batch_points", self.batch_points, 4)
        check_range("lr", self.lr, 1e-12)
        check_range("n_restarts", self.n_restarts, 0)
        scores = pca_denoise(coordinates(X, self.metric), rank=self.rank)
        self.n_features_in_ = X.shape[1] if hasattr(X, "shape") else len(X[0])
        self.rank_ = scores.shape[1]
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        generator = np.random.default_rng(seed)
        judge = random_triples(len(scores), 20_000, generator=generator)
        best = math.inf
        for start in range(1 + self.n_restarts):
            init = self._start(scores, generator, random=start > 0)
            Y, curve = self._descend(scores, init, generator)
            loss = self._loss(scores, Y, judge)
            if start == 0:
                self.start_loss_ = self._loss(scores, init, judge)
            if loss < best:
                best = loss
                self.embedding_ = Y
                self.loss_curve_ = curve
                self.best_start_ = start
        self.loss_ = best
        self.lonlat_ = to_lonlat(self.embedding_)
        return self

    _n_features_out = 3

    def _start(self, scores: np.ndarray, generator: np.random.Generator, *, random: bool) -> np.ndarray:
        if not isinstance(self.init, str) and not random:
            start = np.asarray(self.init, dtype=np.float64)
            check_shape("init", start, (len(scores), 3))
            check_finite("init", start)
            check_unit("init", start)
            return start
        if random or check_choice("init", self.init, ("pca", "random")) == "random":
            start = generator.standard_normal((len(scores), 3))
            return start / np.linalg.norm(start, axis=1, keepdims=True)
        return sphere_patch(scores)

    def _loss(self, scores: np.ndarray, Y: np.ndarray, at: np.ndarray) -> float:
        a = triple_angles(scores, at)
        b = triple_angles(Y, at, geometry="sphere")
        error = np.cos(a) - np.cos(b) if self.loss == "cos" else a - b
        return float(np.nanmean(error**2))

    def _descend(
        self, scores: np.ndarray, start: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        n = len(scores)
        m = min(self.batch_points, n)
        steps = max(600, math.ceil(200 * n / m)) if self.max_iter == "auto" else int(self.max_iter)
        check_range("max_iter", steps, 1)
        data = torch.as_tensor(scores, dtype=torch.float32, device=self.device)
        Y = torch.as_tensor(start, dtype=torch.float32, device=self.device)
        momentum = torch.zeros_like(Y)
        scale = Y.new_zeros(n, 1)  # second moment, one a point
        count = Y.new_zeros(n, 1)  # steps that a point was in
        curve = np.empty(steps)
        for step, batch in enumerate(tqdm(_batches(n, m, steps, generator), total=steps, disable=not self.progress)):
            at = torch.as_tensor(batch, device=self.device)
            here = Y[at]
            loss, slope = _loss_and_slope(data[at], here, self.loss)
            slope = m * project_to_tangent(here, slope)  # a point's own share does not shrink with the batch
            count[at] += 1
            momentum[at] = 0.9 * project_to_tangent(here, momentum[at]) + 0.1 * slope
            scale[at] = 0.999 * scale[at] + 0.001 * slope.square().sum(1, keepdim=True)
            mean = momentum[at] / (1 - 0.9 ** count[at])
            size = (scale[at] / (1 - 0.999 ** count[at])).sqrt() + 1e-8
            lr = self.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            Y[at] = retract(here, -lr * mean / size)
            curve[step] = float(loss)
            done = step + 1
            if self.callback is not None and done % self.callback_every == 0 and self.callback(done, Y):
                curve = curve[:done]
                break
        return normalize(wide(Y), dim=1).cpu().numpy(), curve


def _batches(n: int, m: int, steps: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """`steps` sets of m different points (m,): shuffled passes over all of them, so that each has its turn."""
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(waiting) < m:
            order = generator.permutation(n)
            left = np.isin(order, waiting)
            waiting = np.concatenate([waiting, order[~left], order[left]])  # no point twice in a batch
        yield waiting[:m]
        waiting = waiting[m:]
