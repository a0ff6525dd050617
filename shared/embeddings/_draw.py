"""Drawing maps: the plane with equal axes, the sphere as two hemispheres or one equal-area map."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from shared._checks import check_array, check_shape
from shared.plots import GREYS, palette

_HALO = [effects.withStroke(linewidth=2.2, foreground="white")]


def draw_map(
    ax: Axes,
    Y: np.ndarray,
    *,
    labels: Sequence | np.ndarray | None = None,
    values: np.ndarray | None = None,
    title: str = "",
    circles: bool = False,
    names: Sequence[str] | None = None,
    size: float = 5.0,
    markers: np.ndarray | None = None,
) -> mpl.collections.PathCollection | None:
    """Scatter a planar map with equal axes and no ticks: a map has no units.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn into.
    Y : (n, 2) array
        The map.
    labels : (n,) array, optional
        Groups, one colour each.
    values : (n,) array, optional
        Numbers for a colour scale instead.
    title : str
        Over the map.
    circles : bool
        Draw each group's root-mean-square radius.
    names : sequence of str, optional
        One per sorted label; each stands where its group is densest.
    size : float
        Of the markers, in points squared.
    markers : (n,) array, optional
        Small whole numbers, one marker shape each.

    Returns
    -------
    matplotlib.collections.PathCollection or None
        With `values`: the points, for a colour bar.
    """
    Y = np.asarray(Y)
    check_array("Y", Y, ("n", 2))
    _check_marks(len(Y), labels, values, markers)
    drawn = None
    shapes = "o^sDvP*X"
    kinds = np.zeros(len(Y), dtype=int) if markers is None else np.unique(markers, return_inverse=True)[1]
    groups = np.zeros(len(Y), dtype=int) if labels is None else np.unique(labels, return_inverse=True)[1]
    colors = np.array(palette(groups.max() + 1))
    for kind in np.unique(kinds):
        at = kinds == kind
        paint = {"c": values[at], "vmin": np.min(values), "vmax": np.max(values)} if values is not None else {}
        paint = paint or {"c": colors[groups[at]]}
        drawn = ax.scatter(
            *Y[at].T, s=size, marker=shapes[kind % len(shapes)], linewidths=0, alpha=0.75, rasterized=True, **paint
        )
    for group in np.unique(groups) if labels is not None else ():
        members = Y[groups == group]
        if circles:
            centre = members.mean(0)
            radius = np.sqrt(((members - centre) ** 2).sum(1).mean())
            ax.add_patch(Circle(centre, radius, fill=False, edgecolor="black", linewidth=1.0, zorder=3))
        if names is not None:
            apart = np.linalg.norm(members[:, None] - members, axis=2)
            densest = np.partition(apart, len(members) // 4, axis=1)[:, len(members) // 4].argmin()
            ax.text(*members[densest], names[group], fontsize=8, ha="center", va="center", path_effects=_HALO, zorder=4)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color=GREYS["frame"], linewidth=0.8)
    ax.set_title(title, fontsize=9.5)
    return drawn if values is not None else None


def draw_sphere(
    ax: Axes,
    Y: np.ndarray,
    *,
    labels: Sequence | np.ndarray | None = None,
    values: np.ndarray | None = None,
    title: str = "",
    size: float = 5.0,
) -> mpl.collections.PathCollection:
    """Unit vectors on an equal-area disc, the front hemisphere (x >= 0), and on a second one those at the back.

    With no point at the back only the cap is drawn that holds them all, its angle from middle to edge written below.
    Lines of longitude and latitude are 30 degrees apart.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Drawn into.
    Y : (n, 3) array
        Unit vectors; turn them by `face_on` first, so that most are in front.
    labels : (n,) array, optional
        Groups, one colour each.
    values : (n,) array, optional
        Numbers for a colour scale instead.
    title : str
        Over the map.
    size : float
        Of the markers, in points squared.

    Returns
    -------
    matplotlib.collections.PathCollection
        The points, for a colour bar.
    """
    Y = np.asarray(Y)
    check_array("Y", Y, ("n", 3))
    _check_marks(len(Y), labels, values)
    back = Y[:, 0] < 0
    folded = np.where(back[:, None], Y * [-1, -1, 1], Y)  # the back as seen from behind
    flat = _disc(folded)
    edge = 1.0 if back.any() else min(1.0, 1.08 * np.linalg.norm(flat, axis=1).max())
    shifts = (0, 2.1) if back.any() else (0,)
    for shift in shifts:
        disc = Circle((shift, 0), edge, facecolor=GREYS["fill"], edgecolor=GREYS["edge"], linewidth=0.8, zorder=0)
        ax.add_patch(disc)
        for fixed in np.radians(np.arange(-60, 61, 30)):
            run = np.radians(np.linspace(-89.9, 89.9, 60))
            for lon, lat in ((run, np.full(60, fixed)), (np.full(60, fixed), run)):
                line = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
                (drawn,) = ax.plot(
                    *(_disc(line) + np.array([shift, 0])).T, color=GREYS["grid"], linewidth=0.7, zorder=1
                )
                drawn.set_clip_path(disc)
    groups = np.zeros(len(Y), dtype=int) if labels is None else np.unique(labels, return_inverse=True)[1]
    paint = {"c": np.array(palette(groups.max() + 1))[groups]} if values is None else {"c": values}
    place = (flat + np.outer(back, [2.1, 0])).T
    drawn = ax.scatter(*place, s=size, linewidths=0, alpha=0.8, rasterized=True, zorder=2, **paint)
    cap = f"cap of {2 * np.degrees(np.arcsin(edge / np.sqrt(2))):.0f}°"  # from its middle to its edge
    for shift, name in zip(shifts, ("front", f"back: {int(back.sum())} points") if back.any() else (cap,)):
        ax.text(shift, -1.1 * edge, name, fontsize=7.5, ha="center", va="top", color=GREYS["text"])
    ax.set(xlim=(-1.05 * edge, 1.05 * edge + shifts[-1]), ylim=(-1.35 * edge, 1.05 * edge))
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(title, fontsize=9.5)
    return drawn


def _check_marks(
    n: int,
    labels: Sequence | np.ndarray | None,
    values: np.ndarray | None,
    markers: np.ndarray | None = None,
) -> None:
    for name, given in (("labels", labels), ("markers", markers)):
        if given is not None:
            check_shape(name, np.asarray(given), (n,))
    if values is not None:
        check_array("values", np.asarray(values), (n,))


def _disc(Y: np.ndarray) -> np.ndarray:
    """Lambert's equal-area map of the hemisphere x >= 0 onto the unit disc: (n, 2)."""
    return Y[:, 1:] / np.sqrt(1 + Y[:, :1].clip(0))
