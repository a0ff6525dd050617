"""Patterns as a picture: how often each goes with label 0, against the base rate."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from shared.plots import COLORS, NULL

TOWARDS = (COLORS[1], COLORS[0])  # label 0, label 1


def draw_patterns(
    ax: Axes,
    texts: Sequence[str],
    supports: Sequence[tuple[int, int]],
    n_label: tuple[int, int],
    *,
    groups: tuple[str, str] = ("label 0", "label 1"),
    by_rate: bool = False,
    width: int = 34,
    **options: Any,
) -> None:
    """One bar per pattern: the share of label 0 among its rows, coloured by direction, with its counts beside it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn into; its x axis goes from 0 to 1.
    texts : sequence of str
        A line per pattern, wrapped.
    supports : sequence of (int, int)
        Rows per label of each pattern.
    n_label : (int, int)
        All rows per label; the dashed line is the share of label 0 among them.
    groups : (str, str)
        Names of the labels, over the counts.
    by_rate : bool
        Draw the share of the two rates n_X^l / n_l instead, so that 0.5 is the line whatever the sizes of the groups
        (for comparing two collections).
    width : int
        Characters a line of text.
    **options
        For `barh`.
    """
    if len(texts) != len(supports):
        raise ValueError(f"texts has {len(texts)} entries for {len(supports)} supports; expected one per pattern")
    base = 0.5 if by_rate else n_label[0] / sum(n_label)
    shares = []
    for n0, n1 in supports:
        a, b = (n0 / n_label[0], n1 / n_label[1]) if by_rate else (n0, n1)
        shares.append(a / (a + b) if a + b else base)
    rows = range(len(texts))
    colors = [TOWARDS[0] if s > base else TOWARDS[1] for s in shares]
    ax.barh(rows, [s - base for s in shares], left=base, color=colors, **{"alpha": 0.85, "height": 0.7, **options})
    ax.axvline(base, color=NULL, linestyle="--", linewidth=1.2)
    for row, (n0, n1) in zip(rows, supports):
        ax.text(1.02, row, f"{n0} : {n1}", transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
    ax.set_yticks(rows, ["\n".join(textwrap.wrap(t, width)) for t in texts], fontsize=8.5)
    header = f"{groups[0]} : {groups[1]}"
    ax.text(1.02, 1.0, header, transform=ax.transAxes, va="bottom", fontsize=8.5, weight="bold")
    ax.set(xlim=(0, 1), ylim=(max(len(texts), 4) - 0.4, -0.6))
    ax.grid(axis="y", visible=False)
