"""What a transcoder's feature reads, from its weights alone (WeightLens, Golimblevskaia et al. 2026)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_range, check_shape, wide
from shared.hooks import find_module, transformer_parts
from shared.sae import SparseDict


@torch.no_grad()
def projection_outliers(values: Tensor, *, n_top: int = 1000, z: float = 4.5) -> list[Tensor]:
    """Entries of each row that stand out among the row's own largest.

    Of the `n_top` largest entries of a row, those more than `z` standard deviations (with the n in the denominator)
    above their mean. So one entry in n that differs has z = √(n - 1), and m equal ones √(n/m - 1): many equal ones are
    no outliers, nor are entries that are all alike.

    Parameters
    ----------
    values : Tensor
        `(n, V)`, for instance encoders times token embeddings.
    n_top : int
        Entries that are looked at; all if there are fewer.
    z : float
        Standard deviations.

    Returns
    -------
    list of Tensor
        Indices of each row's outliers, largest first; empty where there are none.

    Raises
    ------
    ValueError
        Values that aren't a finite matrix.
    """
    check_shape("values", values, ("n", "V"))
    check_finite("values", values)
    check_range("n_top", n_top, 2)
    if not values.shape[1]:
        raise ValueError(f"values has shape {tuple(values.shape)}; expected (n, V) with V of at least 1")
    top, index = values.topk(min(n_top, values.shape[1]), dim=1)
    top = wide(top)
    centred = top - top.mean(1, keepdim=True)
    spread = top.std(1, correction=0, keepdim=True)
    flat = spread <= 1e-12 * top.abs().amax(1, keepdim=True)
    out = (centred > z * spread) & ~flat
    return [row[kept] for row, kept in zip(index, out)]


@torch.no_grad()
def reading_directions(model: nn.Module, transcoder: SparseDict, layer: int) -> Tensor:
    """Encoders of a transcoder as directions of the residual stream, the gain of the MLP's norm folded in.

    With an encoder e behind the norm's gain γ, `γ ⊙ e` (for layer norms less its mean): what an embedding or an earlier
    feature's decoder is multiplied with, up to the norm's scale.

    Parameters
    ----------
    model : Module
        A transformers language model of a pre-norm family.
    transcoder : SparseDict
        Reads what the MLP of this block reads.
    layer : int
        The block.

    Returns
    -------
    Tensor
        `(d_sae, d_model)`.

    Raises
    ------
    ValueError
        A block that isn't there, a family with norms behind the sums, or a dictionary of another width.
    """
    norm = find_module(model, mlp_norm_name(model, transcoder, layer))
    return through_norm(norm, wide(transcoder.W_enc.T)).to(transcoder.dtype)


def mlp_norm_name(model: nn.Module, transcoder: SparseDict, layer: int) -> str:
    """The norm in front of a block's MLP, once block and dictionary have been checked."""
    parts = transformer_parts(model)
    if parts.post_norm or parts.attention_write or parts.mlp_write:
        raise ValueError(f"model is a {type(model).__name__}, which has norms behind its parts; only pre-norm families")
    check_range("layer", layer, 0, len(find_module(model, parts.blocks)) - 1)
    name = parts.layer("mlp_norm", layer)
    width = len(next(find_module(model, name).parameters()))
    if transcoder.cfg.d_in != width or transcoder.cfg.width_out != width:
        given = f"{transcoder.cfg.d_in} to {transcoder.cfg.width_out}"
        raise ValueError(f"transcoder maps {given} dimensions; the model's stream has {width}")
    return name


def through_norm(norm: nn.Module, vectors: Tensor) -> Tensor:
    """Vectors behind a norm as vectors in front of it, up to its scale."""
    scaled = vectors * gain(norm)
    return scaled - scaled.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else scaled


def gain(norm: nn.Module) -> Tensor:
    """A norm's γ, `(D,)`."""
    weight = next(norm.parameters())
    if isinstance(norm, nn.LayerNorm):
        return wide(weight)
    return wide(norm(torch.full_like(weight, 1e3)[None])[0])  # whether the family stores γ or γ - 1
