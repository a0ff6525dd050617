"""Concept vectors as random vectors: their mean and covariance, given those of the two activation distributions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range, wide
from shared.probes._estimators import PROBE_METHODS
from shared.probes._inputs import as_activations, as_labels

CLOSED_FORMS = ("mean", "pattern", "fastcav", "ridge")


def cav_mean_cov(
    method: str,
    mean_c: Tensor,
    cov_c: Tensor,
    n_c: int,
    mean_n: Tensor,
    cov_n: Tensor,
    n_n: int,
    *,
    lam: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of an un-normalised concept vector over draws of its two sets.

    "mean" and "pattern" (exact): `δ`, `Σ_c/n_c + Σ_n/n_n` with `δ = μ_c − μ_n`; "fastcav" (exact): these times (1 − p)
    and (1 − p)², p the share of concept samples; "ridge": centred, with penalty `lam` in `(Ĉ + lam I)⁻¹ Cov(h, y)`, by
    the delta method, for d fixed and n large (scikit-learn's `alpha` is `n lam`).

    Parameters
    ----------
    method : "mean", "pattern", "fastcav" or "ridge".
    mean_c, cov_c, n_c : mean (d,), covariance (d, d) and number of concept samples.
    mean_n, cov_n, n_n : the same of the others.
    lam : ridge's penalty.

    Returns
    -------
    Mean (d,) and covariance (d, d).
    """
    check_choice("method", method, CLOSED_FORMS)
    check_array("mean_c", mean_c, ("d",))
    d = len(mean_c)
    for name, value, shape in (("mean_n", mean_n, (d,)), ("cov_c", cov_c, (d, d)), ("cov_n", cov_n, (d, d))):
        check_array(name, value, shape)
    check_range("n_c", n_c, 1)
    check_range("n_n", n_n, 1)
    mean_c, cov_c, mean_n, cov_n = (wide(t) for t in (mean_c, cov_c, mean_n, cov_n))
    delta, p = mean_c - mean_n, n_c / (n_c + n_n)
    if method != "ridge":
        factor = 1 - p if method == "fastcav" else 1.0
        return factor * delta, factor**2 * (cov_c / n_c + cov_n / n_n)
    check_range("lam", lam, 0)
    n, eye = n_c + n_n, torch.eye(d).to(delta)
    K = torch.linalg.inv(p * cov_c + (1 - p) * cov_n + p * (1 - p) * torch.outer(delta, delta) + lam * eye)
    w = p * (1 - p) * K @ delta
    middle = p * mean_c + (1 - p) * mean_n
    inner = sum(
        count / n**2 * _gaussian_influence(mean - middle, cov, w, label - p)
        for mean, cov, count, label in ((mean_c, cov_c, n_c, 1.0), (mean_n, cov_n, n_n, 0.0))
    )
    return w, K @ inner @ K


def _gaussian_influence(m: Tensor, S: Tensor, w: Tensor, y: float) -> Tensor:
    """Covariance of `u (y − u·w)` for u ~ N(m, S): one sample's pull on the ridge solution."""
    Sw, r = S @ w, y - float(m @ w)  # mean residual
    mean = r * m - Sw
    variance = float(w @ Sw)
    # second moment of u(y − u·w), with u = m + e: fourth-order Gaussian moments
    second = (
        r * r * (torch.outer(m, m) + S)
        + variance * torch.outer(m, m)
        - 2 * r * (torch.outer(m, Sw) + torch.outer(Sw, m))
        + variance * S
        + 2 * torch.outer(Sw, Sw)
    )
    return second - torch.outer(mean, mean)


