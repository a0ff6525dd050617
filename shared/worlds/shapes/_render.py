"""From factors to pixels and masks. An image depends on its own factors alone, so any part of a set renders alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from shared.worlds.shapes._factors import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, TINTS, WATERMARKS
from shared.worlds.shapes._font import enlarge, mark_bitmap, text_bitmap

DARK = 0.35  # factor of a texture's second colour
LEAF = (0.2, 0.5, 0.15)
FRAME = 1.0
PLATE = 0.0  # words and watermarks stand on a black plate
INK = 1.0
MARK_INK = (0.95, 0.1, 0.75)  # of watermarks: a colour that no object has
_PATTERN = 0.12  # amplitude of background patterns
_CHUNK = 64


def render(
    factors: dict[str, Tensor], size: int, words: Sequence[str], noise: float, masks: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images (N, 3, size, size) in [0, 1] and, if asked for, masks; see `ShapesWorld` for their names and shapes."""
    n = len(factors["seed"])
    parts = []
    for start in range(0, n, _CHUNK):  # small chunks stay in the processor's cache
        rows = {name: value[start : start + _CHUNK] for name, value in factors.items()}
        images, found = _render(rows, size, words, noise)
        parts.append((images, found if masks else {}))
    return torch.cat([images for images, _ in parts]), {
        name: torch.cat([found[name] for _, found in parts]) for name in parts[0][1]
    }


def _render(
    factors: dict[str, Tensor], size: int, words: Sequence[str], noise: float
) -> tuple[Tensor, dict[str, Tensor]]:
    images = _background(factors, size).unsqueeze(1).repeat(1, 3, 1, 1)
    objects, texture, leaf = _paint_objects(images, factors, size)
    border = _border(factors["border"], size)
    watermark, bright = _watermark(factors, size)
    plate, letters = _words(factors, size, words)
    if bool(border.any()):
        images.masked_fill_(border.unsqueeze(1), FRAME)
    for stamp, ink, colour in ((watermark, bright, MARK_INK), (plate, letters, (INK,) * 3)):
        if bool(stamp.any()):
            images.masked_fill_(stamp.unsqueeze(1), PLATE)
            torch.where((stamp & ink).unsqueeze(1), torch.tensor(colour)[:, None, None], images, out=images)
    if bool(factors["tint"].any()):
        images *= torch.tensor(list(TINTS.values()))[factors["tint"]][:, :, None, None]
    if noise:
        images.add_(_hash(factors["seed"], images[0].numel()).view_as(images), alpha=noise).clamp_(0, 1)
    border &= ~(watermark | plate)
    watermark &= ~plate
    seen = ~(plate | watermark | border)
    return images, {
        "objects": objects & seen.unsqueeze(1),
        "background": ~objects.any(1) & seen,
        "texture": texture & seen,
        "leaf": leaf & seen,
        "border": border,
        "watermark": watermark,
        "word": plate,
        "letters": letters,
    }


