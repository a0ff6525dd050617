"""Removing features without leaving the data: a kernel density whose conditional samples fill the gaps.

Bley et al. 2024 (arXiv 2401.17441) evaluate explanations of uncertainty this way; the bandwidth is that of
Leiva-Murillo and Artés-Rodríguez 2012, "Algorithms for maximum-likelihood bandwidth selection in kernel density
estimators".
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import torch
from torch import Tensor

from shared._checks import check_finite, check_range, check_shape


class KernelDensity:
    """Gaussian kernel density of the rows of `data` `(N, D)`: `p(x) = mean_n N(x; data_n, 1 / (2 s) I)`.

    Attributes:
        scale: s, by default the one that maximises the leave-one-out likelihood. Computation is in float64, on the
            device of the data.
    """

    def __init__(self, data: Tensor, scale: float | None = None) -> None:
        check_shape("data", data, ("N", "D"))
        check_finite("data", data)
        if len(data) < 2:
            raise ValueError(f"data has {len(data)} row; a density needs at least 2")
        self.data = data.detach().double()
        if scale is not None:
            check_range("scale", scale, torch.finfo(torch.float64).tiny)
        self.scale = float(scale) if scale is not None else self._best_scale()

    def log_density(self, x: Tensor) -> Tensor:
        """log p `(B,)` of rows `(B, D)`, in nats."""
        check_shape("x", x, ("B", self.data.shape[1]))
        n, width = self.data.shape
        distances = torch.cdist(x.to(self.data), self.data).square()
        return torch.logsumexp(-self.scale * distances, 1) - log(n) + width / 2 * log(self.scale / pi)

    def sample_missing(
        self, x: Tensor, missing: Tensor, n: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws `(n, B, D)` of the `missing` features (bool `(B, D)`) given the others, which stay as they are.

        A row of the data is picked with probability `~ exp(-s |x_kept - data_kept|^2)`, its missing features are copied
        and Gaussian noise of variance 1 / (2 s) is added: exactly a sample of the conditional density.
        """
        check_shape("x", x, ("B", self.data.shape[1]))
        check_shape("missing", missing, tuple(x.shape))
        check_finite("x", x)
        check_range("n", n, 1)
        given = x.detach().to(self.data)
        kept = (~missing).to(self.data)
        # |x - data|^2 over the kept features, without a (B, N, D) array
        cross = (kept * given) @ self.data.T
        distances = (kept * given.square()).sum(1, keepdim=True) - 2 * cross + kept @ self.data.square().T
        chosen = torch.softmax(-self.scale * distances, 1).multinomial(n, replacement=True, generator=generator)
        noise = torch.randn(n, *given.shape, generator=generator, dtype=given.dtype, device=given.device)
        draws = self.data[chosen.T] + noise * (2 * self.scale) ** -0.5
        return torch.where(missing, draws, given).to(x.dtype)

    def inpaint(self, n: int = 50, seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
        """A `baseline` for `perturbation_curve` that draws `n` replacements, by a generator seeded anew at each call.

        So two explanations that have removed the same features are given the same draws.
        """
        check_range("n", n, 1)

        def draw(inputs: Tensor, removed: Tensor) -> Tensor:
            generator = torch.Generator(self.data.device).manual_seed(seed)
            return self.sample_missing(inputs, removed, n, generator)

        return draw

    def _best_scale(self, tolerance: float = 1e-6, max_iter: int = 200) -> float:
        """Fixed point of `1 / (2 s) = mean over rows of E_w |x - data|^2 / D`, w the weights of the other rows."""
        n, width = self.data.shape
        distances = torch.cdist(self.data, self.data).square().fill_diagonal_(torch.inf)
        others = distances.masked_fill(torch.isinf(distances), 0.0)
        scale = n * (n - 1) / others.sum().clamp(min=torch.finfo(torch.float64).tiny)
        for _ in range(max_iter):
            weights = torch.softmax(-scale * distances, 1)
            variance = (weights * others).sum() / (n * width)
            if not float(variance) > 0:
                raise ValueError("data holds every row more than once, so no bandwidth is best; pass scale=")
            before, scale = scale, 1 / (2 * variance)
            if abs(float(scale / before) - 1) < tolerance:
                break
        return float(scale)
