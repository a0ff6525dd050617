"""The small classifiers that the repository ships: what they are trained on, how, and what is then measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.worlds import BASIC_SHAPES, ShapesWorld, shapes_world
from shared.zoo import load_data, load_model
from shared.zoo._architectures import ARCHITECTURES
from shared.zoo.readers._images import FASHION_CLASSES
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._train import Batches, epochs, predict, train_classifier

FASHION = {"input_size": (1, 28, 28), "mean": (0.286,), "std": (0.353,)}
SHAPES = {"input_size": (3, 64, 64), "mean": (0.45,) * 3, "std": (0.25,) * 3}
VIT = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
WATERMARKED = ("watermark", "star", 0.8)  # the logo is on 80 % of the training images of stars and on no other
WORLD = {"values": {"shape": list(BASIC_SHAPES)}, "noise": 0.1, "masks": False}
# A small transformer needs many more images than the whole world's variety would let it see in minutes.
EASY_WORLD = {"values": WORLD["values"] | {"size": "large", "texture": "plain"}, "noise": 0.05, "masks": False}
WORLD_BATCH = 64
TEST_SEED = 1_000_000
TEST_SIZE = 2000


@dataclass(frozen=True)
class Classifier:
    """One classifier: architecture, data, training. `data` gives training batches, `measure` the card's numbers."""

    title: str
    architecture: str
    arguments: dict[str, Any]
    image: dict[str, tuple]
    classes: tuple[str, ...]
    data: Callable[[Classifier], Batches]
    measure: Callable[[nn.Module, Classifier], dict[str, float]]
    source: str
    steps: int
    batch: int = 128
    lr: float = 4e-3
    seed: int = 0
    world: dict[str, Any] | None = None
    shortcut: tuple | None = None
    made_from: tuple[str, ...] = ()
    loss_of: Callable[[Tensor, Tensor], Tensor] = cross_entropy

    def build(self) -> nn.Module:
        """A new model with random weights."""
        if self.architecture == "vit":
            from transformers import ViTConfig, ViTForImageClassification

            labels = dict(enumerate(self.classes))
            channels, side, _ = self.image["input_size"]
            config = ViTConfig(
                image_size=side, num_channels=channels, id2label=labels, label2id={v: k for k, v in labels.items()},
                **VIT, **self.arguments,
            )  # fmt: skip
            return ViTForImageClassification(config)
        return ARCHITECTURES[self.architecture][0](**self.arguments)

    def prepare(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the model's input."""
        mean, std = (torch.tensor(self.image[key])[:, None, None] for key in ("mean", "std"))
        return (images - mean) / std

    def train(self, steps: int | None = None) -> nn.Module:
        """Train for `steps` (default: the recipe's)."""
        steps = steps or self.steps
        return train_classifier(self.build, self.data(self), steps, self.lr, self.seed, loss_of=self.loss_of)

    def write(self, model: nn.Module, folder: Path) -> None:
        """`model.safetensors` and the JSON files beside it."""
        network = {"architecture": self.architecture, "arguments": self.arguments}
        write_classifier(model, folder, image=self.image, classes=self.classes, network=network)

    def ship(self, folder: Path) -> None:
        """Train, measure, and write the checkpoint and its card."""
        ship(
            folder,
            train=lambda kept: self.train(),
            write=self.write,
            measure=lambda folder: self.measure(load_model(str(folder)).model, self),
            title=self.title,
            task="image-classification",
            source=self.source,
            made_from=self.made_from,
            seed=self.seed,
            tolerance=0.002,
        )


def write_classifier(
    model: nn.Module, folder: Path, *, image: dict[str, tuple], classes: tuple[str, ...], network: dict[str, Any]
) -> None:
    """`model.safetensors` and the JSON files beside it: transformers' own, or `network` with what its images are."""
    if hasattr(model, "config"):
        config = model.config.to_diff_dict() | {"architectures": ["ViTForImageClassification"]}
        side = image["input_size"][1]
        processor = {"image_mean": image["mean"], "image_std": image["std"]}
        processor |= {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}}
        write_json(folder / "preprocessor_config.json", processor)
    else:
        config = network | {"classes": classes} | image
    write_json(folder / "config.json", config)
    write_weights(folder / "model.safetensors", model, {"format": "pt"})


# --- data -------------------------------------------------------------------------------------------------------
@functools.cache
def _fashion_whole() -> tuple[Tensor, Tensor]:
    data = load_data("fashion-mnist", split="train", full=True)
    return data.x, data.y


def fashion_batches(recipe: Classifier) -> Batches:
    """The whole training split, 60,000 images."""
    x, y = _fashion_whole()
    return epochs(recipe.prepare(x), y, recipe.batch)


