"""The factors of the shapes world: their values, and how they are drawn when they aren't set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice, check_range, check_shape

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "diamond",
    "crescent",
    "orange",  # a round fruit with a leaf, in any colour: the word also names a colour
    "starfish",  # its name begins with another shape's
)
BASIC_SHAPES = SHAPES[:8]
COLOURS = {
    "red": (0.85, 0.12, 0.12),
    "orange": (1.0, 0.55, 0.1),
    "yellow": (0.95, 0.9, 0.2),
    "green": (0.15, 0.65, 0.2),
    "blue": (0.15, 0.3, 0.9),
    "purple": (0.6, 0.2, 0.75),
}
TEXTURES = ("plain", "striped", "dotted")
SIZES = ("small", "large")
RADII = ((0.13, 0.17), (0.22, 0.27))  # of the image's side
SHADES = ("dark", "light")
LEVELS = ((0.15, 0.3), (0.6, 0.75))  # the background's grey
BACKGROUNDS = ("flat", "cloudy", "barred", "chequered", "graded")
SIDES = ("left", "right")
WATERMARKS = ("none", "logo", "cross")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
BORDERS = ("none", "frame")
TINTS = {"none": (1.0, 1.0, 1.0), "warm": (1.0, 0.8, 0.6), "cold": (0.6, 0.8, 1.0)}

OBJECT_CATEGORIES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "size": SIZES,
    "side": SIDES,
}
IMAGE_CATEGORIES: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "shade": SHADES,
    "watermark": WATERMARKS,
    "corner": CORNERS,
    "border": BORDERS,
    "tint": tuple(TINTS),
}
OBJECT_NUMBERS = ("radius", "x", "y", "rotation", "present")
IMAGE_NUMBERS = ("level", "word", "word_x", "word_y", "seed")
SHAPE_FACTORS = (*OBJECT_CATEGORIES, *OBJECT_NUMBERS, *IMAGE_CATEGORIES, *IMAGE_NUMBERS)
OBJECT_FACTORS = (*OBJECT_CATEGORIES, *OBJECT_NUMBERS)
RATES = ("word", "watermark", "border", "tint")
_RANGES = {"radius": (0.02, 0.5), "x": (0, 1), "y": (0, 1), "level": (0, 1), "word_x": (0, 1), "word_y": (0, 1)}
_BASIC = {"shape": BASIC_SHAPES}


def categories(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Value names of every factor that has such; the word's are "none" and then `words`."""
    return {**OBJECT_CATEGORIES, **IMAGE_CATEGORIES, "word": ("none", *words)}


