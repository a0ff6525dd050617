"""A small B-cos network on Fashion-MNIST."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from shared.zoo.recipes import recipe
from shared.zoo.recipes._classifiers import fashion


def each_class_alone(logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy, as B-cos networks are trained."""
    return binary_cross_entropy_with_logits(logits, one_hot(y, logits.shape[1]).to(logits))


CLASSIFIER = replace(
    fashion("B-cos network", "small-bcos", {"channels": 1, "n_classes": 10}, steps=1100, lr=1.5e-2),
    image={"input_size": (1, 28, 28), "mean": (0.0,), "std": (1.0,)},  # it encodes [x, 1 - x] itself
    loss_of=each_class_alone,
)


@recipe("bcos-fashion")
def make(folder: Path) -> None:
    """Train, measure, and write the checkpoint and its card."""
    CLASSIFIER.ship(folder)
