"""How good a dictionary is: fidelity, sparsity, downstream loss, and agreement with a known truth.

All numbers are of the evaluation set as a whole: pass all of it (or accumulate), ratios of batches don't average.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_shape
from shared.hooks import edit as edit_activation
from shared.sae._model import SparseDict
from shared.sae._sparse import SparseCodes
from shared.sae._splice import splice


def l0(codes: Tensor | SparseCodes) -> float:
    """Mean number of active latents per row."""
    if isinstance(codes, SparseCodes):
        return float(codes.l0())
    check_finite("codes", codes)
    return float((codes != 0).sum(-1).double().mean())


def firing_rate(codes: Tensor | SparseCodes) -> Tensor:
    """Share of rows in which each latent is active, `(d_sae,)`."""
    if isinstance(codes, SparseCodes):
        active = codes.pattern.columns[codes.values > 0]
        return torch.bincount(active, minlength=codes.pattern.width) / max(1, len(codes.pattern.offsets) - 1)
    return (codes != 0).flatten(0, -2).float().mean(0)


def dead_fraction(codes: Tensor | SparseCodes) -> float:
    """Share of latents that are active in no row; give at least some 10·d_sae rows."""
    return float((firing_rate(codes) == 0).float().mean())


def _pair(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    check_shape("x_hat", x_hat, tuple(x.shape))
    check_finite("x", x)
    check_finite("x_hat", x_hat)
    return x.detach().flatten(0, -2).double(), x_hat.detach().flatten(0, -2).double()


def explained_variance(x: Tensor, x_hat: Tensor) -> float:
    """`1 - Σ_d Var(x - x̂) / Σ_d Var(x)`: blind to a constant error, unlike `1 - fvu`."""
    x, x_hat = _pair(x, x_hat)
    return float(1 - (x - x_hat).var(0, correction=0).sum() / x.var(0, correction=0).sum())


def fvu(x: Tensor, x_hat: Tensor) -> float:
    """Fraction of variance unexplained, `‖x - x̂‖² / ‖x - x̄‖²`."""
    x, x_hat = _pair(x, x_hat)
    return float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def cosine(x: Tensor, x_hat: Tensor) -> float:
    """Mean cosine between rows and their reconstructions."""
    return float(torch.cosine_similarity(*_pair(x, x_hat), dim=1).mean())


def l2_ratio(x: Tensor, x_hat: Tensor) -> float:
    """Mean of `‖x̂‖ / ‖x‖`; below 1 under shrinkage."""
    x, x_hat = _pair(x, x_hat)
    return float((x_hat.norm(dim=1) / x.norm(dim=1)).mean())


def relative_reconstruction_bias(x: Tensor, x_hat: Tensor) -> float:
    """`E‖x̂‖² / E[x · x̂]`: 1 without shrinkage, below 1 under L1 (Rajamanoharan et al. 2024)."""
    x, x_hat = _pair(x, x_hat)
    return float(x_hat.square().sum() / (x * x_hat).sum())


def loss_recovered(clean: float, spliced: float, ablated: float) -> float:
    """`(ablated - spliced) / (ablated - clean)`: 1 if the splice costs nothing, 0 if as much as ablating.

    NaN, with a warning, if ablation costs less than 1e-3: the ratio means nothing there.
    """
    if ablated - clean < 1e-3:
        warnings.warn(f"ablation costs {ablated - clean:.2g}: loss recovered is undefined", stacklevel=2)
        return float("nan")
    return (ablated - spliced) / (ablated - clean)


@torch.no_grad()
def downstream_loss(
    model: nn.Module, hook: str, sae: SparseDict, loss: Callable[[nn.Module], Any], ablation: str = "zero"
) -> dict[str, float]:
    """Loss of a model as it is, with an activation replaced by its reconstruction, and with it ablated.

    Args:
        model: any torch module.
        hook: name of the module whose output `sae` reads.
        sae: an autoencoder.
        loss: runs the model on the evaluation data and returns its mean loss.
        ablation: "zero", or "mean" (the activation's mean over all but its last axis, batch by batch).

    Returns:
        "clean", "spliced", "ablated" and "recovered" (`loss_recovered`).
    """
    check_choice("ablation", ablation, ("zero", "mean"))
    clean = float(loss(model))
    with splice(model, hook, sae, error="drop"):
        spliced = float(loss(model))

    def ablate(activation: Tensor) -> Tensor:
        if ablation == "zero":
            return torch.zeros_like(activation)
        return activation.flatten(0, -2).mean(0).expand_as(activation).clone()

    with edit_activation(model, {hook: ablate}):
        ablated = float(loss(model))
    return {
        "clean": clean,
        "spliced": spliced,
        "ablated": ablated,
        "recovered": loss_recovered(clean, spliced, ablated),
    }


def match_dictionary(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The best one-to-one matching of true features `(n, d)` to decoder rows `(m, d)` by cosine.

    Returns:
        Index of the matched row `(min(n, m),)` of each true feature in order, and the cosines.
    """
    check_shape("truth", truth, ("n", found.shape[1]))
    similarity = torch.nn.functional.normalize(truth, dim=1) @ torch.nn.functional.normalize(found.to(truth), dim=1).T
    rows, columns = linear_sum_assignment(-similarity.detach().double().cpu().numpy())
    rows, columns = torch.as_tensor(rows), torch.as_tensor(columns)
    return columns, similarity.detach().cpu()[rows, columns]


def mcc(found: Tensor, truth: Tensor) -> float:
    """Mean cosine of true features and decoder rows under the best one-to-one matching."""
    return float(match_dictionary(found, truth)[1].mean())


def feature_f1(codes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The latent that best detects each true feature: F1 `(P,)` and its index `(P,)`.

    Args:
        codes: `(n, d_sae)`; a latent says yes where it is above 0.
        truth: bool `(n, P)`.
    """
    check_shape("truth", truth, (len(codes), "P"))
    active, true = (codes > 0).float(), truth.float()
    scores = 2 * active.T @ true / (active.sum(0)[:, None] + true.sum(0)).clamp_min(1)
    best = scores.max(0)
    return best.values, best.indices


def absorption(codes: Tensor, parent: Tensor, child: Tensor, latent: Tensor | None = None) -> Tensor:
    """Share of the rows with a child feature on in which the parent's latent is silent, `(P,)`.

    Args:
        codes: `(n, d_sae)`.
        parent: bool `(n, P)`: is parent p on.
        child: bool `(n, P)`: is any child of p on.
        latent: `(P,)`: the parents' latents; by default those with the best F1 on `parent`.
    """
    check_shape("parent", parent, (len(codes), "P"))
    check_shape("child", child, tuple(parent.shape))
    if latent is None:
        latent = feature_f1(codes, parent)[1]
    on = child & parent
    silent = (codes[:, latent] <= 0) & on
    return silent.sum(0) / on.sum(0)


def monosemanticity(codes: Tensor, embeddings: Tensor) -> Tensor:
    """Activation-weighted mean cosine of all pairs of inputs, `(d_sae,)`; NaN for latents active on fewer than two.

    `Σ_{n≠m} ã_n ã_m cos(e_n, e_m) / Σ_{n≠m} ã_n ã_m`, activations scaled to [0, 1] per latent (Pach et al. 2025). The
    sums over pairs are computed from sums over inputs: `(Σ ã e)² - Σ ã²`.

    Args:
        codes: `(n, d_sae)`, one row per input.
        embeddings: `(n, d)` of the inputs by another model.
    """
    check_shape("embeddings", embeddings, (len(codes), "d"))
    check_finite("embeddings", embeddings)
    low, high = codes.amin(0), codes.amax(0)
    scaled = ((codes - low) / (high - low).clamp_min(1e-12)).double()
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    squares = scaled.square().sum(0)
    pairs = scaled.sum(0).square() - squares
    similar = (scaled.T @ unit).square().sum(1) - squares
    return torch.where(pairs > 1e-12, similar / pairs, torch.nan).to(codes.dtype)