# --- objects ----------------------------------------------------------------------------------------------------
def _paint_objects(images: Tensor, factors: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the objects into `images`, later over earlier; their visible pixels, second colours, leaves."""
    n, k_max = factors["shape"].shape
    objects = torch.zeros(n, k_max, size, size, dtype=torch.bool)
    texture, leaf = torch.zeros(2, n, size, size, dtype=torch.bool)
    colours = torch.tensor(list(COLOURS.values()))
    for k in range(k_max):
        one = {name: value[:, k] for name, value in factors.items() if value.ndim == 2}
        inside, second, green = _object(one, size)
        colour = colours[one["colour"]][:, :, None, None]
        torch.where(inside.unsqueeze(1), torch.where(second.unsqueeze(1), colour * DARK, colour), images, out=images)
        if k:
            objects[:, :k] &= ~inside.unsqueeze(1)
            texture, leaf = texture & ~inside, leaf & ~inside
        objects[:, k] = inside
        texture |= second
        if green is not None:
            images.copy_(torch.where(green.unsqueeze(1), torch.tensor(LEAF)[:, None, None], images))
            leaf |= green
    return objects, texture, leaf


def _object(one: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pixels inside one object per image, those in its texture's second colour, and those of a leaf if any has one."""
    centres = (torch.arange(size) + 0.5) / size
    dx = (centres - one["x"][:, None])[:, None, :] / one["radius"][:, None, None]
    dy = (centres - one["y"][:, None])[:, :, None] / one["radius"][:, None, None]
    turn = one["rotation"] * (math.pi / 180)
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    inside = torch.zeros(u.shape, dtype=torch.bool)
    leaf = None
    for index in one["shape"].unique().tolist():
        rows = (one["shape"] == index).nonzero().squeeze(1)
        uv = (u[rows], v[rows])
        inside[rows] = _INSIDE[SHAPES[index]](*uv)
        if SHAPES[index] == "orange":
            leaf = torch.zeros_like(inside)
            leaf[rows] = _leaf(*uv)
    inside &= one["present"].bool()[:, None, None]
    second = torch.zeros_like(inside)
    for index in one["texture"].unique().tolist():
        if TEXTURES[index] != "plain":
            rows = (one["texture"] == index).nonzero().squeeze(1)
            second[rows] = _SECOND[TEXTURES[index]](u[rows], v[rows])
    second &= inside
    if leaf is not None:
        leaf &= inside
        second &= ~leaf
    return inside, second, leaf


def _polar(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.hypot(u, v), torch.atan2(u, -v)  # angle 0 points up


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five straight-edged points; the edge runs from the tip (radius 1) to the notch (radius 0.4) half a step on."""
    radius, angle = _polar(u, v)
    step = math.pi / 5
    folded = torch.remainder(angle, 2 * step)
    folded = torch.minimum(folded, 2 * step - folded)
    x, y = radius * folded.cos(), radius * folded.sin()
    notch_x, notch_y = 0.4 * math.cos(step), 0.4 * math.sin(step)
    return (x - 1) * notch_y - y * (notch_x - 1) <= 0


def _starfish(u: Tensor, v: Tensor) -> Tensor:
    """Five round arms."""
    radius, angle = _polar(u, v)
    return radius <= 0.4 + 0.6 * (2.5 * angle).cos().abs().pow(3)


def _leaf(u: Tensor, v: Tensor) -> Tensor:
    """A slanted ellipse above the fruit."""
    a, b = (u - 0.2) * 0.8 - (v + 0.85) * 0.6, (u - 0.2) * 0.6 + (v + 0.85) * 0.8
    return (a / 0.4).square() + (b / 0.17).square() <= 1


_INSIDE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda u, v: u.square() + v.square() <= 0.81,
    "square": lambda u, v: torch.maximum(u.abs(), v.abs()) <= 0.8,
    "triangle": lambda u, v: (v <= 0.6) & (v >= math.sqrt(3) * u.abs() - 1),
    "star": _star,
    "cross": lambda u, v: (torch.minimum(u.abs(), v.abs()) <= 0.3) & (torch.maximum(u.abs(), v.abs()) <= 0.95),
    "ring": lambda u, v: (u.square() + v.square() - 0.575).abs() <= 0.325,
    "diamond": lambda u, v: u.abs() / 0.65 + v.abs() <= 1,
    "crescent": lambda u, v: (u.square() + v.square() <= 0.9) & ((u - 0.45).square() + v.square() > 0.5),
    "orange": lambda u, v: (u.square() + (v - 0.1).square() <= 0.7) | _leaf(u, v),
    "starfish": _starfish,
}
_SECOND: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "striped": lambda u, v: torch.remainder(v * 1.6, 1) < 0.45,
    "dotted": lambda u, v: (
        (torch.remainder(u * 1.8, 1) - 0.5).square() + (torch.remainder(v * 1.8, 1) - 0.5).square() <= 0.09
    ),
}


# --- what lies behind and before them ---------------------------------------------------------------------------
def _background(factors: dict[str, Tensor], size: int) -> Tensor:
    """Grey (N, size, size): the level plus a pattern."""
    level = factors["level"][:, None, None].expand(-1, size, size).clone()
    phase = _hash(factors["seed"] + 1, 3)
    for index in factors["background"].unique().tolist():
        if BACKGROUNDS[index] != "flat":
            rows = (factors["background"] == index).nonzero().squeeze(1)
            level[rows] += _PATTERN * _BACKGROUND[BACKGROUNDS[index]](phase[rows], factors["seed"][rows], size)
    return level


def _cloudy(phase: Tensor, seed: Tensor, size: int) -> Tensor:
    coarse = _hash(seed + 2, 64).view(-1, 1, 8, 8)
    return interpolate(coarse, (size, size), mode="bilinear", align_corners=True).squeeze(1)


def _wave(phase: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """±1 square waves of eight periods along x and along y, shifted by image: (N, 1, size) and (N, size, 1)."""
    along = 8 * (torch.arange(size) + 0.5) / size
    x, y = (torch.where(torch.remainder(along + phase[:, i, None], 1) < 0.5, 1.0, -1.0) for i in (0, 1))
    return x[:, None, :], y[:, :, None]


def _barred(phase: Tensor, seed: Tensor, size: int) -> Tensor:
    return _wave(phase, size)[0].expand(-1, size, -1)


def _chequered(phase: Tensor, seed: Tensor, size: int) -> Tensor:
    x, y = _wave(phase, size)
    return x * y


def _graded(phase: Tensor, seed: Tensor, size: int) -> Tensor:
    """A ramp in a direction of its own, −1 to 1 across the image's diagonal."""
    along = torch.linspace(-1, 1, size)
    angle = phase[:, 2, None, None] * math.pi
    return (along * angle.cos() + along[:, None] * angle.sin()) / math.sqrt(2)


_BACKGROUND = {"cloudy": _cloudy, "barred": _barred, "chequered": _chequered, "graded": _graded}


def _border(border: Tensor, size: int) -> Tensor:
    width = max(1, size // 32)
    frame = torch.ones(size, size, dtype=torch.bool)
    frame[width:-width, width:-width] = False
    return border.bool()[:, None, None] & frame


def _watermark(factors: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """The watermark's plate and its bright pixels, both (N, size, size)."""
    plate = torch.zeros(len(factors["seed"]), size, size, dtype=torch.bool)
    bright = torch.zeros_like(plate)
    scale = max(1, round(size / 64))
    for index in factors["watermark"].unique().tolist():
        if index == 0:
            continue
        mark = enlarge(mark_bitmap(WATERMARKS[index]), scale)
        rows = (factors["watermark"] == index).nonzero().squeeze(1)
        free = size - 2 * scale - mark.shape[0]
        x = scale + free * (factors["corner"][rows] % 2)
        y = scale + free * (factors["corner"][rows] // 2)
        _stamp(plate, bright, rows, x, y, mark)
    return plate, bright


def word_scale(word: str, size: int) -> int:
    """Pixels per bit of the font: as large as fits, up to size // 32; 0 if the word doesn't fit at all."""
    return min((size - 2) // (4 * len(word.upper()) + 1), max(1, size // 32))


def _words(factors: dict[str, Tensor], size: int, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The word's plate and its letters, both (N, size, size). `word_x`, `word_y` place it from edge (0) to edge (1)."""
    plate = torch.zeros(len(factors["seed"]), size, size, dtype=torch.bool)
    letters = torch.zeros_like(plate)
    for index in factors["word"].unique().tolist():
        if index == 0:
            continue
        scale = word_scale(words[index - 1], size)
        text = enlarge(torch.nn.functional.pad(text_bitmap(words[index - 1]), (1, 1, 1, 1)), scale)
        rows = (factors["word"] == index).nonzero().squeeze(1)
        x = (factors["word_x"][rows] * (size - text.shape[1])).round().long()
        y = (factors["word_y"][rows] * (size - text.shape[0])).round().long()
        _stamp(plate, letters, rows, x, y, text)
    return plate, letters


def _stamp(plate: Tensor, bright: Tensor, rows: Tensor, x: Tensor, y: Tensor, bitmap: Tensor) -> None:
    """Write `bitmap` into the images `rows` with its upper left corner at (x, y)."""
    at = (rows[:, None, None], (y[:, None] + torch.arange(bitmap.shape[0]))[:, :, None])
    at = (*at, (x[:, None] + torch.arange(bitmap.shape[1]))[:, None, :])
    plate[at] = True
    bright[at] = bitmap.expand(len(rows), -1, -1)


def _hash(seed: Tensor, count: int) -> Tensor:
    """Uniform numbers in [−1, 1), (N, count), from each image's seed: an integer mixing function, no generator."""
    x = seed.to(torch.int32)[:, None] * 747796405 + torch.arange(count, dtype=torch.int32)
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B
    x = (x >> 16) ^ x
    return (x & 0xFFFFFF).float().mul_(2.0**-23).sub_(1)
