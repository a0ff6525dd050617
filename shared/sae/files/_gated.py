"""Gated dictionaries (Rajamanoharan et al. 2024a) read as the JumpReLU ones that they are at inference."""

from __future__ import annotations

import torch
from torch import Tensor

GATED = ("r_mag", "b_gate", "b_mag")


def as_jumprelu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same codes by one threshold per latent.

    A gated latent computes `u = W_enc (x - b_dec)` and gives `relu(e^r u + b_mag)` where `u + b_gate > 0`, that is,
    where its magnitude exceeds `b_mag - e^r b_gate` (the paper, appendix on weight sharing). So scaling the encoder by
    `e^r` and cutting there, or at 0 where that lies below, is the same function.

    Parameters
    ----------
    tensors : W_enc `(d, m)`, W_dec, b_dec, and r_mag, b_gate, b_mag `(m,)`.

    Returns
    -------
    W_enc, b_enc, threshold, W_dec and b_dec.
    """
    rest = {name: value for name, value in tensors.items() if name not in GATED}
    r, gate, magnitude = (tensors[name] for name in GATED)
    scale = torch.exp(r)
    threshold = (magnitude - scale * gate).clamp_min(0)
    return {**rest, "W_enc": tensors["W_enc"] * scale, "b_enc": magnitude, "threshold": threshold}
