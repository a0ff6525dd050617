"""The shapes world, where every factor and pixel is known, helpers for real photos, and CLIP by one set of calls."""

from shared.vision._captions import captions
from shared.vision._clip import (
    PATCH_FEATURES,
    ZeroShotHead,
    correlation_pool,
    encode_image,
    encode_text,
    hidden_patches,
    patch_features,
)
from shared.vision._concepts import CONCEPTS, concept_images
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
from shared.vision._words import place_words
from shared.vision._world import ShapesWorld, shapes_world

__all__ = [
    "BACKGROUNDS",
    "BASIC_SHAPES",
    "BORDERS",
    "COLOURS",
    "CONCEPTS",
    "CORNERS",
    "FACTORS",
    "PATCH_FEATURES",
    "SHADES",
    "SHAPES",
    "SIDES",
    "SIZES",
    "TEXTURES",
    "TINTS",
    "WATERMARKS",
    "ShapesWorld",
    "ZeroShotHead",
    "captions",
    "cell_mask",
    "concept_images",
    "correlation_pool",
    "denormalise",
    "encode_image",
    "encode_text",
    "grid",
    "hidden_patches",
    "normalise",
    "patch_features",
    "place_words",
    "resize",
    "shapes_world",
]
