"""What decides the outcome of a training run, and the schedules that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared._checks import check_range


def default_lr(d_sae: int) -> float:
    """`2e-4 / sqrt(d_sae / 2**14)` (Gao et al. 2024, figure 3); small dictionaries (≤ 512) also bear 1e-3 to 3e-3.

    Parameters
    ----------
    d_sae : int
        Number of latents.

    Returns
    -------
    float
        Peak learning rate.
    """
    return 2e-4 / math.sqrt(d_sae / 2**14)


@dataclass(frozen=True)
class Settings:
    """Everything of `fit` that changes what comes out; a checkpoint is only resumed under the same. Named as there."""

    steps: int
    lr: float
    betas: tuple[float, float]
    warmup: float
    decay: float
    clip: float
    sparsity_warmup: float
    dead_after: int | None
    resample_every: int | None
    threshold_beta: float | None
    threshold_start: int | None

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        for name in ("warmup", "decay", "sparsity_warmup"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        if self.resample_every is not None:
            check_range("resample_every", self.resample_every, 2)
        if not 0 < self.lr < math.inf or not self.clip > 0:
            raise ValueError(f"lr={self.lr!r} and clip={self.clip!r} must be positive and lr finite")
        if self.threshold_start is None:
            object.__setattr__(self, "threshold_start", min(1000, self.steps // 5))
        if self.threshold_beta is None:
            long = self.steps - self.threshold_start >= 3000
            object.__setattr__(self, "threshold_beta", 0.999 if long else 0.99)
        check_range("threshold_beta", self.threshold_beta, 0.0, 1.0)

    def lr_at(self, step: int) -> float:
        """Linear from 0 over the first `warmup` share of steps, linear to 0 over the last `decay` share."""
        up = (step + 1) / max(1.0, self.warmup * self.steps)
        down = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.lr * min(1.0, up, down)

    def sparsity_at(self, step: int) -> float:
        """Factor of the L1 or L0 term: linear from 0 over the first `sparsity_warmup` share of steps."""
        return min(1.0, (step + 1) / max(1.0, self.sparsity_warmup * self.steps))

    def silence(self, rows: int) -> int:
        """Samples without firing after which a latent is dead, for batches of so many rows."""
        if self.dead_after is not None:
            return self.dead_after
        return min(10_000_000, max(rows, self.steps * rows // 8))

    def resamples_after(self, step: int) -> bool:
        """Whether silent latents start anew after this step."""
        done = step + 1
        return bool(self.resample_every) and done % self.resample_every == 0 and done < self.steps
