"""Sparse networks written down, not trained, that solve a task: what may be hidden in a random network and sought."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_range, wide

TICKETS = ("relu", "circle", "helix")
CIRCLE_BOUNDS = (0.2, 0.5, 0.7)  # of the squared radius, between four classes
SLOPES = (5.0, 10.0, 20.0, 40.0)
Layer = tuple[Tensor, Tensor]


def interpolate_by_relu(knots: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A sum of ReLUs that goes through points: `sum_j a_j relu(p_j (x - s_j)) + b` (Fischer & Burkholz 2022, §3.1).

    Signs p alternate from +1. With the slopes m between neighbouring points `a_j = m_j - m_{j-1}` for j > 1,
    `a_1 = m_1 + sum of a_j over p_j = -1` (the paper prints m_1, which holds for positive signs only).

    Parameters
    ----------
    knots : growing `(N + 1,)`; the last is the end, where no ReLU stands.
    values : `(N + 1,)` or, for several functions with the same knots, `(functions, N + 1)`.

    Returns
    -------
    p `(N,)`, s `(N,)`, a `(…, N)` and b `(…)`, in float64; what is zero but for rounding is zero.

    Raises
    ------
    ValueError
        Fewer than two knots, knots that don't grow, other shapes, NaN.
    """
    check_array("knots", knots, ("N + 1",))
    check_array("values", values, (*[None] * (values.ndim - 1), len(knots)))
    if len(knots) < 2 or not bool((knots.diff() > 0).all()):
        raise ValueError("knots must be at least two numbers, each above the one before")
    knots, values = wide(knots), wide(values)
    start, step = knots[:-1], values.diff(dim=-1) / knots.diff()
    sign = torch.ones_like(start)
    sign[1::2] = -1
    a = torch.cat([step[..., :1], step.diff(dim=-1)], -1)
    a = torch.where(a.abs() > 1e-9 * a.abs().amax(-1, keepdim=True), a, 0.0)  # a line needs no second ReLU
    a[..., 0] += (a * (sign < 0)).sum(-1)
    b = values[..., 0] - (a * (sign * (start[0] - start)).relu()).sum(-1)
    return sign, start, a, b


def analytic_ticket(kind: str, *, depth: int = 5, knots: int | None = None) -> nn.Sequential:
    """A hand-made sparse ReLU network for one of the paper's three tasks (Fischer & Burkholz 2022, §3.1 and code).

    Parameters
    ----------
    kind : "relu", `max(x, 0)` of one number; "circle", four classes by the squared radius of a point in [-1, 1]²
        (`circle_classes`); "helix", three coordinates of a spiral from one number in [-1, 1] (`helix_curve`).
    depth : number of layers, the input counted, from 3; from 4 on "helix" has a layer for its shift, and "circle" for
        absolute values.
    knots : ReLUs per coordinate that follow a square ("circle", default 10) or the spiral ("helix", default 29).

    Returns
    -------
    Linear layers with ReLU between them, in float64; what isn't in the ticket is zero.

    Raises
    ------
    ValueError
        An unknown kind, a depth below 3, fewer than two knots.
    """
    check_choice("kind", kind, TICKETS)
    check_range("depth", depth, 3)
    count = {"circle": 10, "helix": 29}.get(kind, 2) if knots is None else knots
    check_range("knots", count, 2)
    return _network({"relu": _relu, "circle": _circle, "helix": _helix}[kind](depth, count))


def circle_classes(x: Tensor) -> Tensor:
    """Classes by the squared radius: below .2, .5, .7, and beyond.

    Parameters
    ----------
    x : points `(…, 2)`.

    Returns
    -------
    Classes `(…)`, int64.

    Raises
    ------
    ValueError
        Points of another length, NaN.
    """
    check_array("x", x, (*[None] * (x.ndim - 1), 2))
    x = wide(x)
    return torch.bucketize(x.square().sum(-1), x.new_tensor(CIRCLE_BOUNDS), right=True)


def helix_curve(x: Tensor) -> Tensor:
    """Points of the spiral `(t cos t, t sin t, t) / 8π` with `t = 5π + 3πx`.

    Parameters
    ----------
    x : `(…, 1)`, in [-1, 1].

    Returns
    -------
    `(…, 3)`.

    Raises
    ------
    ValueError
        Another last axis, NaN.
    """
    check_array("x", x, (*[None] * (x.ndim - 1), 1))
    t = 5 * math.pi + 3 * math.pi * wide(x)
    return (torch.cat([t * t.cos(), t * t.sin(), t], -1) / (8 * math.pi)).to(x.dtype)


def _network(layers: list[Layer]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.utils.skip_init(nn.Linear, *weight.T.shape, dtype=torch.float64)  # draws nothing
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _bare(rows: list[list[float]] | Tensor) -> Layer:
    """A layer without biases."""
    weight = torch.as_tensor(rows, dtype=torch.float64)
    return weight, torch.zeros(len(weight), dtype=torch.float64)


def _relu(depth: int, _: int) -> list[Layer]:
    return [_bare([[1.0]]) for _ in range(depth - 1)]


def _circle(depth: int, count: int) -> list[Layer]:
    """|x_1| and |x_2|; mirrors that fold the quadrant; squares by knots; one line of the squared radius per class."""
    layers: list[Layer] = []
    read = torch.eye(2, dtype=torch.float64)  # what the coordinates are of the neurons so far
    if depth > 3:
        layers.append(_bare([[1, 0], [-1, 0], [0, 1], [0, -1]]))
        read = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.float64)
    for fold in range(2, depth - 3):
        angle = math.pi / 2**fold
        u = math.cos(angle) * read[0] + math.sin(angle) * read[1]
        v = math.cos(angle) * read[1] - math.sin(angle) * read[0]
        layers.append(_bare(torch.stack([u, v, -v])))
        read = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.float64)
    if depth > 4:
        layers.append(_bare(read))
        read = torch.eye(2, dtype=torch.float64)
    low, high = (-1.0 if depth == 3 else 0.0), (1.0 if depth < 6 else math.sqrt(2))
    points = torch.linspace(low, high, count + 1, dtype=torch.float64)
    sign, start, a, b = interpolate_by_relu(points, points**2)
    layers.append((torch.cat([sign[:, None] * row for row in read]), (-sign * start).repeat(2)))
    slopes = torch.tensor(SLOPES, dtype=torch.float64)
    offset = torch.zeros_like(slopes)
    offset[1:] = ((slopes[:-1] - slopes[1:]) * slopes.new_tensor(CIRCLE_BOUNDS)).cumsum(0)
    return [*layers, (slopes[:, None] * a.repeat(2), slopes * 2 * b + offset)]


def _helix(depth: int, count: int) -> list[Layer]:
    """Knots on the line shifted to positive numbers; later layers hand on what was moved up by one."""
    one, eye = torch.ones(1, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    points = torch.linspace(-1.0, 1.0, count + 1, dtype=torch.float64)
    sign, start, a, b = interpolate_by_relu(points, helix_curve(points[:, None]).T)
    shift = 1.0 if depth > 3 else 0.0
    layers: list[Layer] = [(one[:, None], one)] if depth > 3 else []
    layers.append((sign[:, None], -sign * (start + shift)))
    if depth < 5:
        return [*layers, (a, b)]
    return [*layers, (a, b + 1), *[(eye, torch.zeros_like(b)) for _ in range(depth - 5)], (eye, -torch.ones_like(b))]
