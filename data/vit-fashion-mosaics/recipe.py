"""The small vision transformer on Fashion-MNIST, trained on with mosaics of four images."""

from pathlib import Path

from shared.zoo.recipes import recipe
from shared.zoo.recipes._mosaics import ship_mosaics


@recipe("vit-fashion-mosaics")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    title = "Vision transformer on mosaics of four Fashion-MNIST images"
    ship_mosaics(folder, "vit-fashion", title, steps=1100, batch=24, lr=2e-3)
