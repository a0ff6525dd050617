"""Images and relevance maps."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from shared._checks import as_numbers, check_finite, check_shape
from shared.plots._style import DIVERGING


def heatmap(
    ax: Axes, relevance: torch.Tensor | np.ndarray, *, limit: float | None = None, title: str = ""
) -> AxesImage:
    """Draw a signed map, white at zero and symmetric.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    relevance : (H, W)
        Finite; of maps with channels pass the sum over these.
    limit : float, optional
        Magnitude of full colour; by default the largest.
    title : str
        Above the map.

    Returns
    -------
    AxesImage
        For a colour bar.

    Raises
    ------
    ValueError
        For another number of axes, NaN or infinity.
    """
    values = as_numbers(relevance)
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
    """Draw a relevance map, stretched over the grey version of an image.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    image : (C, H, W)
        In [0, 1].
    relevance : (h, w)
        Signed, of any resolution.
    title : str
        Above the image.

    Returns
    -------
    AxesImage
        That of the map, for a colour bar.

    Raises
    ------
    ValueError
        For another number of axes, NaN or infinity.
    """
    photo = as_numbers(image)
    values = as_numbers(relevance)
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


def _bare(ax: Axes, title: str) -> None:
    ax.set_axis_off()
    ax.set_title(title, fontsize=9, fontweight="normal", loc="center")
