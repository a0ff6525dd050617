"""What attention itself says, without a gradient: its weights, and their product over layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range, check_shape
from shared.hooks import run_model
from shared.lrp.engine import AttentionTap, check_found, parts_of

HEAD_REDUCTIONS = ("mean", "max", "min")


def raw_attention(model: nn.Module, x: Any, *, batch_size: int | None = None) -> Tensor:
    """The attention weights of every layer, made anew from queries and keys. No gradients.

    Parameters
    ----------
    model : a transformers model, or one tower of it.
    x : float tensor, token ids, or a mapping of the model's arguments.
    batch_size : rows in one pass, all by default.

    Returns
    -------
    `(B, L, H, S, S)`, queries before keys; rows sum to 1.

    Raises
    ------
    UnsupportedModule
        The model has no attention of transformers' interface.
    """
    tap = AttentionTap()
    found = []
    with tap.watching(model, tap.weights), torch.no_grad():
        for part in parts_of(model, x, batch_size=batch_size):
            run_model(model, part.x)
            check_found(tap.outputs)
            found.append(torch.stack([weights for weights, _ in tap.patterns.values()], dim=1))
    return torch.cat(found)


def rollout(attention: Tensor, *, residual: float = 0.5, heads: str = "mean") -> Tensor:
    """Attention rollout (Abnar & Zuidema 2020): the product over layers of head-averaged attention with the residual.

    Parameters
    ----------
    attention : `(B, L, H, S, S)`, as `raw_attention` gives it.
    residual : weight of the identity in each layer, 0 to 1 (0.5 in the paper).
    heads : "mean", "max" or "min" over heads.

    Returns
    -------
    `(B, S, S)`: how much each position (row) draws on each input token (column); rows sum to 1.

    Raises
    ------
    ValueError
        Bad input.
    """
    check_shape("attention", attention, ("B", "L", "H", "S", "S"))
    check_finite("attention", attention)
    check_range("residual", residual, 0.0, 1.0)
    check_choice("heads", heads, HEAD_REDUCTIONS)
    layers = attention.mean(2) if heads == "mean" else getattr(attention, f"a{heads}")(2)
    eye = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    mixed = (1 - residual) * layers + residual * eye
    mixed = mixed / mixed.sum(-1, keepdim=True)
    flow = mixed[:, 0]
    for layer in mixed.unbind(1)[1:]:
        flow = layer @ flow
    return flow
