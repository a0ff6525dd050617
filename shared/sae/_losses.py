"""Training losses of every architecture. Squared errors are summed over dimensions and averaged over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from shared._checks import check_shape
from shared.sae._config import BATCH_FAMILY, TOPK_FAMILY
from shared.sae._jump import jump_relu, step
from shared.sae._sparse import SparseCodes, encode_at, select, top_k

if TYPE_CHECKING:
    from shared.sae._model import SparseDict


class TrainOut(NamedTuple):
    """One training pass: `loss` to differentiate, its detached `parts`, and what the loop keeps count of.

    `codes` are dense or `SparseCodes`; `fired` is bool `(d_sae,)`; `errors` `(B,)` are the rows' squared errors.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    codes: Tensor | SparseCodes
    fired: Tensor
    errors: Tensor


def training_forward(sae: SparseDict, x: Tensor, y: Tensor | None, dead: Tensor | None, sparsity: float) -> TrainOut:
    """See `SparseDict.training_forward`."""
    cfg = sae.cfg
    x = sae.prepare(x)
    check_shape("x", x, ("B", cfg.d_in))
    if (y is not None) != cfg.is_transcoder:
        raise ValueError(f"y must be {'given' if cfg.is_transcoder else 'None'}; d_out={cfg.d_out}")
    if y is not None:
        y = sae.prepare(y, argument="y", width=cfg.width_out)
        check_shape("y", y, (len(x), cfg.width_out))
    if dead is not None:
        check_shape("dead", dead, (cfg.d_sae,))
    loss = _topk_loss if cfg.architecture in TOPK_FAMILY else _dense_loss
    return loss(sae, x, x if y is None else y, dead, sparsity)


def _dense_loss(sae: SparseDict, x: Tensor, y: Tensor, _dead: Tensor | None, sparsity: float) -> TrainOut:
    """L1 (`standard`) and L0 with straight-through gradients (`jumprelu`)."""
    cfg, stats = sae.cfg, sae.stats(x)
    z = torch.addmm(sae.b_enc, sae.centre(x, stats), sae.W_enc)
    if cfg.architecture == "standard":
        codes = z.relu()
        cost = codes * sae.W_dec.norm(dim=1) if cfg.decoder_norm == "free" else codes
        name, penalty = "l1", cfg.l1_coefficient * cost.sum(1).mean()
    else:
        codes = jump_relu(z, sae.threshold, cfg.bandwidth)
        name, penalty = "l0", cfg.l0_coefficient * step(z, sae.threshold, cfg.bandwidth).sum(1).mean()
    errors = _errors(y, sae.finish(codes @ sae.W_dec, x, stats))
    reconstruction, penalty = errors.mean(), sparsity * penalty
    parts = {"reconstruction": reconstruction.detach(), name: penalty.detach()}
    return TrainOut(reconstruction + penalty, parts, codes, (codes.detach() > 0).any(0), errors.detach())


def _topk_loss(sae: SparseDict, x: Tensor, y: Tensor, dead: Tensor | None, _sparsity: float) -> TrainOut:
    """Squared error (mean over nested levels for `matryoshka`) and AuxK."""
    cfg, stats = sae.cfg, sae.stats(x)
    centred = sae.centre(x, stats)
    values, pattern = select(centred, sae.W_enc, sae.b_enc, cfg.k, cfg.architecture in BATCH_FAMILY)
    values = encode_at(centred, sae.W_enc, sae.b_enc, values, pattern).relu()
    codes = SparseCodes(values, pattern, torch.Size((len(x), cfg.d_sae)))
    if cfg.architecture == "matryoshka":
        pieces = codes.by_level(cfg.widths).matmul(sae.W_dec).view(len(cfg.widths), len(x), -1)
        levels = [sae.finish(level, x, stats) for level in pieces.cumsum(0)]
        weights = cfg.level_weights or [1 / len(levels)] * len(levels)
        errors = [_errors(y, level) for level in levels]
        y_hat, reconstruction = levels[-1], sum(w * e.mean() for w, e in zip(weights, errors, strict=True))
        errors = errors[-1]
    else:
        y_hat = sae.finish(codes.matmul(sae.W_dec), x, stats)
        errors = _errors(y, y_hat)
        reconstruction = errors.mean()
    parts = {"reconstruction": reconstruction.detach()}
    loss = reconstruction
    if cfg.aux_coefficient and dead is not None and bool(dead.any()):
        aux = cfg.aux_coefficient * _aux_loss(sae, centred, (y - y_hat).detach(), dead, stats)
        parts["aux"] = aux.detach()
        loss = loss + aux
    return TrainOut(loss, parts, codes, codes.fired(), errors.detach())


def _aux_loss(sae: SparseDict, centred: Tensor, residual: Tensor, dead: Tensor, stats: object) -> Tensor:
    """AuxK (Gao et al. 2024): the residual reconstructed by its best dead latents, relative to its variance.

    At most d_in / 2 dead latents per row, after ReLU, decoded without a bias.
    """
    columns = dead.nonzero().squeeze(1)
    z = torch.addmm(sae.b_enc[columns], centred, sae.W_enc[:, columns]).relu()
    k = min(max(1, sae.cfg.d_in // 2), len(columns))
    values, best = top_k(z, k) if k < len(columns) else (z, None)
    codes = z if best is None else torch.zeros_like(z).scatter(1, best, values)
    guess = codes @ sae.W_dec[columns]
    if stats is not None and not sae.cfg.is_transcoder:
        guess = guess * stats.scale
    total = _errors(residual, residual.mean(0)).mean()
    return (_errors(residual, guess).mean() / total).nan_to_num(0.0, 0.0, 0.0)


def _errors(y: Tensor, y_hat: Tensor) -> Tensor:
    """Squared error of each row."""
    return (y - y_hat).square().sum(1)
