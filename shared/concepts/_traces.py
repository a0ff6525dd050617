"""Faithful concept traces: a B-cos network's decision through a dictionary, split into concepts and pixels (FaCT)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from shared._checks import check_array, check_finite, check_range, check_shape
from shared.hooks import graph_mode
from shared.nets import explanation_mode, logits_of, target_logit
from shared.sae import SparseDict, splice


class ConceptTrace(NamedTuple):
    """What concepts add to a decision that is made from their reconstruction.

    Attributes
    ----------
    contributions : Tensor
        `(B, d_sae)`: of each concept to the target's logit, summed over places.
    presence : Tensor
        `(B, d_sae)`: codes summed over places.
    logits : Tensor
        `(B, classes)`, of the reconstruction.
    """

    contributions: Tensor
    presence: Tensor
    logits: Tensor


def trace_concepts(
    model: nn.Module, layer: str, sae: SparseDict, x: Tensor, target: Tensor, *, channel_axis: int | None = None
) -> ConceptTrace:
    """Σ_places U_k ∂f_c/∂U_k, which add up to the logit of the reconstruction less the network's fixed bias.

    Source: Parchami-Araghi et al. 2025, FaCT. The network behind the layer is the linear map that it is at this input
    (`nets.explanation_mode`). A dictionary with biases (`SAEConfig.biases`) leaves a rest.

    Parameters
    ----------
    model : Module
        A B-cos network in eval mode.
    layer : str
        Module whose output is replaced by its reconstruction.
    sae : SparseDict
        Of its channels.
    x : Tensor
        Inputs of the model `(B, …)`.
    target : Tensor
        Class of each row `(B,)`.
    channel_axis : int, optional
        Of the activation, where the modules don't tell it.

    Returns
    -------
    ConceptTrace
        Detached.

    Raises
    ------
    ValueError
        No B-cos network, training mode, an unknown layer, widths that don't fit, x that isn't finite.
    """
    _check(model, x)
    leaves: list[Tensor] = []

    def as_leaf(codes: Tensor) -> Tensor:
        leaves.append(codes.detach().requires_grad_())
        return leaves[-1]

    with explanation_mode(model), graph_mode():
        with splice(model, layer, sae, channel_axis=channel_axis, error="drop", edit=as_leaf):
            logits = logits_of(model, x.detach().clone())
        (codes,) = leaves
        (slope,) = torch.autograd.grad(target_logit(logits, target).sum(), codes)
    codes = codes.detach()
    return ConceptTrace(_over_places(codes * slope), _over_places(codes), logits.detach())


def trace_inputs(
    model: nn.Module, layer: str, sae: SparseDict, x: Tensor, concept: Tensor, *, channel_axis: int | None = None
) -> Tensor:
    """x times the gradient of a concept's presence: shares of every input value, which add up to the presence.

    Source: Parchami-Araghi et al. 2025, FaCT. The network up to the layer is the linear map that it is at this input; a
    dictionary with biases leaves a rest.

    Parameters
    ----------
    model : Module
        A B-cos network in eval mode.
    layer : str
        Module whose output is encoded.
    sae : SparseDict
        Of its channels.
    x : Tensor
        Encoded images `(B, 2C, H, W)` (`nets.AddInverse`); of others, the constant 1 of 1 - x takes a part with it.
    concept : Tensor
        Latent to be traced in each row, int64 `(B,)`.
    channel_axis : int, optional
        Of the activation, where the modules don't tell it.

    Returns
    -------
    Tensor
        As x. Their positive parts, summed over channels, are the paper's heat maps.

    Raises
    ------
    ValueError
        No B-cos network, training mode, an unknown layer or latent, widths that don't fit, x that isn't finite.
    """
    _check(model, x)
    check_array("concept", concept, (len(x),))
    if bool((concept < 0).any()) or bool((concept >= sae.cfg.d_sae).any()):
        raise ValueError(f"concept must be from 0 to {sae.cfg.d_sae - 1}; got {concept.tolist()}")
    kept: list[Tensor] = []

    def keep(codes: Tensor) -> Tensor:
        kept.append(codes)
        return codes

    with explanation_mode(model), graph_mode():
        leaf = x.detach().clone().requires_grad_()
        with splice(model, layer, sae, channel_axis=channel_axis, error="drop", edit=keep):
            model(leaf)
        chosen = _over_places(kept[0]).gather(1, concept[:, None])
        return leaf.detach() * torch.autograd.grad(chosen.sum(), leaf)[0]


def pooled_features(maps: Tensor, features: Tensor) -> Tensor:
    """Σ_p A_p F_p / Σ_p A_p: another network's features where a concept looks.

    Parameters
    ----------
    maps : Tensor
        Heat maps `(N, H, W)`; negative values count as zero.
    features : Tensor
        `(N, d, H, W)`, on the maps' grid.

    Returns
    -------
    Tensor
        `(N, d)`; NaN for a map without a positive value.
    """
    check_array("maps", maps, ("N", "H", "W"))
    check_array("features", features, (len(maps), "d", *maps.shape[1:]))
    weight = maps.clamp_min(0).flatten(1)
    return torch.bmm(features.flatten(2), weight[:, :, None]).squeeze(2) / weight.sum(1, keepdim=True)


def concept_consistency(encodings: Tensor, presence: Tensor) -> Tensor:
    """Mean cosine of a concept's images, each pair weighted by its presence in both: what C² is made of.

    C² is the mean of these over concepts less that of a random concept (random maps and presences), which shows how
    alike the images are without any concept (Parchami-Araghi et al. 2025, FaCT).

    Parameters
    ----------
    encodings : Tensor
        `(K, n, d)`: of each concept's n images, `pooled_features` less their mean over the data set.
    presence : Tensor
        `(K, n)`, at least 0; images with presence 0 don't count, and their encodings may be NaN.

    Returns
    -------
    Tensor
        `(K,)`, from -1 to 1; NaN for a concept with fewer than two images.
    """
    check_array("presence", presence, ("K", "n"))
    there = presence > 0
    check_shape("encodings", encodings, (*presence.shape, "d"))
    encodings = torch.where(there[..., None], encodings, 0)
    check_finite("encodings", encodings)
    check_range("presence", float(presence.min()), 0)
    unit = normalize(encodings, dim=2)
    weight = presence / presence.sum(1, keepdim=True).clamp_min(1e-12)
    pairs = weight[:, :, None] * weight[:, None, :]
    pairs = pairs * (1 - torch.eye(pairs.shape[1]).to(pairs))
    found = (pairs * (unit @ unit.transpose(1, 2))).sum((1, 2)) / pairs.sum((1, 2))
    return torch.where(there.sum(1) > 1, found, torch.nan)


def _over_places(codes: Tensor) -> Tensor:
    """`(B, …, d_sae)` summed to `(B, d_sae)`."""
    return codes.flatten(1, -2).sum(1) if codes.ndim > 2 else codes


def _check(model: nn.Module, x: Tensor) -> None:
    if model.training:
        raise ValueError("model is in training mode, where a row's map depends on its batch; call model.eval()")
    check_array("x", x, (None,) * x.ndim)
