"""EK-FAC (George et al. 2018; Grosse et al. 2023): a curvature in the eigenbasis of its Kronecker factors."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import wide


class KroneckerEigenbasis:
    """Of a softmax layer's curvature G = mean_n S_n ⊗ f_n f_nᵀ, S_n = diag(p_n) - p_n p_nᵀ.

    U and V are the eigenvectors of the factors' means, mean S_n and mean f_n f_nᵀ; `values` (K, D) is G's diagonal in
    U ⊗ V, which is EK-FAC's correction of K-FAC. Exact where all p_n are equal.

    Parameters
    ----------
    F : Tensor
        The layer's inputs `(N, D)`.
    p : Tensor
        Its probabilities `(N, K)`.
    """

    def __init__(self, F: Tensor, p: Tensor) -> None:
        self.U = torch.linalg.eigh(wide(p.mean(0).diag() - p.T @ p / len(p)))[1].to(F)
        self.V = torch.linalg.eigh(wide(F.T @ F / len(F)))[1].to(F)
        along_u = p @ self.U.square() - (p @ self.U).square()  # uᵀ S_n u
        self.values = along_u.T @ (F @ self.V).square() / len(F)

    def solve(self, B: Tensor, damping: float) -> Tensor:
        """(G + λ)⁻¹ b in this basis, for rows of B (T, K D)."""
        inside = self.U.T @ B.view(-1, *self.values.shape) @ self.V
        return (self.U @ (inside / (self.values + damping)) @ self.V.T).flatten(1)
