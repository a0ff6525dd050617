"""Text with each token coloured by its relevance."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from shared._checks import check_finite, check_shape
from shared.plots._style import DIVERGING


def token_heatmap(
    ax: Axes,
    tokens: Sequence[str],
    relevance: torch.Tensor | np.ndarray,
    *,
    title: str = "",
    limit: float | None = None,
    width: int = 88,
    marked: Sequence[int] = (),
) -> None:
    """Write tokens as running text, each on a ground of its relevance's colour (red for, blue against the output).

    Parameters
    ----------
    ax : Axes
        Where to write.
    tokens : T strings
        As the tokenizer gives them; their leading blanks are kept.
    relevance : (T,)
        Signed; finite.
    title : str
        Above the text.
    limit : float, optional
        Magnitude of full colour; by default the largest.
    width : int
        Characters in a line.
    marked : ints
        Positions with a black frame, e.g. the true answer.

    Raises
    ------
    ValueError
        For relevance of another length than tokens, NaN or infinity.
    """
    values = np.asarray(torch.as_tensor(relevance).detach().cpu().float(), dtype=float)
    check_shape("relevance", values, (len(tokens),))
    check_finite("relevance", values)
    limit = limit or float(np.abs(values).max()) or 1.0
    colors = mpl.colormaps[DIVERGING](
        0.5 + 0.37 * np.clip(values / limit, -1, 1)
    )  # not to the dark ends: text stays readable
    size = _font_size(ax, width)
    line, column = 0, 0
    for position, (token, shade) in enumerate(zip(tokens, colors)):
        text = token.replace("\n", "↵")
        if column and column + len(text) > width:
            line, column = line + 1, 0
        edge = "black" if position in marked else "none"
        ax.add_patch(
            Rectangle(
                (column, -line - 0.4), len(text), 0.8, facecolor=shade, edgecolor=edge, zorder=1 + (edge == "black")
            )
        )
        ax.text(
            column, -line, text, family="monospace", fontsize=size, va="center", ha="left", parse_math=False, zorder=3
        )
        column += len(text)
    ax.set(xlim=(-0.5, width + 0.5), ylim=(-line - 0.6, 0.6))
    ax.set_axis_off()
    ax.set_title(title, loc="left")


def _font_size(ax: Axes, width: int) -> float:
    """Points at which `width` monospaced characters, each 0.602 em wide, fill the axes' share of the figure."""
    spec = ax.get_subplotspec()
    share = len(spec.colspan) / spec.get_gridspec().ncols if spec else ax.get_position().width
    return ax.figure.get_figwidth() * share * 72 / (width + 1) / 0.602 * 0.97
