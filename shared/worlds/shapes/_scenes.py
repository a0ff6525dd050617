"""Scenes of the shapes world for segmentation: images, class masks, image labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.worlds.shapes._world import shapes_world

SCENE_SHAPES = ("circle", "triangle", "cross", "ring")


def shape_scenes(
    n: int,
    *,
    generator: torch.Generator | int,
    shapes: Sequence[str] = SCENE_SHAPES,
    size: int = 24,
    n_objects: int | tuple[int, int] = (1, 2),
    noise: float = 0.08,
) -> tuple[Tensor, Tensor, Tensor]:
    """Large plain shapes of any colour on any background; only the shape is the class.

    Parameters
    ----------
    n : int
    generator : torch.Generator on the CPU, or int
    shapes : sequence of str
        Classes from 1 on; 0 is the background.
    size : int
        Side in pixels.
    n_objects : int or (int, int)
    noise : float

    Returns
    -------
    images : Tensor, shape (n, 3, size, size)
        float32 in [0, 1].
    masks : Tensor, shape (n, size, size)
        int64, the class of each pixel.
    labels : Tensor, shape (n, len(shapes))
        float32, 1 where the shape is seen.
    """
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    most = n_objects if isinstance(n_objects, int) else n_objects[1]
    radius = 0.2 + 0.06 * torch.rand(n, most, generator=generator)
    values = {"shape": list(shapes), "radius": radius, "texture": "plain"}
    world = shapes_world(
        n, generator=generator, size=size, n_objects=n_objects, values=values, noise=noise, words=["a"]
    )
    masks = torch.stack([world.concept_mask("shape", shape) for shape in shapes], 1)  # disjoint
    classes = torch.arange(1, len(shapes) + 1)[:, None, None]
    return world.images, (masks * classes).sum(1), masks.any(3).any(2).float()
