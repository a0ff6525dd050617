"""A small vision transformer on Fashion-MNIST."""

from pathlib import Path

from shared.zoo.recipes import recipe
from shared.zoo.recipes._classifiers import fashion

CLASSIFIER = fashion("Vision transformer", "vit", {"patch_size": 4}, steps=2800, lr=1.5e-3)


@recipe("vit-fashion")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    CLASSIFIER.ship(folder)
