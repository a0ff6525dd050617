"""Random moves of images before each step, each image by its own draw; plain torch, differentiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from shared._checks import check_range

Transform = Callable[[Tensor, "Generator | None"], Tensor]


def roll_jitter(distance: int) -> Transform:
    """Circular shifts by up to `distance` pixels on both axes (VITAL's: 30 of 224).

    Parameters
    ----------
    distance : int

    Returns
    -------
    Transform
        Images (n, C, H, W) and a generator -> images of the same shape.
    """
    check_range("distance", distance, 0)

    def roll(images: Tensor, generator: Generator | None) -> Tensor:
        n, height, width = len(images), *images.shape[2:]
        shift = torch.randint(-distance, distance + 1, (2, n, 1), generator=generator)
        return _picked(images, (torch.arange(height) - shift[0]) % height, (torch.arange(width) - shift[1]) % width)

    return roll


def pad(margin: int, *, value: float = 0.5) -> Transform:
    """A frame of one brightness.

    Parameters
    ----------
    margin : int
    value : float

    Returns
    -------
    Transform
        The images grow by `2 * margin`.
    """
    check_range("margin", margin, 0)
    return lambda images, generator: F.pad(images, [margin] * 4, value=value)


def random_crop(less: int) -> Transform:
    """A part that is `less` pixels smaller, at a random place.

    Parameters
    ----------
    less : int

    Returns
    -------
    Transform
        The images shrink by `less`.
    """
    check_range("less", less, 0)

    def crop(images: Tensor, generator: Generator | None) -> Tensor:
        n, height, width = len(images), *images.shape[2:]
        check_range("less", less, 0, min(height, width) - 1)
        start = torch.randint(0, less + 1, (2, n, 1), generator=generator)
        return _picked(images, torch.arange(height - less) + start[0], torch.arange(width - less) + start[1])

    return crop


def random_turn(*, scale: float = 0.1, degrees: float = 10.0) -> Transform:
    """Rotated and scaled about the centre; what comes in at the edges repeats the border.

    Parameters
    ----------
    scale : float
        Sizes from 1 − scale to 1 + scale.
    degrees : float
        Angles from −degrees to degrees.

    Returns
    -------
    Transform
        Images keep their size.
    """
    check_range("scale", scale, 0, 0.9)
    check_range("degrees", degrees, 0, 180)

    def turn(images: Tensor, generator: Generator | None) -> Tensor:
        draw = 2 * torch.rand(2, len(images), generator=generator) - 1
        angle, size = torch.deg2rad(degrees * draw[0]), 1 + scale * draw[1]
        cos, sin, zero = angle.cos() / size, angle.sin() / size, torch.zeros(len(images))
        ratio = images.shape[2] / images.shape[3]
        rows = torch.stack([cos, -sin * ratio, zero]), torch.stack([sin / ratio, cos, zero])
        return _sampled(images, torch.stack(rows).permute(2, 0, 1))

    return turn


def random_window(low: float, high: float) -> Transform:
    """A random part, blown up to the whole (MACO's crops).

    Parameters
    ----------
    low, high : float
        The part's side as a share of the image's, drawn between them.

    Returns
    -------
    Transform
        Images keep their size.
    """
    check_range("high", high, 0.01, 1)
    check_range("low", low, 0.01, high)

    def window(images: Tensor, generator: Generator | None) -> Tensor:
        draw = torch.rand(3, len(images), generator=generator)
        side = low + (high - low) * draw[0]
        across, down = ((1 - side) * (2 * d - 1) for d in draw[1:])
        zero = torch.zeros_like(side)
        rows = torch.stack([side, zero, across]), torch.stack([zero, side, down])
        return _sampled(images, torch.stack(rows).permute(2, 0, 1))

    return window


def random_noise(std: float) -> Transform:
    """Normal noise added.

    Parameters
    ----------
    std : float

    Returns
    -------
    Transform
        Images keep their size.
    """
    check_range("std", std, 0)
    return lambda images, generator: (
        images + std * torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    )


def standard_transforms(
    *, margin: int = 12, first: int = 8, scale: float = 0.1, degrees: float = 10.0, last: int = 4, value: float = 0.5
) -> Sequence[Transform]:
    """Padding, jitter, scaling and rotation, jitter (Olah et al. 2017; the defaults suit 224 pixels).

    Parameters
    ----------
    margin, first, last : int
        Pixels of the frame and of both jitters.
    scale, degrees : float
        As `random_turn` takes them.
    value : float
        Of the frame.

    Returns
    -------
    list of Transform
    """
    turn = random_turn(scale=scale, degrees=degrees)
    return [pad(margin, value=value), random_crop(first), turn, random_crop(last)]


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows (n, h) and columns (n, w) of each image."""
    n, channels = images.shape[:2]
    rows, columns = rows.to(images.device), columns.to(images.device)
    tall = images.gather(2, rows[:, None, :, None].expand(n, channels, -1, images.shape[3]))
    return tall.gather(3, columns[:, None, None, :].expand(n, channels, tall.shape[2], -1))


def _sampled(images: Tensor, affine: Tensor) -> Tensor:
    grid = F.affine_grid(affine.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
