"""Graphs of a transformer's edges."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from shared._checks import check_range
from shared.plots._style import COLORS, GREYS

_PART = re.compile(r"(input|logits)|a(\d+)(?:\.h(\d+))?(?:<[qkv]>)?|m(\d+)")
_STEPS = np.linspace(0, 1, 25)


def stream_edges(
    ax: Axes,
    edges: Sequence[str] | Mapping[str, float],
    *,
    n_layers: int,
    n_heads: int,
    color: str = COLORS[0],
) -> Axes:
    """Draw edges between the parts of a transformer, from the input on the left to the logits on the right.

    A block is a column of heads (H0 on top) and its MLP; where all heads of a block share one reader, an edge into it
    ends at the bar in front of them.

    Parameters
    ----------
    ax : where to draw.
    edges : names as "a0.h1->m2" (`Circuit.edges()`), or a mapping of them to weights, by which lines get their width.
    n_layers : blocks.
    n_heads : heads of each.
    color : of the edges.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        A name of a part that a transformer of this size doesn't have.
    """
    check_range("n_layers", n_layers, 1)
    check_range("n_heads", n_heads, 1)
    pairs = [_ends(name, n_layers, n_heads) for name in edges]
    weights = np.abs(list(edges.values())) if isinstance(edges, Mapping) else np.ones(len(pairs))
    widths = 0.5 + 2.0 * weights / max(weights.max(initial=0.0), 1e-12) if isinstance(edges, Mapping) else 1.1
    ax.add_collection(
        LineCollection([_curve(*pair) for pair in pairs], colors=color, linewidths=widths, alpha=0.55, zorder=1)
    )
    _draw_parts(ax, n_layers, n_heads)
    ax.set(xlim=(-0.8, 2 * n_layers + 1.9), ylim=(n_heads + 0.2, -0.9))
    ax.axis("off")
    return ax


def _ends(name: str, n_layers: int, n_heads: int) -> tuple[tuple[float, float], tuple[float, float]]:
    first, arrow, last = name.partition("->")
    if not arrow:
        raise ValueError(f"edges has {name!r}; expected 'source->receiver'")
    return _place(name, first, n_layers, n_heads), _place(name, last, n_layers, n_heads)


def _place(edge: str, part: str, n_layers: int, n_heads: int) -> tuple[float, float]:
    """Where a part is drawn: attention of block l at 2 l + 1, its MLP at 2 l + 2."""
    middle = (n_heads - 1) / 2
    if not (found := _PART.fullmatch(part)):
        raise ValueError(f"edges has {edge!r}: {part!r} is no part; accepted: input, a0.h0, a0, m0, logits and so on")
    ends, attention, head, mlp = found.groups()
    layer = int(attention or mlp or 0)
    if layer >= n_layers or int(head or 0) >= n_heads:
        raise ValueError(f"edges has {edge!r}, beyond n_layers={n_layers} or n_heads={n_heads}")
    if ends:
        return (0.0, middle) if ends == "input" else (2 * n_layers + 1.0, middle)
    if mlp:
        return 2 * layer + 2.0, float(n_heads - 0.1)
    return (2 * layer + 0.62, middle) if head is None else (2 * layer + 1.0, float(head))


def _curve(start: tuple[float, float], stop: tuple[float, float]) -> np.ndarray:
    """An S-shaped line; a long one is bent upwards, so that level ones of different lengths lie apart."""
    eased = 3 * _STEPS**2 - 2 * _STEPS**3
    bow = 0.4 * max(stop[0] - start[0] - 1, 0) * _STEPS * (1 - _STEPS)
    return np.column_stack([start[0] + (stop[0] - start[0]) * _STEPS, start[1] + (stop[1] - start[1]) * eased - bow])


def _draw_parts(ax: Axes, n_layers: int, n_heads: int) -> None:
    box = {"boxstyle": "round,pad=0.22", "facecolor": "white", "edgecolor": GREYS["edge"]}
    middle = (n_heads - 1) / 2
    names = {(0, middle): "input", (2 * n_layers + 1, middle): "logits"}
    for layer in range(n_layers):
        names |= {(2 * layer + 1, head): f"H{head}" for head in range(n_heads)}
        names[2 * layer + 2, n_heads - 0.1] = "MLP"
        bar = mpl.lines.Line2D([2 * layer + 0.62] * 2, [-0.35, n_heads - 0.65], color=GREYS["edge"], linewidth=2.5)
        ax.add_line(bar)
        ax.text(2 * layer + 1.2, -0.65, f"block {layer}", ha="center", fontsize=8, color=GREYS["text"])
    for (x, y), name in names.items():
        ax.text(x, y, name, ha="center", va="center", fontsize=7.5, bbox=box, zorder=3)
