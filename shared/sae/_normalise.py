"""Run-time normalisation of rows, as SAELens does it: taken out before encoding, put back after decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig

AT_RUN_TIME = ("layer_norm", "constant_norm_rescale")
SLACK = 1e-5  # SAELens divides by (std + 1e-5) but multiplies by std on the way back


class RowStats(NamedTuple):
    """Run-time normalisation of each row: `x = normalised * scale + shift`.

    Attributes
    ----------
    shift, scale : Tensor
        `(…, 1)` each.
    """

    shift: Tensor
    scale: Tensor


def row_stats(cfg: SAEConfig, x: Tensor) -> RowStats | None:
    """Statistics of rows x `(…, d_in)`; None where nothing is normalised at run time."""
    if cfg.normalize_activations == "layer_norm":
        return RowStats(x.mean(-1, keepdim=True), x.std(-1, keepdim=True))
    if cfg.normalize_activations == "constant_norm_rescale":
        norm = x.norm(dim=-1, keepdim=True)
        return RowStats(torch.zeros_like(norm), norm / cfg.d_in**0.5)
    return None


def normalise(cfg: SAEConfig, x: Tensor, stats: RowStats | None) -> Tensor:
    """Rows with their statistics taken out."""
    if stats is None:
        return x
    slack = SLACK if cfg.normalize_activations == "layer_norm" else 0.0
    return (x - stats.shift) / (stats.scale + slack)


def undo(cfg: SAEConfig, y: Tensor, stats: RowStats | None) -> Tensor:
    """An autoencoder's reconstructions with the statistics put back; a transcoder's stay as they are."""
    if cfg.normalize_activations not in AT_RUN_TIME or cfg.is_transcoder:
        return y
    if stats is None:
        mode = cfg.normalize_activations
        raise ValueError(f"normalize_activations={mode!r}: decode needs stats=sae.stats(x) of the same rows")
    return y * stats.scale + stats.shift
