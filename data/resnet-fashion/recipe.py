"""A small ResNet on Fashion-MNIST."""

from pathlib import Path

from shared.zoo.recipes import recipe
from shared.zoo.recipes._classifiers import RESNET, fashion

CLASSIFIER = fashion("ResNet", "small-resnet", {"channels": 1, "n_classes": 10, **RESNET}, steps=1870, lr=4e-3)


@recipe("resnet-fashion")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    CLASSIFIER.ship(folder)
