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

from shared._checks import check_array, check_choice, check_finite, check_shape, wide
from shared.hooks import AxisFinder
from shared.hooks import edit as edit_activation
from shared.sae._model import SparseDict
from shared.sae._sparse import SparseCodes
from shared.sae._splice import splice
from shared.stats import unit_norm


def l0(codes: Tensor | SparseCodes) -> float:
    """Mean number of active latents per row.

    Parameters
    ----------
    codes : Tensor or SparseCodes
        `(…, d_sae)`.

    Returns
    -------
    float
        At most d_sae.
    """
    if isinstance(codes, SparseCodes):
        return float(codes.l0())
    check_finite("codes", codes)
    return float(wide((codes != 0).sum(-1)).mean())


def firing_rate(codes: Tensor | SparseCodes) -> Tensor:
    """Share of rows in which each latent is active.

    Parameters
    ----------
    codes : Tensor or SparseCodes
        `(…, d_sae)`.

    Returns
    -------
    Tensor
        `(d_sae,)`.
    """
    if isinstance(codes, SparseCodes):
        active = codes.pattern.columns[codes.values > 0]
        return torch.bincount(active, minlength=codes.pattern.width) / max(1, len(codes.pattern.offsets) - 1)
    check_finite("codes", codes)
    return (codes != 0).flatten(0, -2).float().mean(0)


def dead_fraction(codes: Tensor | SparseCodes) -> float:
    """Share of latents that are active in no row; give at least some 10·d_sae rows.

    Parameters
    ----------
    codes : Tensor or SparseCodes
        `(…, d_sae)`.

    Returns
    -------
    float
        Between 0 and 1.
    """
    return float((firing_rate(codes) == 0).float().mean())