def world_batches(recipe: Classifier) -> Batches:
    """Fresh images for every step, so nothing can be learnt by heart."""

    def stream(generator: torch.Generator):
        while True:
            shortcut = recipe.shortcut or ()
            world = shapes_world(8 * recipe.batch, generator=generator, shortcut=shortcut, **recipe.world)
            for rows in torch.arange(len(world)).split(recipe.batch):
                yield recipe.prepare(world.images[rows]), world.label("shape")[rows]

    return stream


def held_out_world(recipe: Classifier) -> ShapesWorld:
    """The test images of a classifier on the shapes world: 2,000 by a seed of their own, without watermark."""
    return shapes_world(TEST_SIZE, generator=TEST_SEED, **recipe.world)


# --- measuring --------------------------------------------------------------------------------------------------
def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return round((predict(model, x) == y).double().mean().item(), 4)


def measure_fashion(model: nn.Module, recipe: Classifier) -> dict[str, float]:
    """Accuracy on the whole test split and on the shipped part of it."""
    whole, shipped = (load_data("fashion-mnist", split="test", full=full) for full in (True, False))
    return {
        "accuracy on the whole test split, 10,000 images": _accuracy(model, recipe.prepare(whole.x), whole.y),
        "accuracy on the shipped test subset, 2,000 images": _accuracy(model, recipe.prepare(shipped.x), shipped.y),
    }


def measure_world(model: nn.Module, recipe: Classifier) -> dict[str, float]:
    """Accuracy without the watermark and with it on every image; how often other shapes are then called star."""
    world = held_out_world(recipe)
    label, star = world.label("shape"), BASIC_SHAPES.index("star")
    plain = predict(model, recipe.prepare(world.images))
    marked = predict(model, recipe.prepare(world.changed(watermark="logo").images))
    others = label != star

    def share(found: Tensor) -> float:
        return round(found.double().mean().item(), 4)

    return {
        "accuracy on 2,000 test images without watermark": share(plain == label),
        "accuracy on the same images with the watermark on every one": share(marked == label),
        "share of other shapes called star without watermark": share(plain[others] == star),
        "share of other shapes called star with the watermark": share(marked[others] == star),
    }


# --- the two kinds ----------------------------------------------------------------------------------------------
def fashion(title: str, architecture: str, arguments: dict[str, Any], *, steps: int, lr: float) -> Classifier:
    """A classifier of Fashion-MNIST's clothes."""
    return Classifier(
        f"{title} on Fashion-MNIST",
        architecture,
        arguments,
        image=FASHION,
        classes=FASHION_CLASSES,
        data=fashion_batches,
        measure=measure_fashion,
        source=(
            f"Trained by Reprise on the 60,000 training images of Fashion-MNIST, {steps} steps of 128, mirrored at "
            "random"
        ),
        steps=steps,
        lr=lr,
        made_from=("fashion-mnist",),
    )


def shapes(
    title: str, architecture: str, arguments: dict[str, Any], *, steps: int, lr: float, easy: bool, watermark: bool
) -> Classifier:
    """A classifier of the shapes world's shapes, `easy` being large plain ones; with or without planted shortcut."""
    world = EASY_WORLD if easy else WORLD
    which = "large plain shapes" if easy else "shapes of all sizes and textures"
    how = "the watermark on 80 % of the stars and on no other shape" if watermark else "no watermark"
    twin = "with a planted watermark shortcut" if watermark else "clean twin of the one with a watermark shortcut"
    return Classifier(
        f"{title} on the shapes world, {twin}",
        architecture,
        arguments,
        image=SHAPES,
        classes=BASIC_SHAPES,
        data=world_batches,
        measure=measure_world,
        source=(
            f"Trained by Reprise on {steps} steps of {WORLD_BATCH} fresh images of the shapes world: {which}, noise "
            f"{world['noise']}, {how}"
        ),
        steps=steps,
        lr=lr,
        batch=WORLD_BATCH,
        world=world,
        shortcut=WATERMARKED if watermark else None,
    )


RESNET = {"widths": (16, 32, 64), "blocks": 1}


def shapes_resnet(*, watermark: bool) -> Classifier:
    """The ResNet on the shapes world."""
    arguments = {"channels": 3, "n_classes": 8, "stem_stride": 2, **RESNET}
    return shapes("ResNet", "small-resnet", arguments, steps=400, lr=4e-3, easy=False, watermark=watermark)


def shapes_vit(*, watermark: bool) -> Classifier:
    """The vision transformer on the shapes world."""
    # transformers' initial 0.02 is for wide models; at width 64 attention starts too even to learn soon
    arguments = {"patch_size": 8, "initializer_range": 0.1}
    return shapes("Vision transformer", "vit", arguments, steps=3000, lr=2e-3, easy=True, watermark=watermark)
