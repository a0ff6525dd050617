"""The shapes world, where every factor and pixel is known, helpers for real photos, and CLIP by one set of calls."""

from shared.vision._clip import (
    PATCH_FEATURES,
    ZeroShotHead,
    correlation_pool,
    encode_image,
    encode_text,
    hidden_patches,
    patch_features,
)
from shared.vision._photos import cell_mask, denormalise, grid, normalise, resize

__all__ = [
    "PATCH_FEATURES",
    "ZeroShotHead",
    "cell_mask",
    "correlation_pool",
    "denormalise",
    "encode_image",
    "encode_text",
    "grid",
    "hidden_patches",
    "normalise",
    "patch_features",
    "resize",
]
