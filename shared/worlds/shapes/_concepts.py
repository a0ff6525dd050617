"""A cut-down shapes world for editing: eight binary concepts, little else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from shared.worlds.shapes._world import shapes_world

IMAGE_CONCEPTS = ("watermark", "striped", "word", "border", "large", "left", "red", "dark")
_SHAPES = ("circle", "square", "cross", "diamond")
_OTHER_COLOURS = (2, 3, 4)  # yellow, green, blue


def concept_images(Y: Tensor, *, generator: torch.Generator | int) -> Tensor:
    """Images that show the concepts they are labelled with.

    The generator decides all the rest (one of four shapes, colour unless red, grey of the ground, small shifts), so two
    sets of labels with one seed give counterfactuals. The word stands at the upper edge. Rendered at twice the size
    and averaged.

    Parameters
    ----------
    Y : Tensor of 0 and 1, shape (n, 8)
        In the order of `IMAGE_CONCEPTS`.
    generator : torch.Generator or int
        An int is a seed.

    Returns
    -------
    Tensor, shape (n, 3, 32, 32)
        In [0, 1].

    Raises
    ------
    ValueError
        For other shapes and values.
    """
    if Y.ndim != 2 or Y.shape[1] != len(IMAGE_CONCEPTS) or len(Y) == 0 or not bool(((Y == 0) | (Y == 1)).all()):
        raise ValueError(
            f"Y has shape {tuple(Y.shape)}; expected (n, {len(IMAGE_CONCEPTS)}) with values 0 and 1, n > 0"
        )
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    n = len(Y)
    Y = Y.long().cpu()
    u = torch.rand(4, n, generator=generator)
    watermark, striped, word, border, large, left, red, dark = Y.T
    aside = 0.14 + 0.06 * u[0]
    values = {
        "shape": list(_SHAPES),
        "watermark": watermark,
        "texture": striped,
        "word": word,
        "border": border,
        "radius": torch.where(large == 1, 0.28, 0.18) + 0.01 * u[1],
        "x": torch.where(left == 1, 0.5 - aside, 0.5 + aside),
        "y": 0.54 + 0.08 * u[2],
        "colour": torch.where(red == 1, 0, torch.tensor(_OTHER_COLOURS)[(len(_OTHER_COLOURS) * u[3]).long()]),
        "shade": 1 - dark,
        "background": "flat",
        "rotation": 0.0,
        "word_x": 0.5,
        "word_y": 0.0,
    }
    world = shapes_world(n, generator=generator, values=values, words=["sale"], noise=0.05, masks=False)
    return avg_pool2d(world.images, 2)
