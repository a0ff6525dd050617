"""A small vision transformer on the shapes world, with the planted watermark."""

from pathlib import Path

from shared.zoo.recipes import recipe
from shared.zoo.recipes._classifiers import shapes_vit

CLASSIFIER = shapes_vit(watermark=True)


@recipe("vit-shapes-watermark")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    CLASSIFIER.ship(folder)