def ridge_equivalent(
    covs: Tensor, means: Tensor, counts: Tensor, labels: Tensor, lam: float, *, max_iter: int = 10_000
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of un-centred ridge when the dimension is comparable to the number of samples.

    `(HᵀH/n + lam I)⁻¹ Hᵀy/n` with n = Σ counts. Solves `Δ_a = tr(C_a Q)/n`, `Q = (Σ_a c_a C_a/(1 + Δ_a) + lam I)⁻¹`
    with `C_a = Σ_a + μ_a μ_aᵀ`, `c_a = counts_a/n` (leave-one-out argument of random matrix theory).

    Parameters
    ----------
    covs : (m, d, d), of the m classes.
    means : (m, d).
    counts : (m,), their sizes.
    labels : (m,), the values regressed on.
    lam : penalty, positive.
    max_iter : of the fixed point.

    Returns
    -------
    Q (d, d), Δ (m,) and the mean `Q Σ_a c_a labels_a μ_a / (1 + Δ_a)` (d,).

    Raises
    ------
    RuntimeError
        The fixed point didn't settle.
    """
    check_range("max_iter", max_iter, 1)
    if not lam > 0:
        raise ValueError(f"lam={lam!r} must be positive: without it the fixed point need not exist")
    check_array("means", means, ("m", "d"))
    covs, means = wide(covs), wide(means)
    m, d = means.shape
    check_array("covs", covs, (m, d, d))
    counts, labels = wide(torch.as_tensor(counts)), wide(torch.as_tensor(labels))
    check_array("counts", counts, (m,))
    check_array("labels", labels, (m,))
    n, share = counts.sum(), counts / counts.sum()
    second = covs + means[:, :, None] * means[:, None, :]
    eye = torch.eye(d).to(means)
    delta = torch.ones(m).to(means)
    for _ in range(max_iter):
        Q = torch.linalg.inv(torch.einsum("a,aij->ij", share / (1 + delta), second) + lam * eye)
        new = torch.einsum("aij,ji->a", second, Q) / n
        done = bool((new - delta).abs().max() < 1e-11)
        delta = new
        if done:
            return Q, delta, Q @ ((share * labels / (1 + delta)) @ means)
    raise RuntimeError(f"the fixed point did not settle in {max_iter} iterations (lam={lam!r} too small?)")


def lda_mean(cov: Tensor, delta: Tensor, n: int) -> Tensor:
    """Mean of `Ŝ_W⁻¹ (difference of sample means)`, Ŝ_W with divisor n, for Gaussians of equal covariance.

    `n / (n − d − 3) Σ⁻¹ δ`, from the mean of an inverse Wishart matrix with n − 2 degrees of freedom.

    Parameters
    ----------
    cov : (d, d).
    delta : (d,), difference of the true means.
    n : samples, more than d + 3.

    Returns
    -------
    (d,).
    """
    check_array("delta", delta, ("d",))
    d = len(delta)
    check_array("cov", cov, (d, d))
    if n <= d + 3:
        raise ValueError(f"n={n} must exceed d + 3 = {d + 3}: below, the inverse covariance has no mean")
    return n / (n - d - 3) * torch.linalg.solve(wide(cov), wide(delta))


def bootstrap_direction(
    H: Any, y: Any, *, method: str = "pattern", draws: int = 200, generator: torch.Generator | None = None, **options
) -> Tensor:
    """Un-normalised directions of resampled sets, each class resampled with replacement: no model needed.

    Parameters
    ----------
    H : activations (n, d).
    y : labels (n,).
    method : one of `PROBE_METHODS`.
    draws : number of resamples.
    generator : of the resampling.
    options : go to the method's estimator.

    Returns
    -------
    (draws, d).
    """
    check_range("draws", draws, 1)
    H = as_activations(H)
    labels, _ = as_labels(y, H, least=2)
    probe = PROBE_METHODS[check_choice("method", method, PROBE_METHODS)](**options)
    classes = [(labels[:, 0] == c).nonzero().flatten() for c in (1, 0)]
    rows = [
        torch.cat([c[torch.randint(len(c), (len(c),), generator=generator).to(c.device)] for c in classes])
        for _ in range(draws)
    ]
    return torch.stack([probe.fit(H[r], labels[r, 0]).coef_[0] for r in rows])


def sensitivity_moments(gradients: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the sensitivities `g·v` over a random vector v.

    Parameters
    ----------
    gradients : (n, d).
    mean, cov : of v, (d,) and (d, d).

    Returns
    -------
    Mean (n,) and standard deviation (n,).
    """
    check_array("gradients", gradients, ("n", "d"))
    check_array("mean", mean, (gradients.shape[1],))
    check_array("cov", cov, (gradients.shape[1],) * 2)
    g, mean, cov = (wide(t) for t in (gradients, mean, cov))
    return g @ mean, ((g @ cov) * g).sum(1).clamp(min=0).sqrt()


def expected_tcav(gradients: Tensor, mean: Tensor, cov: Tensor) -> float:
    """Expected TCAV score over draws of the sets, taking `g·v` as Gaussian; gradients of zero are left out.

    Parameters
    ----------
    gradients : (n, d).
    mean, cov : of the concept vector, (d,) and (d, d).

    Returns
    -------
    A number in [0, 1].
    """
    centre, spread = sensitivity_moments(gradients, mean, cov)
    alive = gradients.abs().amax(1) > 0
    return float(_phi(centre[alive] / spread[alive].clamp(min=1e-300)).mean())


def sign_flip_probability(gradients: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    """Probability that two independent fits give a sample's sensitivity opposite signs: `2 Φ(m/s) Φ(−m/s)`.

    Parameters
    ----------
    gradients : (n, d).
    mean, cov : of the concept vector, (d,) and (d, d).

    Returns
    -------
    (n,).
    """
    centre, spread = sensitivity_moments(gradients, mean, cov)
    z = centre / spread.clamp(min=1e-300)
    return 2 * _phi(z) * _phi(-z)


def expected_cosine(mean: Tensor, cov: Tensor) -> float:
    """About the cosine between two independent fits: `|mean|² / (|mean|² + tr cov)`.

    Parameters
    ----------
    mean, cov : of the concept vector, (d,) and (d, d).

    Returns
    -------
    A number in [0, 1].
    """
    check_array("mean", mean, ("d",))
    check_array("cov", cov, (len(mean), len(mean)))
    size = float(wide(mean).square().sum())
    total = size + float(wide(cov).trace())
    if not total > 0:
        raise ValueError("mean and cov are zero: a vector that is always zero has no cosine")
    return size / total


def _phi(z: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-z / math.sqrt(2))


def cav_from_population(
    method: str, H_c: Tensor, H_n: Tensor, n_c: int, n_n: int, *, lam: float = 1.0, replace: bool = False
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a concept vector whose sets are drawn from finite populations.

    As `cav_mean_cov`, but no distribution is assumed: moments, and for ridge the covariance of each sample's pull on
    the solution, are the populations' own. Without replacement each set's part shrinks by `1 − n/N`.

    Parameters
    ----------
    method : "mean", "pattern", "fastcav" or "ridge".
    H_c, H_n : the populations' activations, (N_c, d) and (N_n, d).
    n_c, n_n : how many are drawn.
    lam : ridge's penalty.
    replace : draw with replacement.

    Returns
    -------
    Mean (d,) and covariance (d, d).
    """
    check_choice("method", method, CLOSED_FORMS)
    check_array("H_c", H_c, ("N", "d"))
    check_array("H_n", H_n, ("N", H_c.shape[1]))
    for name, H, n in (("n_c", H_c, n_c), ("n_n", H_n, n_n)):
        check_range(name, n, 1, None if replace else len(H))
    H_c, H_n = wide(H_c), wide(H_n)
    n = n_c + n_n
    p = n_c / n
    delta = H_c.mean(0) - H_n.mean(0)
    shrink = [1.0 if replace else (len(H) - k) / max(len(H) - 1, 1) for H, k in ((H_c, n_c), (H_n, n_n))]
    if method != "ridge":
        factor = 1 - p if method == "fastcav" else 1.0
        parts = [s * H.T.cov(correction=0) / k for s, H, k in zip(shrink, (H_c, H_n), (n_c, n_n))]
        return factor * delta, factor**2 * (parts[0] + parts[1])
    check_range("lam", lam, 0)
    C = p * H_c.T.cov(correction=0) + (1 - p) * H_n.T.cov(correction=0) + p * (1 - p) * torch.outer(delta, delta)
    K = torch.linalg.inv(C + lam * torch.eye(len(delta), dtype=C.dtype, device=C.device))
    w, middle = p * (1 - p) * K @ delta, p * H_c.mean(0) + (1 - p) * H_n.mean(0)
    inner = torch.zeros_like(C)
    for s, H, k, label in zip(shrink, (H_c, H_n), (n_c, n_n), (1.0, 0.0)):
        u = H - middle
        pull = u * (label - p - u @ w)[:, None]
        inner += s * k / n**2 * pull.T.cov(correction=0)
    return w, K @ inner @ K
