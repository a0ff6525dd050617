"""Images and relevance maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from shared._checks import check_finite, check_shape
from shared.plots._style import DIVERGING, WIDTH, figure


def heatmap(
    ax: Axes, relevance: torch.Tensor | np.ndarray, *, limit: float | None = None, title: str = ""
) -> AxesImage:
    """Draw a signed map (H, W), white at zero and symmetric up to `limit` (the largest magnitude unless told)."""
    values = np.asarray(torch.as_tensor(relevance).detach().cpu(), dtype=float)
    if values.ndim != 2:
        raise ValueError(f"relevance has shape {values.shape}; expected (H, W): sum over channels first")
    check_finite("relevance", values)
    limit = limit or float(np.abs(values).max()) or 1.0
    drawn = ax.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit)
    _bare(ax, title)
    return drawn


def overlay(
    ax: Axes, image: torch.Tensor | np.ndarray, relevance: torch.Tensor | np.ndarray, *, title: str = ""
) -> AxesImage:
    """Draw a relevance map (h, w), stretched over the grey version of `image` (3, H, W) in [0, 1]."""
    photo = np.asarray(torch.as_tensor(image).detach().cpu(), dtype=float)
    values = np.asarray(torch.as_tensor(relevance).detach().cpu(), dtype=float)
    for name, value, shape in (("image", photo, ("C", "H", "W")), ("relevance", values, ("h", "w"))):
        check_shape(name, value, shape)
        check_finite(name, value)
    grey = photo.mean(0)
    height, width = grey.shape
    ax.imshow(0.55 + 0.45 * grey, cmap="gray", vmin=0, vmax=1)
    limit = float(np.abs(values).max()) or 1.0
    drawn = ax.imshow(
        values, cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.7, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
    )
    _bare(ax, title)
    return drawn


def image_grid(
    images: torch.Tensor, titles: Sequence[str] = (), *, columns: int = 8, size: float | None = None
) -> Figure:
    """A grid of images (N, C, H, W) in [0, 1], C being 1 or 3, at notebook width."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images has shape {tuple(images.shape)}; expected (N, 1 or 3, H, W)")
    check_finite("images", images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    fig, axes = figure(rows, columns, height=size or WIDTH / columns + (0.25 if titles else 0))
    for ax in axes:
        ax.axis("off")
    for ax, image, title in zip(axes, images, [*titles, *[""] * len(images)]):
        ax.imshow(image.detach().cpu().permute(1, 2, 0).squeeze(-1).clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        _bare(ax, title)
    return fig


def _bare(ax: Axes, title: str) -> None:
    ax.set_axis_off()
    ax.set_title(title, fontsize=9, fontweight="normal", loc="center")
