"""The shapes world, where every factor and pixel is known, and helpers for real photos."""

from shared.vision._captions import captions
from shared.vision._factors import (
    BACKGROUNDS,
    BASIC_SHAPES,
    BORDERS,
    COLOURS,
    CORNERS,
    FACTORS,
    SHADES,
    SHAPES,
    SIDES,
    SIZES,
    TEXTURES,
    TINTS,
    WATERMARKS,
)
from shared.vision._photos import cell_mask, denormalise, grid, normalise, resize
from shared.vision._world import ShapesWorld, shapes_world

__all__ = [
    "BACKGROUNDS",
    "BASIC_SHAPES",
    "BORDERS",
    "COLOURS",
    "CORNERS",
    "FACTORS",
    "SHADES",
    "SHAPES",
    "SIDES",
    "SIZES",
    "TEXTURES",
    "TINTS",
    "WATERMARKS",
    "ShapesWorld",
    "captions",
    "cell_mask",
    "denormalise",
    "grid",
    "normalise",
    "resize",
    "shapes_world",
]
