"""Text with each token coloured by its relevance."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from shared._checks import as_numbers, check_choice, check_finite, check_range, check_shape
from shared.plots._style import DIVERGING, figure


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
        For relevance of another length than tokens, NaN or infinity, and for a width below one.
    """
    check_range("width", width, 1)
    colors = _shades(tokens, relevance, limit)
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


def token_heatmap_html(
    tokens: Sequence[str],
    relevance: torch.Tensor | np.ndarray,
    *,
    title: str = "",
    limit: float | None = None,
    marked: Sequence[int] = (),
) -> str:
    """The text of `token_heatmap` as HTML that needs nothing else, to show in a notebook or write to a file.

    Parameters
    ----------
    tokens : T strings
        As the tokenizer gives them.
    relevance : (T,)
        Signed; finite. Each token's value stands in its tooltip.
    title : str
        Above the text.
    limit : float, optional
        Magnitude of full colour; by default the largest.
    marked : ints
        Positions with a black frame.

    Returns
    -------
    str
        One `<figure>`; tokens are escaped.

    Raises
    ------
    ValueError
        For relevance of another length than tokens, NaN or infinity.
    """
    values = as_numbers(relevance)
    spans = []
    for position, (token, value, shade) in enumerate(zip(tokens, values, _shades(tokens, relevance, limit))):
        frame = "outline:1px solid #000;" if position in marked else ""
        style = f"background:{mpl.colors.to_hex(shade)};color:#000;{frame}"
        text = html.escape(token.replace("\n", "↵\n"))
        spans.append(f'<span style="{style}" title="{value:.3g}">{text}</span>')
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    return f'<figure>{caption}<p style="font-family:monospace;white-space:pre-wrap">{"".join(spans)}</p></figure>'


def save_token_heatmap(
    path: str | Path,
    tokens: Sequence[str],
    relevance: torch.Tensor | np.ndarray,
    *,
    title: str = "",
    limit: float | None = None,
    marked: Sequence[int] = (),
) -> Path:
    """Write a text heat map to a file.

    Parameters
    ----------
    path : str or Path
        Ends in .html, .png, .svg or .pdf, which says how.
    tokens : T strings
        As the tokenizer gives them.
    relevance : (T,)
        Signed; finite.
    title : str
        Above the text.
    limit : float, optional
        Magnitude of full colour; by default the largest.
    marked : ints
        Positions with a black frame.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For another ending, and as `token_heatmap_html`.
    """
    path = Path(path)
    check_choice("path", path.suffix.lower(), (".html", ".png", ".svg", ".pdf"))
    options = {"title": title, "limit": limit, "marked": marked}
    page = token_heatmap_html(tokens, relevance, **options)
    if path.suffix.lower() == ".html":
        name = html.escape(title or path.stem)
        path.write_text(f'<!doctype html><meta charset="utf-8"><title>{name}</title>{page}\n', encoding="utf-8")
        return path
    lines = 1 + sum(map(len, tokens)) // 80
    fig, (ax,) = figure(height=0.6 + 0.25 * lines)
    token_heatmap(ax, tokens, relevance, **options)
    fig.savefig(path, bbox_inches="tight")
    return path


def _shades(tokens: Sequence[str], relevance: torch.Tensor | np.ndarray, limit: float | None) -> np.ndarray:
    """One colour (T, 4) per token, short of the dark ends, so that the text stays readable."""
    values = as_numbers(relevance)
    check_shape("relevance", values, (len(tokens),))
    check_finite("relevance", values)
    limit = limit or float(np.abs(values).max()) or 1.0
    return mpl.colormaps[DIVERGING](0.5 + 0.37 * np.clip(values / limit, -1, 1))


def _font_size(ax: Axes, width: int) -> float:
    """Points at which `width` monospaced characters, each 0.602 em wide, fill the axes' share of the figure."""
    spec = ax.get_subplotspec()
    share = len(spec.colspan) / spec.get_gridspec().ncols if spec else ax.get_position().width
    return ax.figure.get_figwidth() * share * 72 / (width + 1) / 0.602 * 0.97
