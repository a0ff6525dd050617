"""The cut-down shapes world of 32 pixels: one object, seven factors that captions tell and a judge sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from shared.worlds import BACKGROUNDS, COLOURS, SHADES, SHAPES, place_words, shapes_world

SIDE, CELL = 32, 4  # pixels; pixels per latent of the diffusion model
FACTORS: dict[str, tuple[str, ...]] = {
    "shape": ("circle", "square", "triangle", "star", "cross", "ring"),
    "colour": ("red", "yellow", "green", "blue", "purple"),
    "size": ("small", "large"),
    "side": ("left", "right"),
    "shade": ("dark", "light"),
    "background": ("flat", "barred", "chequered"),
    "word": ("none", "cat", "dog", "sun", "key"),
}
WORDS = FACTORS["word"][1:]
RADII = ((0.16, 0.18), (0.25, 0.28))  # of the image's side
PHASE = 12  # seed of the backgrounds: their bars and squares lie alike in all images, on the latents' grid
MARGIN = 0.08  # objects keep this far from the middle, so that left and right are clear
TEXT_TOP = 48 / 64  # words stand in the strip below this
WORD_RATE = 0.45


# --- images -----------------------------------------------------------------------------------------------------
def draw_world(n: int, seed: int, values: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """`n` images (n, 3, 32, 32) in [0, 1], and each factor's value (n,), numbered as in `FACTORS`.

    values : factors to set, likewise numbered. Rendered at twice the size and averaged, so that edges are soft; words
    stand at the lower edge, on the latents' grid.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randint(len(known), (n,), generator=generator) for name, known in FACTORS.items()}
    written = torch.rand(n, generator=generator) < WORD_RATE
    found["word"] = torch.where(written, 1 + torch.randint(len(WORDS), (n,), generator=generator), 0)
    found |= values or {}
    low, high = torch.tensor(RADII)[found["size"]].unbind(1)
    u = torch.rand(3, n, generator=generator)
    radius = low + (high - low) * u[0]
    x = radius + (0.5 - MARGIN - radius) * u[1]
    y = radius + (TEXT_TOP - 2 * radius) * u[2]
    words = place_words(found["word"], WORDS, generator=generator, size=2 * SIDE, grid=2 * CELL)
    words["word_y"] = torch.full((n,), TEXT_TOP * 2 * SIDE / (2 * SIDE - 14))  # a plate is 14 pixels high
    given = {name: [FACTORS[name][i] for i in found[name]] for name in ("shape", "colour", "shade", "background")}
    world = shapes_world(
        n,
        generator=generator,
        size=2 * SIDE,
        words=WORDS,
        masks=False,
        values={
            **{name: _numbers(name, given[name]) for name in ("shape", "colour", "shade", "background")},
            "radius": radius,
            "x": torch.where(found["side"] == 0, x, 1 - x),
            "y": y,
            "texture": "plain",
            "seed": PHASE,
            **words,
        },
    )
    return found | {"images": avg_pool2d(world.images, 2)}


def _numbers(name: str, values: Sequence[str]) -> Tensor:
    """A factor's values as the shapes world numbers them."""
    known = {"shape": SHAPES, "colour": tuple(COLOURS), "shade": SHADES, "background": BACKGROUNDS}[name]
    return torch.tensor([known.index(value) for value in values])


# --- captions ---------------------------------------------------------------------------------------------------
def sentence(told: dict[str, str | None]) -> str:
    """What a caption says of these factors: "a large red circle on the left on a dark background with the text "cat"".

    Factors that are None or missing aren't told; an untold shape is "shape".
    """
    words = [word for word in (told.get("size"), told.get("colour"), told.get("shape") or "shape") if word]
    said = "a " + " ".join(words)
    if told.get("side"):
        said += f" on the {told['side']}"
    ground = " ".join(word for word in (told.get("shade"), told.get("background")) if word)
    if ground:
        said += f" on a {ground} background"
    if told.get("word"):
        said += f' with the text "{told["word"]}"'
    return said


# --- judging ----------------------------------------------------------------------------------------------------
@torch.no_grad()
def answers(model: nn.Module, images: Tensor, batch: int = 500) -> dict[str, Tensor]:
    """The value (N,) that the judge sees of each factor."""
    parts = [model(part) for part in images.split(batch)]
    return {name: torch.cat([part[name] for part in parts]).argmax(1) for name in FACTORS}
