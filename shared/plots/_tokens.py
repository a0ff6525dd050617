"""Text with each token coloured by its relevance."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes

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

    tokens : T strings as the tokenizer gives them (their leading blanks are kept); relevance : (T,); `limit` is the
    magnitude of full colour (the largest one unless told); `width` is the number of characters in a line; positions in
    `marked` get a black frame, e.g. the true answer.
    """
    values = np.asarray(torch.as_tensor(relevance).detach().cpu().float(), dtype=float)
    check_shape("relevance", values, (len(tokens),))
    check_finite("relevance", values)
    limit = limit or float(np.abs(values).max()) or 1.0
    colors = mpl.colormaps[DIVERGING](
        0.5 + 0.42 * np.clip(values / limit, -1, 1)
    )  # not to the dark ends: text stays readable
    line, column = 0, 0
    for position, (token, shade) in enumerate(zip(tokens, colors)):
        text = token.replace("\n", "↵")
        if column and column + len(text) > width:
            line, column = line + 1, 0
        style = {
            "facecolor": shade,
            "edgecolor": "black" if position in marked else "none",
            "linewidth": 1.0,
            "pad": 1.2,
        }
        ax.text(column, -line, text, family="monospace", fontsize=8.5, va="center", ha="left", bbox=style)
        column += len(text)
    ax.set(xlim=(-0.5, width + 0.5), ylim=(-line - 0.6, 0.6))
    ax.set_axis_off()
    ax.set_title(title, loc="left")
