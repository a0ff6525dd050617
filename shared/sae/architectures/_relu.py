"""Standard dictionaries: ReLU and an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared.sae.architectures._base import Thresholded, TrainBatch, TrainOut, squared_errors

if TYPE_CHECKING:
    from shared.sae._model import SparseDict


class ReLU(Thresholded):
    """`f = ReLU(z)`, `L = ‖y - ŷ‖² + λ Σ_i f_i`.

    With free decoder norms the penalty is `λ Σ_i f_i ‖W_dec,i‖` (Conerly et al. 2024).
    """

    name = "standard"
    may_resample = True

    def cut(self, sae: SparseDict) -> float:
        return 0.0

    def activate_(self, sae: SparseDict, z: Tensor) -> None:
        z.clamp_min_(0)

    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        codes = torch.addmm(sae.b_enc, batch.centred, sae.W_enc).relu()
        errors = squared_errors(batch.y, sae.finish(codes @ sae.W_dec, x=batch.x, stats=batch.stats))
        cost = codes * sae.W_dec.norm(dim=1) if sae.cfg.decoder_norm == "free" else codes
        l1 = sae.cfg.l1_coefficient * cost.sum(1).mean()
        return TrainOut.add_up(codes, errors, errors.mean(), {"l1": batch.sparsity * l1})
