"""Gated dictionaries: which latents are on, and how strongly, from one encoder (Rajamanoharan et al. 2024a)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shared.sae._normalise import undo
from shared.sae._sparse import Pattern, SparseCodes, chunks, offsets_of
from shared.sae.architectures._base import Architecture, TrainBatch, TrainOut, squared_errors

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig
    from shared.sae._model import SparseDict

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


class Gated(Architecture):
    """`f = 1[z > 0] · ReLU(e^r (z - b_enc) + b_mag)`, z the gate's pre-activations and `b_enc` its bias.

    `L = ‖y - ŷ‖² + λ Σ_i ReLU(z_i) ‖W_dec,i‖ + ‖y - ŷ_gate‖²` (the paper, equation 8): the L1 term shrinks the gate
    only, and the gate learns by reconstructing on its own, with a decoder that this term doesn't move. Decoder norms
    count where they are free. At inference it is a JumpReLU dictionary (`as_jumprelu`).
    """

    name = "gated"

    def add_threshold(self, sae: SparseDict) -> None:
        sae.r_mag = nn.Parameter(torch.zeros(sae.cfg.d_sae))
        sae.b_mag = nn.Parameter(torch.zeros(sae.cfg.d_sae))

    def activate(self, sae: SparseDict, z: Tensor) -> Tensor:
        return torch.where(z > 0, (sae.r_mag.exp() * (z - sae.b_enc) + sae.b_mag).relu(), 0.0)

    def activate_(self, sae: SparseDict, z: Tensor) -> None:
        z.copy_(self.activate(sae, z))

    def sparse_codes(self, sae: SparseDict, centred: Tensor) -> SparseCodes:
        found = []
        for part in chunks(centred, sae.cfg.d_sae):
            codes = self.activate(sae, torch.addmm(sae.b_enc, part, sae.W_enc))
            rows, columns = (codes > 0).nonzero(as_tuple=True)
            found.append((codes[rows, columns], columns, torch.bincount(rows, minlength=len(part))))
        values, columns, counts = (torch.cat(parts) for parts in zip(*found, strict=True))
        shape = torch.Size((len(centred), sae.cfg.d_sae))
        return SparseCodes(values, Pattern(columns, offsets_of(counts), sae.cfg.d_sae), shape)

    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        z = torch.addmm(sae.b_enc, batch.centred, sae.W_enc)
        gate, codes = z.relu(), self.activate(sae, z)
        errors = squared_errors(batch.y, sae.finish(codes @ sae.W_dec, x=batch.x, stats=batch.stats))
        cost = gate * sae.W_dec.norm(dim=1) if sae.cfg.decoder_norm == "free" else gate
        l1 = sae.cfg.l1_coefficient * cost.sum(1).mean()
        alone = self._by_gate(sae, gate, batch)
        return TrainOut.add_up(codes, errors, errors.mean(), {"l1": batch.sparsity * l1, "gate": alone.mean()})

    def _by_gate(self, sae: SparseDict, gate: Tensor, batch: TrainBatch) -> Tensor:
        """Squared errors of the gate's own reconstruction, with a decoder that isn't moved."""
        y_hat = undo(sae.cfg, gate @ sae.W_dec.detach() + sae.b_dec.detach(), batch.stats)
        if sae.cfg.skip:
            y_hat = y_hat + batch.x @ sae.W_skip.detach().T
        return squared_errors(batch.y, y_hat)

    def fold_norms_(self, sae: SparseDict, norms: Tensor) -> None:
        sae.b_mag *= norms

    def at_inference(self, sae: SparseDict) -> tuple[SAEConfig, dict[str, Tensor]]:
        metadata = {**sae.cfg.metadata, "training_architecture": self.name}
        cfg = sae.cfg.with_(architecture="jumprelu", metadata=metadata)
        tensors = dict(sae.named_parameters())
        return cfg, as_jumprelu({**tensors, "b_gate": tensors["b_enc"]})
