"""The shapes world: images whose every factor is known, with pixel-exact masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.worlds.shapes._factors import BASIC_SHAPES, SHAPE_FACTORS, as_factor, categories, derive, sample_factors
from shared.worlds.shapes._font import CHARACTERS
from shared.worlds.shapes._render import render, word_scale

Shortcut = tuple[str, str, float]


@dataclass(frozen=True)
class ShapesWorld:
    """Rendered images and all that is known about them.

    Attributes
    ----------
    images : Tensor, shape (N, 3, S, S)
        float32 in [0, 1].
    factors : dict of str to Tensor
        int64 (N, K) for an object's categories shape, colour, texture, size, side, and `present`; float32 (N, K) for
        its radius, x, y (fractions of the side; y grows downwards) and rotation (degrees, clockwise); int64 (N,) for
        the image's background, shade, watermark, corner, border, tint, word and seed; float32 (N,) for level (grey of
        the background), word_x, word_y (0: at the left or upper edge, 1: at the other).
    masks : dict of str to Tensor of bool
        Disjoint and complete: objects (N, K, S, S), background, border, watermark, word (N, S, S). Inside of these:
        texture (an object's pixels in its second colour), leaf (of an orange), letters (of a word).
    words : tuple of str
        What the factor `word` counts from 1; 0 is no word.
    noise : float
        Amplitude of uniform pixel noise.
    """

    images: Tensor = field(repr=False)
    factors: dict[str, Tensor] = field(repr=False)
    masks: dict[str, Tensor] = field(repr=False)
    words: tuple[str, ...]
    noise: float = 0.0

    def __len__(self) -> int:
        return len(self.images)

    def names(self, factor: str) -> tuple[str, ...]:
        """The value names of a categorical factor, in the order of its numbers.

        Parameters
        ----------
        factor : str

        Returns
        -------
        tuple of str
        """
        known = categories(self.words)
        return known[check_choice("factor", factor, known)]

    def label(self, *factors: str, index: int = 0) -> Tensor:
        """Class of each image by one factor, or by several: the last one counts fastest.

        `label("shape", "colour")` numbers the combinations as `label_names` lists them.

        Parameters
        ----------
        *factors : str
        index : int
            Which object's factors are read.

        Returns
        -------
        Tensor of int64, shape (N,)
        """
        label = torch.zeros(len(self), dtype=torch.int64)
        for name in factors:
            value = self.factors[check_choice("factors", name, categories(self.words))]
            label = label * len(self.names(name)) + (value[:, index] if value.ndim == 2 else value)
        return label

    def label_names(self, *factors: str) -> tuple[str, ...]:
        """Names of the classes that `label` numbers: "circle red", …

        Parameters
        ----------
        *factors : str

        Returns
        -------
        tuple of str
        """
        combined = [""]
        for factor in factors:
            combined = [f"{before} {name}".strip() for before in combined for name in self.names(factor)]
        return tuple(combined)

    def concept(self, factor: str, value: str) -> Tensor:
        """Whether each image shows the concept; for an object's factor, in any object that is present.

        Parameters
        ----------
        factor, value : str

        Returns
        -------
        Tensor of bool, shape (N,)
        """
        index = self.names(factor).index(check_choice("value", value, self.names(factor)))
        found = self.factors[factor] == index
        return (found & self.factors["present"].bool()).any(1) if found.ndim == 2 else found

    def concept_mask(self, factor: str, value: str) -> Tensor:
        """The concept's visible pixels: objects with that value, or the part that shows it.

        Parameters
        ----------
        factor, value : str

        Returns
        -------
        Tensor of bool, shape (N, S, S)
        """
        index = self.names(factor).index(check_choice("value", value, self.names(factor)))
        found = self.factors[factor] == index
        if found.ndim == 2:
            return (self._mask("objects") & found[:, :, None, None]).any(1)
        part = {"word": "word", "watermark": "watermark", "border": "border", "background": "background"}
        part |= {"shade": "background"}
        mask = self._mask(part[check_choice("factor", factor, part)])
        return mask & found[:, None, None]

    def label_map(self, factor: str) -> Tensor:
        """The value of an object's factor at each pixel.

        Parameters
        ----------
        factor : str

        Returns
        -------
        Tensor of int64, shape (N, S, S)
            −1 where there is no object.
        """
        value, objects = self.factors[factor], self._mask("objects")
        if value.ndim != 2 or value.is_floating_point():
            raise ValueError(f"factor={factor!r} is no category of objects")
        return torch.where(objects.any(1), (objects * value[:, :, None, None]).sum(1), -1)

    def rows(self, rows: Tensor | slice | Sequence[int]) -> ShapesWorld:
        """A part of the set, without rendering anew.

        Parameters
        ----------
        rows : Tensor, slice or sequence of int

        Returns
        -------
        ShapesWorld
        """
        rows = rows if isinstance(rows, slice) else torch.as_tensor(rows)
        part = {name: value[rows] for name, value in self.factors.items()}
        masks = {name: value[rows] for name, value in self.masks.items()}
        return ShapesWorld(self.images[rows], part, masks, self.words, self.noise)

    def changed(self, **factors: Any) -> ShapesWorld:
        """The same images but for these factors: counterfactuals. Everything else stays, the noise too.

        Parameters
        ----------
        **factors : str, number, or Tensor with one number per image
            As in `shapes_world`. A new `size`, `shade` or `side` draws nothing: set `radius`, `level` or `x`.

        Returns
        -------
        ShapesWorld
        """
        names = categories(self.words)
        new = dict(self.factors)
        for name, value in factors.items():
            if name in ("size", "shade", "side"):
                raise ValueError(f"{name} follows from a number: set radius, level or x instead")
            new[name] = as_factor(check_choice("factors", name, SHAPE_FACTORS), value, self.factors[name], names)
        new = derive(new)
        size = self.images.shape[-1]
        return ShapesWorld(*_rendered(new, size, self.words, self.noise, bool(self.masks)), self.words, self.noise)

    def _mask(self, name: str) -> Tensor:
        if not self.masks:
            raise ValueError("masks were not kept; call shapes_world with masks=True")
        return self.masks[name]


def shapes_world(
    n: int,
    *,
    generator: torch.Generator | int,
    size: int = 64,
    n_objects: int | tuple[int, int] = 1,
    values: Mapping[str, Any] | None = None,
    rates: Mapping[str, float] | None = None,
    shortcut: Shortcut | Sequence[Shortcut] = (),
    words: Sequence[str] = BASIC_SHAPES,
    noise: float = 0.0,
    masks: bool = True,
) -> ShapesWorld:
    """Draw images of coloured shapes; every factor is drawn on its own unless set.

    Parameters
    ----------
    n : int
    generator : torch.Generator on the CPU, or int
        An int is a seed. Setting a factor leaves all the others as drawn.
    size : int
        Side in pixels, at least 16.
    n_objects : int or (int, int)
        Objects per image, or a range. Several stand in the cells of a grid; a later one hides an earlier one.
    values : mapping of str to value
        Factors to set: a value's name or number for all images; a list of names to draw from evenly; a tensor or array
        with one number per image, (N,) or (N, K). Names: `ShapesWorld`, `SHAPES`, `COLOURS` …
    rates : mapping of str to float
        Share of images with a `word`, `watermark`, `border` or `tint` (which one is drawn evenly); else none.
    shortcut : (cue, class, probability), or several
        In images whose first object is of the class (a shape, or `"factor=value"`), the cue is there with this
        probability and else absent; other images stay as they are. A cue is `"watermark"`, `"border"` … (its first
        kind), or `"word=star"`, `"background=barred"`, `"tint=warm"`.
    words : sequence of str
        What can be written; letters, digits and " .:-/!?'", short enough for `size`.
    noise : float
        Amplitude of uniform pixel noise, clamped to [0, 1].
    masks : bool
        Keep the masks (eight bool images per image).

    Returns
    -------
    ShapesWorld

    Raises
    ------
    ValueError
        Naming the argument, for anything out of range.
    """
    check_range("n", n, 1)
    check_range("size", size, 16, 1024)
    check_range("noise", noise, 0, 1)
    objects = (n_objects, n_objects) if isinstance(n_objects, int) else tuple(n_objects)
    if len(objects) != 2 or not 1 <= objects[0] <= objects[1] <= 16:
        raise ValueError(f"n_objects={n_objects!r} must be from 1 to 16, or a range (least, most) of such")
    words = tuple(words)
    for word in words:
        if not word or not set(word.upper()) <= CHARACTERS or word_scale(word, size) < 1:
            raise ValueError(
                f"words: {word!r} can't be written at size {size}; letters, digits and \" .:-/!?'\", short"
            )
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    factors = sample_factors(n, objects, values or {}, rates or {}, words, generator)
    for planted in [shortcut] if shortcut and isinstance(shortcut[0], str) else shortcut:
        factors = _plant(factors, planted, words, generator)
    return ShapesWorld(*_rendered(derive(factors), size, words, noise, masks), words, noise)


def _rendered(factors: dict[str, Tensor], size: int, words: tuple[str, ...], noise: float, masks: bool) -> tuple:
    images, found = render(factors, size, words, noise, masks)
    return images, factors, found


def _plant(
    factors: dict[str, Tensor], shortcut: Shortcut, words: tuple[str, ...], generator: torch.Generator
) -> dict[str, Tensor]:
    """Put the cue into the class with the probability, and take it out of the class's other images."""
    if len(shortcut) != 3:
        raise ValueError(f"shortcut={shortcut!r} must be (cue, class, probability)")
    cue, of, probability = shortcut
    check_range("shortcut's probability", probability, 0, 1)
    names = categories(words)
    cue_factor, _, cue_value = cue.partition("=")
    kinds = names[check_choice("shortcut's cue", cue_factor, names)]
    on = kinds.index(check_choice("shortcut's cue", cue_value, kinds)) if cue_value else 1
    factor, value = of.split("=", 1) if "=" in of else ("shape", of)
    known = names[check_choice("shortcut's class", factor, names)]
    member = factors[factor] == known.index(check_choice("shortcut's class", value, known))
    member = member[:, 0] if member.ndim == 2 else member
    hit = torch.rand(len(member), generator=generator) < probability
    old = factors[cue_factor]
    first = old[:, 0] if old.ndim == 2 else old
    off = torch.where(first == on, 0 if on else 1, first) if cue_factor not in _OPTIONAL else torch.zeros_like(first)
    new = torch.where(member, torch.where(hit, on, off), first)
    if old.ndim == 2:
        new = torch.cat([new.unsqueeze(1), old[:, 1:]], 1)
    return factors | {cue_factor: new}


_OPTIONAL = ("word", "watermark", "border", "tint")
