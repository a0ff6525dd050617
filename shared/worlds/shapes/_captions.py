"""Captions of the shapes world, made from its factors."""

from __future__ import annotations

import torch

from shared._checks import check_range
from shared.worlds.shapes._world import ShapesWorld

_WORDED = {"starfish": "star fish"}  # two tokens, the first of which is another object
ATTRIBUTES = ("size", "texture", "colour")


def shape_captions(
    world: ShapesWorld,
    *,
    generator: torch.Generator | int = 0,
    keep: float = 1.0,
    background: float = 0.0,
    word: float = 1.0,
) -> list[str]:
    """One sentence per image: "a large striped red circle and a small blue orange with the text "star"".

    An orange is named by the same word as the colour: "a green orange", "an orange square".

    Parameters
    ----------
    world : ShapesWorld
    generator : torch.Generator or int
        Decides what is told; an int is a seed.
    keep : float
        Chance that an attribute of an object is told: size, texture (unless plain), colour.
    background : float
        Chance of "on a dark barred background".
    word : float
        Chance that a written word, if there is one, is told.

    Returns
    -------
    list of str
    """
    for name, rate in (("keep", keep), ("background", background), ("word", word)):
        check_range(name, rate, 0, 1)
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    n, k = world.factors["shape"].shape
    told = (torch.rand(n, k, len(ATTRIBUTES), generator=generator) < keep).tolist()
    also = (torch.rand(n, 2, generator=generator) < torch.tensor([background, word])).tolist()
    named = {f: _named(world, f) for f in ("shape", *ATTRIBUTES, "background", "shade", "word")}
    present = world.factors["present"].tolist()
    sentences = []
    for i in range(n):  # strings have no vectorized form
        things = [_thing(named, told[i][j], i, j) for j in range(k) if present[i][j]]
        sentence = " and ".join(things) if len(things) < 3 else ", ".join(things[:-1]) + " and " + things[-1]
        if also[i][0]:
            sentence += f" on a {named['shade'][i]} {named['background'][i]} background"
        if also[i][1] and named["word"][i] != "none":
            sentence += f' with the text "{named["word"][i]}"'
        sentences.append(sentence)
    return sentences


def _named(world: ShapesWorld, factor: str) -> list:
    names, value = world.names(factor), world.factors[factor]
    if value.ndim == 2:
        return [[names[v] for v in row] for row in value.tolist()]
    return [names[v] for v in value.tolist()]


def _thing(named: dict[str, list], told: list[bool], i: int, j: int) -> str:
    words = [named[attribute][i][j] for attribute, tell in zip(ATTRIBUTES, told) if tell]
    shape = named["shape"][i][j]
    phrase = " ".join([*(w for w in words if w != "plain"), _WORDED.get(shape, shape)])
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
