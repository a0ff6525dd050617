"""Drawing maps: the plane with equal axes, the sphere as two hemispheres or one equal-area map."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from shared._checks import check_shape

_MORE = ("#000000", "#8C6D00", "#4B7F52", "#A0522D", "#88CCEE", "#AA4499", "#DDCC77", "#332288")
_HALO = [effects.withStroke(linewidth=2.2, foreground="white")]


def palette(count: int) -> list[str]:
    """`count` colours: the style's own first, then darker ones for up to sixteen groups, then from the start again."""
    colors = [*mpl.rcParams["axes.prop_cycle"].by_key()["color"], *_MORE]
    return [colors[i % len(colors)] for i in range(count)]


def draw_map(
    ax: Axes,
    Y: np.ndarray,
    labels: Sequence | np.ndarray | None = None,
    *,
    values: np.ndarray | None = None,
    title: str = "",
    circles: bool = False,
    names: Sequence[str] | None = None,
    size: float = 5.0,
    markers: np.ndarray | None = None,
) -> mpl.collections.PathCollection | None:
    """Scatter a planar map (n, 2) with equal axes and no ticks: a map has no units.

    labels : (n,) groups, one colour each; `names` (one per sorted label) stand where a group is densest; `circles`
    draws each group's root-mean-square radius. values : (n,) numbers for a colour scale instead; the collection is
    returned, for a colour bar. markers : (n,) small whole numbers, one marker shape each.
    """
    Y = np.asarray(Y)
    check_shape("Y", Y, ("n", 2))
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
    ax.spines[:].set(visible=True, color="#D5D5D5", linewidth=0.8)
    ax.set_title(title, fontsize=9.5)
    return drawn if values is not None else None


def draw_sphere(
    ax: Axes,
    Y: np.ndarray,
    labels: Sequence | np.ndarray | None = None,
    *,
    values: np.ndarray | None = None,
    title: str = "",
    size: float = 5.0,
) -> mpl.collections.PathCollection:
    """Unit vectors (n, 3) as two discs, the front hemisphere (x >= 0) left and the back right, in an equal-area map.

    Turn Y by `face_on` first, so that most points are in front. labels : (n,) groups, or values : (n,) numbers for a
    colour scale. Lines of longitude and latitude are 30 degrees apart.
    """
    Y = np.asarray(Y)
    check_shape("Y", Y, ("n", 3))
    for index in range(2):
        ax.add_patch(Circle((2.1 * index, 0), 1, facecolor="#F4F6F8", edgecolor="#B5B5B5", linewidth=0.8, zorder=0))
    for fixed in np.radians(np.arange(-60, 61, 30)):
        run = np.radians(np.linspace(-89.9, 89.9, 60))
        for lon, lat in ((run, np.full(60, fixed)), (np.full(60, fixed), run)):
            line = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
            for shift in (0, 2.1):
                ax.plot(*(_disc(line) + np.array([shift, 0])).T, color="white", linewidth=0.8, zorder=1)
    groups = np.zeros(len(Y), dtype=int) if labels is None else np.unique(labels, return_inverse=True)[1]
    paint = {"c": np.array(palette(groups.max() + 1))[groups]} if values is None else {"c": values}
    back = Y[:, 0] < 0
    folded = np.where(back[:, None], Y * [-1, -1, 1], Y)  # the back as seen from behind
    drawn = ax.scatter(
        *(_disc(folded) + np.outer(back, [2.1, 0])).T,
        s=size,
        linewidths=0,
        alpha=0.8,
        rasterized=True,
        zorder=2,
        **paint,
    )
    for place, name in ((0, "front"), (2.1, f"back: {int(back.sum())}")):
        ax.text(place, -1.12, name, fontsize=7.5, ha="center", va="top", color="#666666")
    ax.set(xlim=(-1.05, 3.15), ylim=(-1.35, 1.05))
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(title, fontsize=9.5)
    return drawn


def _disc(Y: np.ndarray) -> np.ndarray:
    """Lambert's equal-area map of the hemisphere x >= 0 onto the unit disc: (n, 2)."""
    return Y[:, 1:] / np.sqrt(1 + Y[:, :1].clip(0))
