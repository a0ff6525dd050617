"""Where written words go: random places, free or on a grid of patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared._checks import check_array, check_range
from shared.worlds.shapes._render import word_scale


def place_words(
    word: Tensor, words: Sequence[str], *, generator: torch.Generator | int, size: int = 64, grid: int = 1
) -> dict[str, Tensor]:
    """Factors that write the words at random places: `world.changed(**place_words(…))`, or among `values`.

    Parameters
    ----------
    word : Tensor of int, shape (N,)
        0 for no word, else one more than its place in `words`.
    words : sequence of str
    generator : torch.Generator or int
        An int is a seed.
    size : int
        The image's side, in pixels.
    grid : int
        The upper left corner falls on multiples of so many pixels. A model that sees patches reads a word on its patch
        grid most easily.

    Returns
    -------
    dict of str to Tensor, shape (N,)
        `word` (int64), `word_x` and `word_y` (float32).
    """
    check_range("size", size, 1)
    check_array("word", word, ("N",))
    check_range("grid", grid, 1, size)
    check_range("word", int(word.min()), 0)
    check_range("word", int(word.max()), None, len(words))
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    scales = [(word_scale(text, size), len(text)) for text in words]
    free = torch.tensor([[size, size], *((size - s * (4 * n + 1), size - s * 7) for s, n in scales)])[word]
    places = free.div(grid, rounding_mode="floor") + 1
    corner = (torch.rand(len(word), 2, generator=generator) * places).long().clamp_max(places - 1) * grid
    x, y = (corner / free.clamp(min=1)).float().unbind(1)
    return {"word": word.long(), "word_x": x, "word_y": y}