def _pair(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `(n, d)` of both in float64."""
    check_finite("x", x)
    check_array("x_hat", x_hat, tuple(x.shape))
    return wide(x.detach().flatten(0, -2)), wide(x_hat.detach().flatten(0, -2))


def explained_variance(x: Tensor, x_hat: Tensor) -> float:
    """`1 - Σ_d Var(x - x̂) / Σ_d Var(x)`: blind to a constant error, unlike `1 - fvu`.

    Parameters
    ----------
    x : Tensor
        `(…, d)`.
    x_hat : Tensor
        Its reconstruction, of the same shape.

    Returns
    -------
    float
        At most 1. Of constant data, as in scikit-learn, 1 for a constant error and 0 otherwise.
    """
    x, x_hat = _pair(x, x_hat)
    if _is_constant(x):
        return float(_is_constant(x - x_hat))
    return float(1 - (x - x_hat).var(0, correction=0).sum() / x.var(0, correction=0).sum())


def fvu(x: Tensor, x_hat: Tensor) -> float:
    """Fraction of variance unexplained, `‖x - x̂‖² / ‖x - x̄‖²`.

    Parameters
    ----------
    x : Tensor
        `(…, d)`.
    x_hat : Tensor
        Its reconstruction, of the same shape.

    Returns
    -------
    float
        At least 0. Of constant data 0 without an error and 1 otherwise.
    """
    x, x_hat = _pair(x, x_hat)
    if _is_constant(x):
        return float((x != x_hat).any())
    return float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def _is_constant(rows: Tensor) -> bool:
    """Whether all rows are the same; their computed variance may be a rounding error above 0."""
    return bool((rows == rows[:1]).all())


def cosine(x: Tensor, x_hat: Tensor) -> float:
    """Mean cosine between rows and their reconstructions.

    Parameters
    ----------
    x : Tensor
        `(…, d)`.
    x_hat : Tensor
        Its reconstruction, of the same shape.

    Returns
    -------
    float
        Between -1 and 1; rows of zeros count as 0.
    """
    return float(torch.cosine_similarity(*_pair(x, x_hat), dim=1).mean())


def l2_ratio(x: Tensor, x_hat: Tensor) -> float:
    """Mean of `‖x̂‖ / ‖x‖`; below 1 under shrinkage.

    Parameters
    ----------
    x : Tensor
        `(…, d)`.
    x_hat : Tensor
        Its reconstruction, of the same shape.

    Returns
    -------
    float
        At least 0; rows of zeros, which have no ratio, are left out. NaN if all are.
    """
    x, x_hat = _pair(x, x_hat)
    length = x.norm(dim=1)
    there = length > 0
    return float((x_hat[there].norm(dim=1) / length[there]).mean())


def relative_reconstruction_bias(x: Tensor, x_hat: Tensor) -> float:
    """`E‖x̂‖² / E[x · x̂]`: 1 without shrinkage, below 1 under L1 (Rajamanoharan et al. 2024).

    Parameters
    ----------
    x : Tensor
        `(…, d)`.
    x_hat : Tensor
        Its reconstruction, of the same shape.

    Returns
    -------
    float
        NaN if all of x̂ is zero.
    """
    x, x_hat = _pair(x, x_hat)
    return float(x_hat.square().sum() / (x * x_hat).sum())


def loss_recovered(clean: float, spliced: float, ablated: float) -> float:
    """`(ablated - spliced) / (ablated - clean)`: 1 if the splice costs nothing, 0 if as much as ablating.

    NaN, with a warning, if ablation costs less than 1e-3: the ratio means nothing there.

    Parameters
    ----------
    clean, spliced, ablated : float
        Losses of the model as it is, with the reconstruction, and without the activation.

    Returns
    -------
    float
        At most about 1.
    """
    if ablated - clean < 1e-3:
        warnings.warn(f"ablation costs {ablated - clean:.2g}: loss recovered is undefined", stacklevel=2)
        return float("nan")
    return (ablated - spliced) / (ablated - clean)


@torch.no_grad()
def downstream_loss(
    model: nn.Module,
    layer: str,
    sae: SparseDict,
    loss: Callable[[nn.Module], Any],
    *,
    ablation: str = "zero",
    channel_axis: int | None = None,
) -> dict[str, float]:
    """Loss of a model as it is, with an activation replaced by its reconstruction, and with it ablated.

    Parameters
    ----------
    model : Module
        Any torch module.
    layer : str
        Name of the module whose output `sae` reads.
    sae : SparseDict
        An autoencoder.
    loss : callable
        Runs the model on the evaluation data and returns its mean loss.
    ablation : str
        "zero", or "mean" (the activation's mean over all but the encoded axis, batch by batch).
    channel_axis : int, optional
        Axis that is encoded, where the module doesn't tell it (`hooks.find_channel_axis`).

    Returns
    -------
    dict of str to float
        "clean", "spliced", "ablated" and "recovered" (`loss_recovered`).
    """
    check_choice("ablation", ablation, ("zero", "mean"))
    axis_of = AxisFinder(model, layer, channel_axis=channel_axis)
    clean = float(loss(model))
    with splice(model, layer, sae, channel_axis=channel_axis, error="drop"):
        spliced = float(loss(model))

    def ablate(activation: Tensor) -> Tensor:
        if ablation == "zero":
            return torch.zeros_like(activation)
        axis = axis_of(activation)
        last = activation.movedim(axis, -1)
        return last.flatten(0, -2).mean(0).expand_as(last).movedim(-1, axis).clone()

    with edit_activation(model, {layer: ablate}):
        ablated = float(loss(model))
    return {
        "clean": clean,
        "spliced": spliced,
        "ablated": ablated,
        "recovered": loss_recovered(clean, spliced, ablated),
    }


def match_dictionary(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The best one-to-one matching of true features to decoder rows by cosine.

    Parameters
    ----------
    found : Tensor
        Decoder rows `(m, d)`.
    truth : Tensor
        True features `(n, d)`.

    Returns
    -------
    tuple of Tensor
        Index of the matched row `(min(n, m),)` of each true feature in order, and the cosines.
    """
    check_array("found", found, ("m", "d"))
    check_array("truth", truth, ("n", found.shape[1]))
    similarity = unit_norm(truth, dim=1) @ unit_norm(found.to(truth), dim=1).T
    rows, columns = linear_sum_assignment(-wide(similarity.detach()).cpu().numpy())
    rows, columns = torch.as_tensor(rows), torch.as_tensor(columns)
    return columns, similarity.detach().cpu()[rows, columns]


def mcc(found: Tensor, truth: Tensor) -> float:
    """Mean cosine of true features and decoder rows under the best one-to-one matching.

    Parameters
    ----------
    found : Tensor
        Decoder rows `(m, d)`.
    truth : Tensor
        True features `(n, d)`.

    Returns
    -------
    float
        Between -1 and 1.
    """
    return float(match_dictionary(found, truth)[1].mean())


def feature_f1(codes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The latent that best detects each true feature.

    Parameters
    ----------
    codes : Tensor
        `(n, d_sae)`; a latent says yes where it is above 0.
    truth : Tensor
        Bool `(n, P)`.

    Returns
    -------
    tuple of Tensor
        F1 `(P,)` and the latents' indices `(P,)`.
    """
    check_array("codes", codes, ("n", "d_sae"))
    check_array("truth", truth, (len(codes), "P"))
    active, true = (codes > 0).float(), truth.float()
    scores = 2 * active.T @ true / (active.sum(0)[:, None] + true.sum(0)).clamp_min(1)
    best = scores.max(0)
    return best.values, best.indices


def absorption(codes: Tensor, parent: Tensor, child: Tensor, *, latent: Tensor | None = None) -> Tensor:
    """Share of the rows with a child feature on in which the parent's latent is silent.

    Parameters
    ----------
    codes : Tensor
        `(n, d_sae)`.
    parent : Tensor
        Bool `(n, P)`: is parent p on.
    child : Tensor
        Bool `(n, P)`: is any child of p on.
    latent : Tensor, optional
        `(P,)`: the parents' latents; by default those with the best F1 on `parent`.

    Returns
    -------
    Tensor
        `(P,)`; NaN where no row has both on.
    """
    check_array("codes", codes, ("n", "d_sae"))
    check_array("parent", parent, (len(codes), "P"))
    check_array("child", child, tuple(parent.shape))
    if latent is None:
        latent = feature_f1(codes, parent)[1]
    check_shape("latent", latent, (parent.shape[1],))
    on = child & parent
    silent = (codes[:, latent] <= 0) & on
    return silent.sum(0) / on.sum(0)


def monosemanticity(codes: Tensor, embeddings: Tensor) -> Tensor:
    """Activation-weighted mean cosine of all pairs of inputs (Pach et al. 2025).

    `Σ_{n≠m} ã_n ã_m cos(e_n, e_m) / Σ_{n≠m} ã_n ã_m`, activations scaled to [0, 1] per latent. The sums over pairs are
    computed from sums over inputs: `(Σ ã e)² - Σ ã²`.

    Parameters
    ----------
    codes : Tensor
        `(n, d_sae)`, one row per input.
    embeddings : Tensor
        `(n, d)` of the inputs by another model.

    Returns
    -------
    Tensor
        `(d_sae,)`; NaN for latents active on fewer than two inputs.
    """
    check_array("codes", codes, ("n", "d_sae"))
    check_array("embeddings", embeddings, (len(codes), "d"))
    low, high = codes.amin(0), codes.amax(0)
    scaled = wide(codes - low) / wide(high - low).clamp_min(torch.finfo(torch.float32).tiny)
    unit = unit_norm(wide(embeddings), dim=1)
    squares = scaled.square().sum(0)
    pairs = scaled.sum(0).square() - squares
    similar = (scaled.T @ unit).square().sum(1) - squares
    return torch.where(pairs > 1e-12, similar / pairs, torch.nan).to(codes.dtype)
