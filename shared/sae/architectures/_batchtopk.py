"""BatchTopK dictionaries: the largest pre-activations of the whole batch (Bussmann et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared._checks import wide
from shared.sae._sparse import SparseCodes, select
from shared.sae.architectures._base import Thresholded, TrainBatch, TrainOut
from shared.sae.architectures._selection import check_k, refuse_folding, selection_loss

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig
    from shared.sae._model import SparseDict


class BatchTopK(Thresholded):
    """TopK's loss with `k · B` latents selected over the batch; at inference a JumpReLU with one threshold for all.

    The threshold is a running mean of the batches' smallest active value, or set by `calibrate_threshold`.
    """

    name = "batchtopk"

    def check(self, cfg: SAEConfig) -> None:
        check_k(cfg)

    def add_threshold(self, sae: SparseDict) -> None:
        sae.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))

    def cut(self, sae: SparseDict) -> Tensor:
        if bool(sae.threshold.isnan()):
            raise ValueError(
                f"architecture={self.name!r} has no threshold yet: train it with fit, "
                "or set it with calibrate_threshold(x)"
            )
        return sae.threshold.detach().to(sae.dtype).clamp_min(0)

    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        return selection_loss(sae, batch, over_batch=True)

    def follow_threshold_(
        self, sae: SparseDict, codes: SparseCodes, beta: float, reduce: Callable[[Tensor, str], Tensor]
    ) -> None:
        positive = codes.values.detach()
        positive = positive[positive > 0]
        if not len(positive):
            return
        lowest = reduce(wide(positive.min()), "mean")
        followed = beta * sae.threshold + (1 - beta) * lowest
        sae.threshold.copy_(torch.where(sae.threshold.isnan(), lowest, followed))

    def fold_norms_(self, sae: SparseDict, norms: Tensor) -> None:
        refuse_folding(self.name)

    def calibrate_(self, sae: SparseDict, centred: Tensor) -> None:
        values, _ = select(centred, sae.W_enc, sae.b_enc, sae.cfg.k, over_batch=True)
        lowest = values.min() if len(values) else values.new_zeros(())
        below = torch.nextafter(lowest.to("cpu", sae.dtype), torch.zeros((), dtype=sae.dtype))  # not on every device
        sae.threshold.copy_(below)

    def at_inference(self, sae: SparseDict) -> tuple[SAEConfig, dict[str, Tensor]]:
        metadata = {**sae.cfg.metadata, "training_architecture": self.name, "k": sae.cfg.k}
        cfg = sae.cfg.with_(architecture="jumprelu", k=None, metadata=metadata)
        return cfg, {**dict(sae.named_parameters()), "threshold": self.cut(sae)}
