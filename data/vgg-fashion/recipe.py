"""A small VGG on Fashion-MNIST."""

from pathlib import Path

from shared.zoo.recipes import recipe
from shared.zoo.recipes._classifiers import fashion

CLASSIFIER = fashion("VGG", "small-vgg", {"channels": 1, "n_classes": 10, "side": 28}, steps=1870, lr=2e-3)


@recipe("vgg-fashion")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    CLASSIFIER.ship(folder)
