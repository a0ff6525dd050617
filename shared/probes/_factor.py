"""One factorisation of the activations, shared by every concept and every strength of regularisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shared.probes._inputs import as_activations, centre, gram


class SharedFactor:
    """Eigendecomposition of the centred scatter `S = Σ (h − mean)(h − mean)ᵀ` of activations.

    Pass one to several estimators (`fit(..., factor=factor)`) and the activations are decomposed only once. With fewer
    samples than dimensions the n × n kernel is decomposed instead, which gives the same answers.

    Parameters
    ----------
    H : activations (n, d).

    Attributes
    ----------
    mean : (d,).
    values : (r,), positive eigenvalues, r = min(n, d).
    vectors : (d, r).
    H : (n, d), centred.
    """

    def __init__(self, H: Any) -> None:
        H = as_activations(H)
        self.n, self.d = H.shape
        self.H, self.mean = centre(H)
        tiny = torch.finfo(H.dtype).eps * max(self.n, self.d)
        if self.d <= self.n:
            values, vectors = torch.linalg.eigh(gram(self.H))
            keep = values > tiny * values[-1].clamp(min=torch.finfo(H.dtype).tiny)
            self.values, self.vectors = values[keep], vectors[:, keep]
        else:
            values, left = torch.linalg.eigh(self.H @ self.H.T)
            keep = values > tiny * values[-1].clamp(min=torch.finfo(H.dtype).tiny)
            self.values = values[keep]
            self.vectors = (self.H.T @ left[:, keep]) / self.values.sqrt()

    @property
    def full_rank(self) -> bool:
        """Whether the scatter can be inverted without a shift."""
        return len(self.values) == self.d

    def solve(self, B: Tensor, shift: float | Tensor) -> Tensor:
        """`(S + shift I)⁻¹ B` at O(d²) per column.

        Parameters
        ----------
        B : (d, k), in the scatter's row space.
        shift : at least 0, a number or one per column (k,).

        Returns
        -------
        (d, k).
        """
        shift = torch.as_tensor(shift, dtype=B.dtype, device=B.device)
        inside = self.vectors.T @ B
        solved = self.vectors @ (inside / (self.values[:, None] + shift))
        if self.full_rank or bool((shift == 0).any()):
            return solved
        return solved + (B - self.vectors @ inside) / shift  # what lies outside the row space
