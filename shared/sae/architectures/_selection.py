"""What the TopK family shares: training codes from the largest pre-activations, and AuxK (Gao et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared.sae._sparse import SparseCodes, encode_at, select, top_k
from shared.sae.architectures._base import TrainBatch, TrainOut, squared_errors

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig
    from shared.sae._model import SparseDict


def check_k(cfg: SAEConfig) -> None:
    """Raise `ValueError` unless 0 < k <= d_sae."""
    if cfg.k is None or not 0 < cfg.k <= cfg.d_sae:
        raise ValueError(f"k={cfg.k!r} must be in (0, d_sae={cfg.d_sae}] for architecture={cfg.architecture!r}")


def selected(sae: SparseDict, centred: Tensor, over_batch: bool) -> SparseCodes:
    """The k largest pre-activations of each row, or k per row of the batch, differentiable at their places."""
    values, pattern = select(centred, sae.W_enc, sae.b_enc, sae.cfg.k, over_batch)
    values = encode_at(centred, sae.W_enc, sae.b_enc, values, pattern).relu()
    return SparseCodes(values, pattern, torch.Size((len(centred), sae.cfg.d_sae)))


def selection_loss(sae: SparseDict, batch: TrainBatch, over_batch: bool) -> TrainOut:
    """`‖y - ŷ‖² + α AuxK`."""
    codes = selected(sae, batch.centred, over_batch)
    y_hat = sae.finish(codes.matmul(sae.W_dec), x=batch.x, stats=batch.stats)
    errors = squared_errors(batch.y, y_hat)
    return TrainOut.add_up(codes, errors, errors.mean(), aux_penalty(sae, batch, y_hat))


def aux_penalty(sae: SparseDict, batch: TrainBatch, y_hat: Tensor) -> dict[str, Tensor]:
    """`{"aux": α AuxK}`, or nothing where no latent is dead."""
    if not sae.cfg.aux_coefficient or batch.dead is None or not bool(batch.dead.any()):
        return {}
    return {"aux": sae.cfg.aux_coefficient * _aux_k(sae, batch, (batch.y - y_hat).detach())}


def _aux_k(sae: SparseDict, batch: TrainBatch, residual: Tensor) -> Tensor:
    """The residual reconstructed by its best dead latents, relative to its variance.

    At most d_in / 2 dead latents per row, after ReLU, decoded without a bias.
    """
    columns = batch.dead.nonzero().squeeze(1)
    codes = torch.addmm(sae.b_enc[columns], batch.centred, sae.W_enc[:, columns]).relu()
    k = max(1, sae.cfg.d_in // 2)
    if k < len(columns):
        values, best = top_k(codes, k)
        codes = torch.zeros_like(codes).scatter(1, best, values)
    guess = codes @ sae.W_dec[columns]
    if batch.stats is not None and not sae.cfg.is_transcoder:
        guess = guess * batch.stats.scale
    total = squared_errors(residual, residual.mean(0)).mean()
    return (squared_errors(residual, guess).mean() / total).nan_to_num(0.0, 0.0, 0.0)


def refuse_folding(architecture: str) -> None:
    """Raise the `ValueError` of `fold_decoder_norm_`."""
    raise ValueError(f"architecture={architecture!r}: folding norms would change which latents win")
