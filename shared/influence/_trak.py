"""TRAK (Park et al. 2023): regression on randomly projected gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared._checks import check_range, wide
from shared.influence._base import Attributor
from shared.influence._classifier import Checkpoint, TrainedClassifier
from shared.influence._gradients import RandomProjection, per_sample_gradients


class TRAK(Attributor):
    """τ(x) = mean_m[φ_m(x)ᵀ (Φ_mᵀΦ_m + λ I)⁻¹ Φ_mᵀ] · diag(mean_m(1 - p_i)).

    φ is the projected gradient of the log-odds of the explained class, Φ (N, k) those of the training points for
    their labels, p_i the probability of the label; the mean is over checkpoints, as in the authors' code.

    Parameters
    ----------
    projection : int
        k; must be at most N, or λ > 0.
    checkpoints : sequence of Checkpoint
        Networks to average over (ideally trained independently); none means the network as it is.
    damping : float
        λ relative to the mean of ΦᵀΦ's diagonal.
    random_state : int
        Seed of the first network's projection; the others count on.
    """

    name = "TRAK"

    def __init__(
        self,
        *,
        projection: int = 512,
        checkpoints: Sequence[Checkpoint] = (),
        damping: float = 0.0,
        random_state: int = 0,
    ) -> None:
        check_range("projection", projection, 1)
        check_range("damping", damping, 0.0)
        self.k = projection
        self.checkpoints = list(checkpoints)
        self.damping = damping
        self.random_state = random_state

    def _fit(self, net: TrainedClassifier) -> None:
        if self.k > len(net) and not self.damping:
            raise ValueError(f"projection={self.k} exceeds the {len(net)} training points; give damping > 0")
        self._nets = [net.at(c) for c in self.checkpoints] or [net]
        self._projections = [
            RandomProjection(self.k, random_state=self.random_state + m) for m in range(len(self._nets))
        ]
        self._kernels: list[Tensor] = []
        self._train: list[Tensor] = []
        doubt = []
        for at, projection in zip(self._nets, self._projections):
            phi = per_sample_gradients(at, at.x, at.y, output="margin", projection=projection)
            gram = phi.T @ phi
            gram.diagonal().add_(self.damping * gram.diagonal().mean())
            self._kernels.append(torch.linalg.solve(wide(gram), wide(phi.T)).to(phi))
            self._train.append(phi)
            doubt.append(1 - at.logits(at.train_features).softmax(1).gather(1, at.y[:, None]).squeeze(1))
        self.doubt_ = torch.stack(doubt).mean(0)

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        scores = [
            per_sample_gradients(at, x, targets, output="margin", projection=projection) @ kernel
            for at, projection, kernel in zip(self._nets, self._projections, self._kernels)
        ]
        return torch.stack(scores).mean(0) * self.doubt_

    def _self_influence(self, net: TrainedClassifier) -> Tensor:
        leverage = [(phi * kernel.T).sum(1) for phi, kernel in zip(self._train, self._kernels)]
        return torch.stack(leverage).mean(0) * self.doubt_
