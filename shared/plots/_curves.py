"""Curves with seed bands, and bars with seed dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from shared._checks import check_finite, check_shape
from shared.plots._style import NULL, color


def curve(
    ax: Axes, x: Sequence[float], runs: np.ndarray, label: str, *, index: int = 0, null: bool = False, **options
) -> None:
    """Draw the mean over runs as a line with a band of one standard deviation.

    x : (T,) positions; runs : (R, T), one row per seed or sample; `null=True` draws a baseline in dashed grey.
    """
    runs = np.atleast_2d(np.asarray(runs, dtype=float))
    check_shape("runs", runs, ("R", len(x)))
    check_finite("runs", runs)
    style = {"color": NULL, "linestyle": "--"} if null else {"color": color(index)}
    style |= options
    mean, deviation = runs.mean(0), runs.std(0)
    ax.plot(x, mean, label=label, **style)
    if len(runs) > 1:
        ax.fill_between(x, mean - deviation, mean + deviation, color=style["color"], alpha=0.15, linewidth=0)


def band(ax: Axes, x: Sequence[float], low: np.ndarray, high: np.ndarray, *, index: int = 0) -> None:
    """Shade between `low` and `high`, each (T,), e.g. a bootstrap interval."""
    ax.fill_between(x, low, high, color=color(index), alpha=0.15, linewidth=0)


def bars(
    ax: Axes,
    groups: Mapping[str, Sequence[float]],
    *,
    null: Sequence[str] = (),
    digits: int = 2,
    horizontal: bool = True,
) -> None:
    """One bar per entry at its runs' mean, which is written beside it, and a dot per run; names in `null` are grey."""
    if not groups:
        raise ValueError("groups is empty; at least one named series of numbers is needed")
    names = list(groups)
    means = [float(np.mean(groups[name])) for name in names]
    shades = [NULL if name in null else color(0) for name in names]
    positions = np.arange(len(names))
    span = np.ptp([0.0, *(v for name in names for v in np.atleast_1d(groups[name]))])
    (ax.barh if horizontal else ax.bar)(positions, means, color=shades, alpha=0.85)
    for position, name, mean in zip(positions, names, means):
        values = np.atleast_1d(groups[name])
        if len(values) > 1:
            at = np.full(len(values), position)
            ax.scatter(
                *((values, at) if horizontal else (at, values)), s=9, color="black", alpha=0.55, zorder=3, linewidths=0
            )
        edge = max(np.max(values), mean, 0) + 0.03 * span
        place = (edge, position) if horizontal else (position, edge)
        ax.text(
            *place,
            f"{mean:.{digits}f}",
            va="center" if horizontal else "bottom",
            ha="left" if horizontal else "center",
            fontsize=9,
        )
    if horizontal:
        ax.set_yticks(positions, names)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    else:
        ax.set_xticks(positions, names)
        ax.grid(axis="x", visible=False)
