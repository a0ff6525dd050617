"""Removing features without leaving the data: a kernel density whose conditional samples fill the gaps.

Bley et al. 2024 (arXiv 2401.17441) evaluate explanations of uncertainty this way; the bandwidth is that of
Leiva-Murillo and Artés-Rodríguez 2012, "Algorithms for maximum-likelihood bandwidth selection in kernel density
estimators".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log, pi

import torch
from torch import Tensor

from shared._checks import check_array, check_range, check_shape, wide
from shared.metrics._batches import at_once


class KernelDensity:
    """Gaussian kernel density of the rows of data: `p(x) = mean_n N(x; data_n, 1 / (2 s) I)`, in float64.

    Parameters
    ----------
    data : (N, D) float
        At least two rows; computation is on their device.
    scale : float, optional
        s; by default the one that maximises the leave-one-out likelihood.
    batch_size : int, optional
        Rows compared with the data at once, here and in every call: memory grows with it times N. All by default.

    Attributes
    ----------
    data : (N, D) float64
        The rows.
    scale : float
        s.
    """

    def __init__(self, data: Tensor, *, scale: float | None = None, batch_size: int | None = None) -> None:
        check_array("data", data, ("N", "D"))
        if len(data) < 2:
            raise ValueError(f"data has {len(data)} row; a density needs at least 2")
        self.data = wide(data.detach())
        self.batch_size = batch_size
        at_once(batch_size, len(data))
        if scale is not None:
            check_range("scale", scale, torch.finfo(torch.float64).tiny)
        self.scale = float(scale) if scale is not None else self._best_scale()

    def log_density(self, x: Tensor) -> Tensor:
        """Log of the density, in nats.

        Parameters
        ----------
        x : (B, D) float
            Finite.

        Returns
        -------
        (B,) float64
            log p(x).

        Raises
        ------
        ValueError
            For another width, NaN or infinity.
        """
        check_array("x", x, ("B", self.data.shape[1]))
        n, width = self.data.shape
        rows = x.detach().to(self.data)
        sums = [
            torch.logsumexp(-self.scale * torch.cdist(part, self.data).square(), 1)
            for part in rows.split(at_once(self.batch_size, len(rows)))
        ]
        return torch.cat(sums) - log(n) + width / 2 * log(self.scale / pi)

    def sample_missing(
        self, x: Tensor, missing: Tensor, *, n: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws of the missing features given the others, which stay as they are.

        A row of the data is picked with probability `~ exp(-s |x_kept - data_kept|^2)`, its missing features are copied
        and Gaussian noise of variance 1 / (2 s) is added: exactly a sample of the conditional density.

        Parameters
        ----------
        x : (B, D) float
            Finite.
        missing : (B, D) bool
            What is drawn.
        n : int
            Draws per row.
        generator : torch.Generator, optional
            On the data's device; torch's own by default. The draws don't depend on `batch_size`.

        Returns
        -------
        (n, B, D) Tensor
            In x's dtype.

        Raises
        ------
        ValueError
            For shapes that don't fit, NaN or infinity.
        """
        check_array("x", x, ("B", self.data.shape[1]))
        check_shape("missing", missing, tuple(x.shape))
        check_range("n", n, 1)
        given = x.detach().to(self.data)
        options = {"generator": generator, "dtype": given.dtype, "device": given.device}
        uniform = torch.rand(len(given), n, **options)
        noise = torch.randn(n, *given.shape, **options)
        size = at_once(self.batch_size, len(given))
        parts = zip(given.split(size), missing.split(size), uniform.split(size))
        chosen = torch.cat([self._pick(*part) for part in parts])
        draws = self.data[chosen.T] + noise * (2 * self.scale) ** -0.5
        return torch.where(missing, draws, given).to(x.dtype)

    def inpaint(self, *, n: int = 50, generator: torch.Generator | None = None) -> Callable[[Tensor, Tensor], Tensor]:
        """A `baseline` for `perturbation_curve` whose draws begin anew at each call.

        So two explanations that have removed the same features are given the same draws.

        Parameters
        ----------
        n : int
            Draws per row.
        generator : torch.Generator, optional
            Its initial seed is that of the draws; 0 by default.

        Returns
        -------
        callable
            (inputs (B, D), removed (B, D) bool) -> (n, B, D).

        Raises
        ------
        ValueError
            For n below 1.
        """
        check_range("n", n, 1)
        seed = 0 if generator is None else generator.initial_seed()

        def draw(inputs: Tensor, removed: Tensor) -> Tensor:
            anew = torch.Generator(self.data.device).manual_seed(seed)
            return self.sample_missing(inputs, removed, n=n, generator=anew)

        return draw

    def _pick(self, given: Tensor, missing: Tensor, uniform: Tensor) -> Tensor:
        """Rows of the data (b, n) by the inverse of their distribution function."""
        kept = (~missing).to(self.data)
        # |x - data|^2 over the kept features, without a (b, N, D) array
        cross = (kept * given) @ self.data.T
        distances = (kept * given.square()).sum(1, keepdim=True) - 2 * cross + kept @ self.data.square().T
        reached = torch.softmax(-self.scale * distances, 1).cumsum(1)
        return torch.searchsorted(reached / reached[:, -1:], uniform).clamp(max=len(self.data) - 1)

    def _best_scale(self, tolerance: float = 1e-6, max_iter: int = 200) -> float:
        """Fixed point of `1 / (2 s) = mean over rows of E_w |x - data|^2 / D`, w the weights of the other rows."""
        n, width = self.data.shape
        size = at_once(self.batch_size, n)
        whole = [self._others(0, n)] if size >= n else None  # else they are computed anew in each step

        def parts() -> Iterable[tuple[Tensor, Tensor]]:
            return whole or (self._others(start, size) for start in range(0, n, size))

        total = sum(squares.sum() for _, squares in parts())
        scale = n * (n - 1) / total.clamp(min=torch.finfo(torch.float64).tiny)
        for _ in range(max_iter):
            spread = torch.zeros_like(total)
            for apart, squares in parts():
                spread += (torch.softmax(-scale * apart, 1) * squares).sum()
            variance = spread / (n * width)
            if not float(variance) > 0:
                raise ValueError("data holds every row more than once, so no bandwidth is best; pass scale=")
            before, scale = scale, 1 / (2 * variance)
            if abs(float(scale / before) - 1) < tolerance:
                break
        return float(scale)

    def _others(self, start: int, size: int) -> tuple[Tensor, Tensor]:
        """Squared distances (b, N) of some rows to all, to themselves infinite in the first and 0 in the second."""
        squares = torch.cdist(self.data[start : start + size], self.data).square()
        squares.diagonal(start).zero_()
        apart = squares.clone()
        apart.diagonal(start).fill_(torch.inf)
        return apart, squares
