"""Colours, fonts and sizes. Figures are drawn for a notebook's width: 8 inches."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared._checks import check_range

WIDTH = 8.0  # inches

# Okabe and Ito's palette, distinguishable with every common colour blindness; the method under study comes first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#6B6B6B")
_MORE = ("#000000", "#8C6D00", "#4B7F52", "#A0522D", "#88CCEE", "#AA4499", "#DDCC77", "#332288")  # for many groups
NULL = "#9A9A9A"  # random baselines, controls, reference lines
GREYS = {"fill": "#F4F6F8", "frame": "#D5D5D5", "grid": "#D2D7DC", "edge": "#B5B5B5", "text": "#666666"}  # backgrounds
DIVERGING = "RdBu_r"  # signed relevance: red for, blue against, white for none
SEQUENTIAL = "viridis"  # quantities that start at zero

_STYLE = {
    "figure.dpi": 80,  # inline pictures stay light; saved files have their own dpi
    "figure.constrained_layout.use": True,
    "savefig.bbox": "tight",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
    "svg.hashsalt": "reprise",  # same drawing, same bytes
    "svg.fonttype": "none",
    "axes.prop_cycle": mpl.cycler(color=COLORS),
}


def use_style() -> None:
    """Apply the style to matplotlib; importing `shared.plots` does it."""
    mpl.rcParams.update(_STYLE)


def figure(*shape: int, height: float = 2.8, width: float = WIDTH, **options) -> tuple[Figure, np.ndarray]:
    """A figure at notebook width, outside pyplot's list: a notebook shows it once, where a cell returns it.

    Parameters
    ----------
    *shape : int
        Rows and columns of axes; 1 for what is left out.
    height : float
        Inches per row.
    width : float
        Inches of the whole.
    **options
        Go to `plt.subplots`.

    Returns
    -------
    Figure, (rows · columns,) array of Axes
        The axes along rows.

    Raises
    ------
    ValueError
        For more than two numbers, or one below 1.
    """
    if len(shape) > 2 or any(size < 1 for size in shape):
        raise ValueError(f"shape={shape} must be at most two numbers, rows and columns of axes")
    rows, columns = (*shape, 1, 1)[:2]
    fig, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, **options)
    plt.close(fig)
    return fig, axes.ravel()


def color(index: int) -> str:
    """A colour of the palette.

    Parameters
    ----------
    index : int
        Its number in `COLORS`, from the start again beyond the end.

    Returns
    -------
    str
        As #RRGGBB.
    """
    return COLORS[index % len(COLORS)]


def palette(count: int) -> list[str]:
    """Colours for many groups: `COLORS`, then darker ones for up to sixteen, then from the start again.

    Parameters
    ----------
    count : int
        How many; at least 1.

    Returns
    -------
    list of str
        As #RRGGBB.

    Raises
    ------
    ValueError
        For count below 1.
    """
    check_range("count", count, 1)
    colors = [*COLORS, *_MORE]
    return [colors[i % len(colors)] for i in range(count)]


def label_panels(axes: Iterable[Axes]) -> None:
    """Put a, b, c, … at the upper left of the axes, for text that refers to panels.

    Parameters
    ----------
    axes : Axes, up to 26 of them
        In the order of the letters.
    """
    for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes):
        ax.annotate(
            letter,
            (0, 1),
            xytext=(-28, 6),
            xycoords="axes fraction",
            textcoords="offset points",
            weight="bold",
            fontsize=12,
        )
