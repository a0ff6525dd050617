"""TopK dictionaries: the k largest pre-activations of each row (Gao et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared.sae._sparse import SparseCodes, select, top_k
from shared.sae.architectures._base import Architecture, TrainBatch, TrainOut
from shared.sae.architectures._selection import check_k, refuse_folding, selection_loss

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig
    from shared.sae._model import SparseDict


class TopK(Architecture):
    """`f = ReLU(TopK(z))`, `L = ‖y - ŷ‖² + α AuxK`."""

    name = "topk"

    def check(self, cfg: SAEConfig) -> None:
        check_k(cfg)
        if cfg.k != int(cfg.k):
            raise ValueError(f"k={cfg.k!r} must be an integer for architecture='topk'; 'batchtopk' takes a mean")

    def activate(self, sae: SparseDict, z: Tensor) -> Tensor:
        values, columns = top_k(z, int(sae.cfg.k))
        return torch.zeros_like(z).scatter(1, columns, values.relu())

    def activate_(self, sae: SparseDict, z: Tensor) -> None:
        values, columns = top_k(z, int(sae.cfg.k))
        z.zero_().scatter_(1, columns, values.clamp_min_(0))

    def sparse_codes(self, sae: SparseDict, centred: Tensor) -> SparseCodes:
        values, pattern = select(centred, sae.W_enc, sae.b_enc, sae.cfg.k, over_batch=False)
        return SparseCodes(values.clamp_min(0), pattern, torch.Size((len(centred), sae.cfg.d_sae)))

    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        return selection_loss(sae, batch, over_batch=False)

    def fold_norms_(self, sae: SparseDict, norms: Tensor) -> None:
        refuse_folding(self.name)
