"""Generalised Gauss-Newton curvature of the training loss, for the head in closed form and for all parameters.

G = (1/N) Σ_i J_iᵀ (diag p_i - p_i p_iᵀ) J_i, the Hessian of the mean cross-entropy where the logits are linear in the
parameters (so exactly it for the head), and positive semi-definite everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from shared.influence._classifier import TrainedClassifier
from shared.influence._functional import TrainableLogits
from shared.influence._gradients import per_sample_gradients
from shared.influence._outputs import output_gradient

_CHUNK = 2**24  # numbers that an intermediate may hold


class Curvature(Protocol):
    """Gradients and curvature in one choice of P parameters, flattened."""

    size: int

    def matvec(self, V: Tensor, rows: Tensor | None = None) -> Tensor:
        """G v for rows of V (T, P), over all training points or those in `rows`."""

    def test(self, x: Tensor, features: Tensor, targets: Tensor, output: str) -> Tensor:
        """Gradients of the explained output, (T, P)."""

    def train(self) -> Tensor:
        """Gradients of each training point's log-probability, (N, P)."""

    def train_dot(self, V: Tensor) -> Tensor:
        """Their inner products with rows of V (T, P): (T, N)."""


class HeadCurvature:
    """Of the last layer's weights (K, D), D counting the bias."""

    def __init__(self, net: TrainedClassifier) -> None:
        self.net = net
        self.F = net.augmented(net.train_features)
        logits = net.logits(net.train_features)
        self.p, self.r = logits.softmax(1), output_gradient(logits, net.y, "logp")
        self.shape = logits.shape[1], self.F.shape[1]
        self.size = self.shape[0] * self.shape[1]

    def matvec(self, V: Tensor, rows: Tensor | None = None) -> Tensor:
        F, p = (self.F, self.p) if rows is None else (self.F[rows], self.p[rows])
        out = torch.empty_like(V)
        step = max(1, _CHUNK // (len(F) * self.shape[0]))
        for part, into in zip(V.split(step), out.split(step)):
            U = torch.einsum("tkd,nd->tnk", part.view(-1, *self.shape), F) * p
            U = U - p * U.sum(-1, keepdim=True)
            into.copy_(torch.einsum("tnk,nd->tkd", U, F).flatten(1) / len(F))
        return out

    def dense(self) -> Tensor:
        """G as a matrix (P, P)."""
        K, D = self.shape
        G = self.F.new_zeros(K * K, D * D)
        for F, p in zip(self.F.split(4096), self.p.split(4096)):
            weights = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
            G += weights.flatten(1).T @ (F[:, :, None] * F[:, None, :]).flatten(1)
        return G.view(K, K, D, D).permute(0, 2, 1, 3).reshape(K * D, K * D) / len(self.F)

    def test(self, x: Tensor, features: Tensor, targets: Tensor, output: str) -> Tensor:
        z = output_gradient(self.net.logits(features), targets, output)
        return (z[:, :, None] * self.net.augmented(features)[:, None, :]).flatten(1)

    def train(self) -> Tensor:
        return (self.r[:, :, None] * self.F[:, None, :]).flatten(1)

    def train_dot(self, V: Tensor) -> Tensor:
        step = max(1, _CHUNK // (len(self.F) * self.shape[0]))
        parts = [
            (torch.einsum("tkd,nd->tnk", part.view(-1, *self.shape), self.F) * self.r).sum(-1) for part in V.split(step)
        ]
        return torch.cat(parts)


class FullCurvature:
    """Of all trainable parameters, by forward- and reverse-mode products: two passes over the data each, no matrix."""

    def __init__(self, net: TrainedClassifier) -> None:
        self.net = net
        self.function = TrainableLogits(net)
        self.parameters = self.function.parameters
        self.size = self.function.size
        self.p = net.logits(net.train_features).softmax(1)

    def _batches(self, rows: Tensor | None) -> list[Tensor]:
        rows = torch.arange(len(self.net), device=self.p.device) if rows is None else rows
        return list(rows.split(self.net.batch_size))

    def _run(self, rows: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
        x = self.net.placed(self.net.x[rows.to(self.net.x.device)])
        return lambda parameters: self.function(parameters, x)

    def matvec(self, V: Tensor, rows: Tensor | None = None) -> Tensor:
        out = torch.zeros_like(V)
        batches = self._batches(rows)
        for batch in batches:
            run, p = self._run(batch), self.p[batch]
            _, back = torch.func.vjp(run, self.parameters)
            for v, into in zip(V, out):
                _, U = torch.func.jvp(run, (self.parameters,), (self.function.split(v),))
                U = p * (U - (p * U).sum(1, keepdim=True))
                into += torch.cat([g.flatten() for g in back(U)[0].values()])
        return out / sum(map(len, batches))

    def dense(self) -> Tensor:
        """G as a matrix (P, P), one product per parameter."""
        return self.matvec(torch.eye(self.size, dtype=self.p.dtype, device=self.p.device))

    def test(self, x: Tensor, features: Tensor, targets: Tensor, output: str) -> Tensor:
        return per_sample_gradients(self.net, x, targets, output=output)

    def train(self) -> Tensor:
        return per_sample_gradients(self.net, self.net.x, self.net.y)

    def train_dot(self, V: Tensor) -> Tensor:
        r = torch.nn.functional.one_hot(self.net.y, self.net.n_classes).to(self.p) - self.p
        out = V.new_empty(len(V), len(self.net))
        for batch in self._batches(None):
            run = self._run(batch)
            for v, into in zip(V, out):
                _, U = torch.func.jvp(run, (self.parameters,), (self.function.split(v),))
                into[batch] = (r[batch] * U).sum(1)
        return out