def sample_factors(
    n: int,
    objects: tuple[int, int],
    values: Mapping[str, Any],
    rates: Mapping[str, float],
    words: Sequence[str],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Draw all factors, then put the set ones in their place, so that setting one leaves the others as they were."""
    for name in values:
        check_choice("values", name, SHAPE_FACTORS)
    for name, rate in rates.items():
        check_range(f"rates[{check_choice('rates', name, RATES)!r}]", rate, 0, 1)
    draw = _Draw(n, objects[1], values, categories(words), generator)
    factors = {name: draw.category(name, _BASIC.get(name)) for name in OBJECT_CATEGORIES}
    factors |= {name: draw.category(name) for name in ("background", "shade")}
    factors["corner"] = draw.category("corner", (CORNERS[3],))
    for name in RATES:
        factors[name] = draw.optional(name, rates.get(name, 0.0))
    factors["present"] = draw.present(objects)
    factors["radius"] = draw.between("radius", factors["size"], RADII)
    factors["level"] = draw.between("level", factors["shade"], LEVELS)
    factors["x"], factors["y"] = draw.positions(factors["radius"], factors["side"])
    factors["rotation"] = draw.number("rotation", -20.0, 20.0, per_object=True)
    factors["word_x"], factors["word_y"] = (draw.number(name, 0.0, 1.0) for name in ("word_x", "word_y"))
    factors["seed"] = draw.set_or("seed", torch.randint(2**31 - 1, (n,), generator=generator))
    return derive(factors)


def derive(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make the categories that follow from numbers agree with them: size from radius, shade from level, side from x."""
    small_end, large_begin = RADII[0][1], RADII[1][0]
    dark_end, light_begin = LEVELS[0][1], LEVELS[1][0]
    return factors | {
        "size": (factors["radius"] > (small_end + large_begin) / 2).long(),
        "shade": (factors["level"] > (dark_end + light_begin) / 2).long(),
        "side": (factors["x"] >= 0.5).long(),
    }


class _Draw:
    """Draws one factor after the other, always as many random numbers, whether the factor is set or not."""

    def __init__(
        self,
        n: int,
        objects: int,
        values: Mapping[str, Any],
        names: Mapping[str, Sequence[str]],
        generator: torch.Generator,
    ) -> None:
        self.n = n
        self.objects = objects
        self.values = values
        self.names = names
        self.generator = generator

    def shape(self, name: str) -> tuple[int, ...]:
        return (self.n, self.objects) if name in OBJECT_FACTORS else (self.n,)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def category(self, name: str, among: Sequence[str] | None = None) -> Tensor:
        given, known = self.values.get(name), self.names[name]
        if isinstance(given, list | tuple) and given and all(isinstance(value, str) for value in given):
            among = given
        allowed = torch.tensor([known.index(check_choice(name, value, known)) for value in among or known])
        drawn = allowed[(self.uniform(*self.shape(name)) * len(allowed)).long().clamp_max(len(allowed) - 1)]
        return drawn if among is given and given is not None else self.set_or(name, drawn)

    def optional(self, name: str, rate: float) -> Tensor:
        """A category whose first value means absent: absent but for a share of `rate`; then any other value."""
        on, which = self.uniform(self.n) < rate, self.uniform(self.n)
        others = max(len(self.names[name]) - 1, 0)
        if others == 0 and rate > 0:
            raise ValueError(f"rates[{name!r}]={rate} but there is no {name} to draw: words is empty")
        if name in self.values and not isinstance(self.values[name], str | int | Tensor | np.ndarray):
            return self.category(name)
        return self.set_or(name, torch.where(on, 1 + (which * others).long().clamp_max(others - 1), 0))

    def number(self, name: str, low: float, high: float, per_object: bool = False) -> Tensor:
        shape = (self.n, self.objects) if per_object else (self.n,)
        return self.set_or(name, low + (high - low) * self.uniform(*shape))

    def between(self, name: str, category: Tensor, ranges: tuple[tuple[float, float], ...]) -> Tensor:
        low, high = torch.tensor(ranges)[category].unbind(-1)
        return self.set_or(name, low + (high - low) * self.uniform(*self.shape(name)))

    def present(self, objects: tuple[int, int]) -> Tensor:
        count = objects[0] + (self.uniform(self.n, 1) * (objects[1] - objects[0] + 1)).long()
        return self.set_or("present", (torch.arange(self.objects) < count).long())

    def positions(self, radius: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """One object: anywhere wholly inside (its centre on its side). More: each in a cell of a square grid."""
        free = self.uniform(self.n, self.objects, 2)
        cells = int(np.ceil(np.sqrt(self.objects)))
        order = self.uniform(self.n, cells * cells).argsort(1)[:, : self.objects]
        if self.objects == 1:
            edge = radius.clamp(max=0.5)
            middle = torch.full_like(edge, 0.5)
            low = torch.where((side == 1) & ("side" in self.values), middle, edge)
            high = torch.where((side == 0) & ("side" in self.values), middle - 1e-4, 1 - edge)
            x, y = low + (high - low) * free[..., 0], edge + (1 - 2 * edge) * free[..., 1]
        else:
            if "side" in self.values:
                raise ValueError("values['side'] needs one object; set x and y for several")
            slack = (1 / cells - 2 * radius).clamp(min=0)
            corner = torch.stack([order % cells, order // cells], -1) / cells
            x, y = (corner + 0.5 / cells + (free - 0.5) * slack.unsqueeze(-1)).unbind(-1)
        return self.set_or("x", x), self.set_or("y", y)

    def set_or(self, name: str, drawn: Tensor) -> Tensor:
        return drawn if name not in self.values else as_factor(name, self.values[name], drawn, self.names)


def as_factor(name: str, value: Any, like: Tensor, names: Mapping[str, Sequence[str]]) -> Tensor:
    """A set value as the factor's tensor: one name or number for all images, or one number each; checked."""
    if isinstance(value, str):
        if name not in names:
            raise ValueError(f"{name}={value!r} must be a number or one number per image")
        value = list(names[name]).index(check_choice(name, value, names[name]))
    given = torch.as_tensor(value, device=like.device)
    if given.ndim == 1 and like.ndim == 2 and given.shape[0] == like.shape[0]:
        given = given.unsqueeze(1).expand_as(like)
    if given.ndim:
        check_shape(name, given, tuple(like.shape))
    if not bool(torch.isfinite(given).all()):
        raise ValueError(f"{name} has NaN or infinite values")
    low, high = (0, len(names[name]) - 1) if name in names else _RANGES.get(name, (None, None))
    check_range(name, given.min().item(), low, high)
    check_range(name, given.max().item(), low, high)
    return given.to(like.dtype).expand_as(like).clone()
