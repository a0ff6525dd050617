"""Curves with seed bands, and bars with seed dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from shared._checks import as_numbers, check_finite, check_shape
from shared.plots._style import NULL, color


def curve(
    ax: Axes, x: Sequence[float], runs: np.ndarray, label: str, *, index: int = 0, null: bool = False, **options
) -> None:
    """Draw the mean over runs as a line with a band of one standard deviation.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    x : (T,) floats
        Positions.
    runs : (R, T) or (T,)
        One row per seed or sample; finite.
    label : str
        Name in the legend.
    index : int
        Number of the colour.
    null : bool
        Dashed and grey: a baseline or control.
    **options
        Go to `Axes.plot`.

    Raises
    ------
    ValueError
        For runs of another length than x, NaN or infinity.
    """
    runs = np.atleast_2d(as_numbers(runs))
    check_shape("runs", runs, ("R", len(x)))
    check_finite("runs", runs)
    style = {"color": NULL, "linestyle": "--"} if null else {"color": color(index)}
    style |= options
    mean, deviation = runs.mean(0), runs.std(0)
    ax.plot(x, mean, label=label, **style)
    if len(runs) > 1:
        ax.fill_between(x, mean - deviation, mean + deviation, color=style["color"], alpha=0.15, linewidth=0)


def band(ax: Axes, x: Sequence[float], low: np.ndarray, high: np.ndarray, *, index: int = 0) -> None:
    """Shade between two lines, e.g. the ends of an interval at each point.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    x : (T,) floats
        Positions.
    low, high : (T,)
        The lines; finite.
    index : int
        Number of the colour.

    Raises
    ------
    ValueError
        For lines of another length than x, NaN or infinity.
    """
    for name, value in (("low", as_numbers(low)), ("high", as_numbers(high))):
        check_shape(name, value, (len(x),))
        check_finite(name, value)
    ax.fill_between(x, low, high, color=color(index), alpha=0.15, linewidth=0)


def bars(
    ax: Axes,
    groups: Mapping[str, Sequence[float]],
    *,
    null: Sequence[str] = (),
    errors: Mapping[str, float] | None = None,
    digits: int = 2,
) -> None:
    """One horizontal bar per entry at its runs' mean, which is written beside it, and a dot per run.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    groups : mapping of names to floats
        The runs of each entry, at least one; NaN is written as such.
    null : names
        Entries in grey: baselines and controls.
    errors : mapping of names to floats, optional
        Half-widths, e.g. standard errors, whose whiskers stand in for the dots.
    digits : int
        Decimals of the written means.

    Raises
    ------
    ValueError
        For no groups, one without numbers or without its error.
    """
    if not groups:
        raise ValueError("groups is empty; at least one named series of numbers is needed")
    if empty := [name for name in groups if np.size(groups[name]) == 0]:
        raise ValueError(f"groups has no number for {', '.join(map(str, empty))}; at least one is needed")
    if errors is not None and (lacking := [name for name in groups if name not in errors]):
        raise ValueError(f"errors has nothing for {', '.join(map(str, lacking))}; expected a number for each of groups")
    names = list(groups)
    means = [float(np.mean(groups[name])) for name in names]
    ends = {name: _ends(groups[name], errors and errors[name]) for name in names}
    span = np.ptp([0.0, *(end for pair in ends.values() for end in pair)])
    ax.barh(range(len(names)), means, color=[NULL if name in null else color(0) for name in names], alpha=0.85)
    for row, (name, mean) in enumerate(zip(names, means)):
        if errors is not None:
            ax.errorbar(mean, row, xerr=errors[name], color="black", linewidth=1, capsize=2, zorder=3)
        elif np.size(groups[name]) > 1:
            runs = np.atleast_1d(groups[name])
            ax.scatter(runs, np.full(len(runs), row), s=9, color="black", alpha=0.55, zorder=3, linewidths=0)
        ax.text(max(ends[name][1], 0) + 0.03 * span, row, f"{mean:.{digits}f}", va="center", ha="left", fontsize=9)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


def _ends(runs: Sequence[float], error: float | None) -> tuple[float, float]:
    """Where a bar with its dots or whisker begins and ends."""
    if error is not None:
        return float(np.mean(runs)) - error, float(np.mean(runs)) + error
    return float(np.min(runs)), float(np.max(runs))
