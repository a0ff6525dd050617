"""Matryoshka dictionaries: nested BatchTopK, every level reconstructing by itself (Bussmann et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.sae.architectures._base import TrainBatch, TrainOut, squared_errors
from shared.sae.architectures._batchtopk import BatchTopK
from shared.sae.architectures._selection import aux_penalty, selected

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig
    from shared.sae._model import SparseDict


class Matryoshka(BatchTopK):
    """`L = Σ_m w_m ‖y - ŷ_m‖² + α AuxK`, ŷ_m decoded from the first `widths[m]` latents."""

    name = "matryoshka"

    def check(self, cfg: SAEConfig) -> None:
        super().check(cfg)
        if cfg.widths is None:
            raise ValueError("widths=None: architecture='matryoshka' needs the cumulative widths of its levels")

    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        widths = sae.cfg.widths
        codes = selected(sae, batch.centred, over_batch=True)
        added = codes.by_level(widths).matmul(sae.W_dec).view(len(widths), len(batch.x), -1)
        levels = [sae.finish(y_hat, x=batch.x, stats=batch.stats) for y_hat in added.cumsum(0)]
        errors = [squared_errors(batch.y, y_hat) for y_hat in levels]
        weights = sae.cfg.level_weights or [1 / len(levels)] * len(levels)
        reconstruction = sum(w * e.mean() for w, e in zip(weights, errors, strict=True))
        return TrainOut.add_up(codes, errors[-1], reconstruction, aux_penalty(sae, batch, levels[-1]))
