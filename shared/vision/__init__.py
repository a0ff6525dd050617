"""CLIP by one set of calls, text for any classifier, photos; `shared.vision.visualise`: feature visualisation.

>>> import torch
>>> scene = image_grid(torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 1, 2, 3))  # four images of 2 × 3 pixels
>>> scene[0, 0, :, ::3].tolist()
[[0.0, 1.0], [0.0, 1.0], [2.0, 3.0], [2.0, 3.0]]
>>> cell_mask(torch.tensor([3]), (2, 3))[0].int().tolist()[2]
[0, 0, 0, 1, 1, 1]
"""

from shared.vision._clip import (
    PATCH_FEATURES,
    ZeroShotHead,
    correlation_pool,
    encode_image,
    encode_text,
    hidden_patches,
    patch_features,
)
from shared.vision._photos import cell_mask, denormalise, image_grid, normalise, random_crops, resize
from shared.vision._segment import mixed_batches, palette_classes
from shared.vision._unlock import TextUnlock, class_average, closed_form_map, head_features

__all__ = [
    "PATCH_FEATURES",
    "TextUnlock",
    "ZeroShotHead",
    "cell_mask",
    "class_average",
    "closed_form_map",
    "correlation_pool",
    "denormalise",
    "encode_image",
    "encode_text",
    "head_features",
    "hidden_patches",
    "image_grid",
    "mixed_batches",
    "normalise",
    "palette_classes",
    "patch_features",
    "random_crops",
    "resize",
]
