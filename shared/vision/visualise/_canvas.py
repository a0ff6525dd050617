"""What is optimised: pixels, a Fourier spectrum, or its phases only; all give images in [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from shared._checks import check_array, check_range

# Columns: how much each of three uncorrelated directions adds to red, green and blue in natural images (Olah et al.
# 2017, "Feature visualization"; the numbers are those that lucid and lucent print).
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))


class Canvas(nn.Module):
    """Images (n, C, H, W) as a function of its parameters; `project` brings these back where they may be."""

    def project(self) -> None:
        """After each step; most canvases are in [0, 1] by themselves."""


class PixelCanvas(Canvas):
    """The pixels themselves, clipped to [0, 1] after each step (VITAL's).

    Parameters
    ----------
    n : int
        Images.
    shape : (int, int, int)
        Channels, height, width.
    start : Tensor, shape (n, C, H, W), optional
        Where to begin; else noise.
    level, std : float
        Mean and standard deviation of that noise.
    generator : torch.Generator, optional
    """

    def __init__(
        self,
        n: int,
        shape: tuple[int, int, int],
        *,
        start: Tensor | None = None,
        level: float = 0.5,
        std: float = 0.1,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        _check_size(n, shape)
        if start is not None:
            check_array("start", start, (n, *shape))
        noise = level + std * torch.randn(n, *shape, generator=generator) if start is None else start.detach().clone()
        self.pixels = nn.Parameter(noise)
        self.project()

    def forward(self) -> Tensor:
        return self.pixels

    def project(self) -> None:
        with torch.no_grad():
            self.pixels.clamp_(0, 1)


class FourierCanvas(Canvas):
    """A complex spectrum, scaled by 1/frequency and passed through a sigmoid (Olah et al. 2017).

    Images of three channels are mixed so that the spectrum's channels are uncorrelated directions of natural colours.

    Parameters
    ----------
    n : int
        Images.
    shape : (int, int, int)
        Channels, height, width.
    std : float
        Of the spectrum at the start.
    decay : float
        Power of the frequency.
    level : float
        Brightness of an empty spectrum, between 0 and 1.
    generator : torch.Generator, optional
    """

    def __init__(
        self,
        n: int,
        shape: tuple[int, int, int],
        *,
        std: float = 0.01,
        decay: float = 1.0,
        level: float = 0.5,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        _check_size(n, shape)
        channels, height, width = shape
        self.shape, self.offset = (height, width), _logit(level)
        start = std * torch.randn(n, channels, height, width // 2 + 1, 2, generator=generator)
        self.spectrum = nn.Parameter(start)
        frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :])
        self.register_buffer("scale", frequency.clamp(min=1 / max(height, width)) ** -decay)

    def forward(self) -> Tensor:
        scaled = torch.view_as_complex(self.spectrum) * self.scale
        flat = torch.fft.irfft2(scaled, s=self.shape, norm="ortho") / 4  # lucid's factor
        return torch.sigmoid(_coloured(flat) + self.offset)


class MacoCanvas(Canvas):
    """Phases only; magnitudes stay those of real images (MACO; Fel et al. 2023, "Unlocking feature visualization").

    Parameters
    ----------
    n : int
        Images.
    magnitudes : Tensor, shape (C, H, W // 2 + 1)
        `mean_spectrum` of real images.
    width : int
        W, which the magnitudes leave open by one.
    level, contrast : float
        Brightness, and the standard deviation before the sigmoid.
    generator : torch.Generator, optional
    """

    def __init__(
        self,
        n: int,
        magnitudes: Tensor,
        width: int,
        *,
        level: float = 0.5,
        contrast: float = 1.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_range("n", n, 1)
        check_array("magnitudes", magnitudes, ("C", "H", width // 2 + 1))
        self.shape, self.offset, self.contrast = (magnitudes.shape[1], width), _logit(level), contrast
        self.register_buffer("magnitudes", magnitudes.detach().clone())
        turns = torch.rand(n, *magnitudes.shape, generator=generator)
        self.phase = nn.Parameter(2 * math.pi * turns - math.pi)

    def forward(self) -> Tensor:
        flat = torch.fft.irfft2(torch.polar(self.magnitudes.expand_as(self.phase), self.phase), s=self.shape)
        std, mean = torch.std_mean(flat, (1, 2, 3), keepdim=True)
        return torch.sigmoid(self.contrast * _coloured((flat - mean) / (std + 1e-4)) + self.offset)


def mean_spectrum(images: Tensor) -> Tensor:
    """Mean magnitude of the two-dimensional Fourier transform.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)

    Returns
    -------
    Tensor, shape (C, H, W // 2 + 1)
    """
    check_array("images", images, ("B", "C", "H", "W"))
    return torch.fft.rfft2(images).abs().mean(0)


def _coloured(flat: Tensor) -> Tensor:
    if flat.shape[1] != 3:
        return flat
    mix = flat.new_tensor(_COLOURS)
    return torch.einsum("rc,nchw->nrhw", mix / mix.norm(dim=0).max(), flat)


def _logit(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} is out of range; accepted: between 0 and 1, both excluded")
    return math.log(level / (1 - level))


def _check_size(n: int, shape: tuple[int, int, int]) -> None:
    check_range("n", n, 1)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)!r} must be three sizes of at least 1: channels, height, width")
