"""JumpReLU dictionaries: a learned threshold per latent and an L0 penalty (Rajamanoharan et al. 2024b)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shared.sae.architectures._base import Thresholded, TrainBatch, TrainOut, squared_errors
from shared.sae.architectures._straight_through import jump_relu, step

if TYPE_CHECKING:
    from shared.sae._model import SparseDict


class JumpReLU(Thresholded):
    """`f = z · H(z - θ)`, `L = ‖y - ŷ‖² + λ Σ_i H(z_i - θ_i)`, H the step function, with straight-through gradients."""

    name = "jumprelu"

    def add_threshold(self, sae: SparseDict) -> None:
        sae.threshold = nn.Parameter(torch.full((sae.cfg.d_sae,), float(sae.cfg.init_threshold)))

    def cut(self, sae: SparseDict) -> Tensor:
        return sae.threshold.detach().to(sae.dtype).clamp_min(0)

    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        z = torch.addmm(sae.b_enc, batch.centred, sae.W_enc)
        codes = jump_relu(z, sae.threshold, sae.cfg.bandwidth)
        errors = squared_errors(batch.y, sae.finish(codes @ sae.W_dec, x=batch.x, stats=batch.stats))
        l0 = sae.cfg.l0_coefficient * step(z, sae.threshold, sae.cfg.bandwidth).sum(1).mean()
        return TrainOut.add_up(codes, errors, errors.mean(), {"l0": batch.sparsity * l0})

    def constrain_(self, sae: SparseDict) -> None:
        sae.threshold.clamp_(min=0)

    def fold_norms_(self, sae: SparseDict, norms: Tensor) -> None:
        sae.threshold *= norms
