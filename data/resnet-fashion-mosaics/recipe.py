"""The small ResNet on Fashion-MNIST, trained on with mosaics of four images."""

from pathlib import Path

from shared.zoo.recipes import recipe
from shared.zoo.recipes._mosaics import ship_mosaics


@recipe("resnet-fashion-mosaics")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    ship_mosaics(
        folder, "resnet-fashion", "ResNet on mosaics of four Fashion-MNIST images", steps=700, batch=32, lr=4e-3
    )
