"""Objectives of neighbour embeddings with their gradients, exact over all pairs.

For q_ij = w_ij / Z, w_ij = 1 / (1 + γ_ij ||y_i - y_j||²), and any objective f(Q) with g_ij = ∂f/∂q_ij,

    ∂f/∂y_i = -4 Σ_j (g_ij - ḡ) q_ij w_ij γ_ij (y_i - y_j),    ḡ = Σ_kl g_kl q_kl .
"""

from __future__ import annotations

import torch

from shared._checks import check_array, check_finite, check_range

_TINY = 1e-12


def pair_kernel(Y: torch.Tensor, *, gamma: torch.Tensor | None = None) -> torch.Tensor:
    """Student kernel w_ij = 1 / (1 + γ_ij ||y_i - y_j||²) of an embedding.

    Parameters
    ----------
    Y : (n, d) tensor
        The map.
    gamma : (n, n) tensor, optional
        dtSNE's scale of each pair, from `density_scale`; 1 unless told.

    Returns
    -------
    (n, n) tensor
        Zero on the diagonal.
    """
    norms = Y.square().sum(1)
    squared = torch.addmm(norms[:, None] + norms, Y, Y.T, alpha=-2.0).clamp_min_(0.0)
    W = (squared if gamma is None else squared.mul_(gamma)).add_(1.0).reciprocal_()
    return W.fill_diagonal_(0.0)


def _pull(A: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """4 Σ_j A_ij (y_i - y_j)."""
    return 4.0 * (A.sum(1, keepdim=True) * Y - A @ Y)


def kl_objective(
    Y: torch.Tensor, P: torch.Tensor, *, gamma: torch.Tensor | None = None, exaggeration: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(P‖Q) and its gradient 4 Σ_j (p_ij - q_ij) γ_ij w_ij (y_i - y_j): the objective of t-SNE, with γ of dtSNE.

    Parameters
    ----------
    Y : (n, d) tensor
        The map.
    P : (n, n) tensor
        Joint probabilities, from `affinities`.
    gamma : (n, n) tensor, optional
        See `pair_kernel`.
    exaggeration : float
        Factor on P, in the gradient only.

    Returns
    -------
    loss : scalar tensor
        In nats.
    gradient : (n, d) tensor
        With respect to Y.
    """
    W = pair_kernel(Y, gamma=gamma)
    Z = W.sum()
    pulled = P * W if gamma is None else P * W * gamma
    pushed = W * W if gamma is None else W * W * gamma
    gradient = _pull(pulled.mul_(exaggeration).sub_(pushed.div_(Z)), Y)
    loss = (torch.xlogy(P, P) - P * W.clamp_min(_TINY).log()).sum() + P.sum() * Z.log()
    return loss, gradient


def kl_gradient(
    Y: torch.Tensor, P: torch.Tensor, *, gamma: torch.Tensor | None = None, exaggeration: float = 1.0
) -> torch.Tensor:
    """The gradient of `kl_objective` alone, at about half its cost.

    Parameters
    ----------
    Y, P, gamma, exaggeration
        See `kl_objective`.

    Returns
    -------
    (n, d) tensor
        With respect to Y.
    """
    W = pair_kernel(Y, gamma=gamma)
    A = (P * exaggeration).sub_(W / W.sum()).mul_(W)
    return _pull(A if gamma is None else A.mul_(gamma), Y)


def js_divergence(prior: torch.Tensor, Q: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """Parameterised Jensen-Shannon divergence of JEDI (Heiter et al. 2021), at most -log(1 - beta).

    α KL(P' ‖ βQ + (1-β)P') + (1-α) KL(Q ‖ βP' + (1-β)Q), over the entries of two distributions.

    Parameters
    ----------
    prior : tensor of any shape
        P'.
    Q : tensor of the same shape
        The map's probabilities.
    alpha, beta : float
        In [0, 1], and between 0 and 1.

    Returns
    -------
    scalar tensor
        In nats.
    """
    check_jedi(alpha, beta)
    check_finite("prior", prior)
    check_array("Q", Q, tuple(prior.shape))
    return _js(prior, Q, alpha, beta)


def _js(prior: torch.Tensor, Q: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    toward_q = beta * Q + (1 - beta) * prior
    toward_prior = beta * prior + (1 - beta) * Q
    forward = (torch.xlogy(prior, prior) - torch.xlogy(prior, toward_q.clamp_min(_TINY**2))).sum()
    backward = (torch.xlogy(Q, Q) - torch.xlogy(Q, toward_prior.clamp_min(_TINY**2))).sum()
    return alpha * forward + (1 - alpha) * backward


def check_jedi(alpha: float, beta: float) -> None:
    """`ValueError` unless 0 <= alpha <= 1 and 0 < beta < 1 (at 1 the divergence has no bound)."""
    check_range("alpha", alpha, 0.0, 1.0)
    if not 0 < beta < 1:
        raise ValueError(f"beta={beta!r} is out of range; accepted: 0 < beta < 1 (beta = 1 would be unbounded)")


def jedi_objective(
    Y: torch.Tensor, P: torch.Tensor, prior: torch.Tensor, alpha: float, beta: float, *, exaggeration: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(P‖Q) - JS(P'‖Q) and its gradient: like the data, unlike the prior (JEDI).

    Parameters
    ----------
    Y : (n, d) tensor
        The map.
    P, prior : (n, n) tensors
        Joint probabilities of the data, and of the prior (P').
    alpha, beta : float
        See `js_divergence`.
    exaggeration : float
        Factor on P, in the gradient only.

    Returns
    -------
    objective : scalar tensor
        In nats.
    gradient : (n, d) tensor
        With respect to Y.
    """
    check_jedi(alpha, beta)
    W = pair_kernel(Y)
    Z = W.sum()
    Q = W / Z
    toward_q = (beta * Q + (1 - beta) * prior).clamp_min_(_TINY**2)
    toward_prior = (beta * prior + (1 - beta) * Q).clamp_min_(_TINY**2)
    log_ratio = (Q.clamp_min(_TINY**2) / toward_prior).log()
    g = alpha * beta * prior / toward_q - (1 - alpha) * (log_ratio + 1 - (1 - beta) * Q / toward_prior)
    mean = (g * Q).sum()
    A = (exaggeration * P - Q).sub_((g - mean).mul_(Q)).mul_(W)
    kl = (torch.xlogy(P, P) - torch.xlogy(P, Q.clamp_min(_TINY**2))).sum()
    return kl - _js(prior, Q, alpha, beta), _pull(A, Y)
