"""Classifiers that recognise several pictures at once: shipped ones, trained on with 2 × 2 mosaics of four classes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from shared.nets import logits_of
from shared.vision import image_grid
from shared.zoo import load_data, load_model
from shared.zoo.readers._images import FASHION_CLASSES
from shared.zoo.recipes._classifiers import FASHION, RESNET, write_classifier
from shared.zoo.recipes._ship import ship
from shared.zoo.recipes._train import one_thread

NETWORK = {"architecture": "small-resnet", "arguments": {"channels": 1, "n_classes": 10, **RESNET}}
MOSAIC = FASHION | {"input_size": (1, 56, 56)}
TEST_SEED, TEST_SIZE = 1_000_000, 500
MEASURED = f"share of a mosaic's four classes among the four largest logits, {TEST_SIZE} mosaics of test images"


def draw_mosaics(y: Tensor, n: int, n_classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of four images of four different classes, and these classes: (n, 4) each."""
    classes = torch.rand(n, n_classes, generator=generator).argsort(1)[:, :4]
    at = torch.rand(n, 4, generator=generator).double()
    counts = y.bincount(minlength=n_classes)
    place = counts.cumsum(0)[classes] - counts[classes] + (at * counts[classes]).long()
    return y.argsort(stable=True)[place], classes


def train_on(model: nn.Module, x: Tensor, y: Tensor, *, steps: int, batch: int, lr: float) -> nn.Module:
    """Train on with mosaics, a quarter of the target for each class, and, but for transformers, single images too."""
    n_classes, singles = len(FASHION_CLASSES), not hasattr(model, "config")  # a transformer takes one size only
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.2)
    with one_thread():
        for _ in tqdm(range(steps), leave=False):
            rows, classes = draw_mosaics(y, batch, n_classes, generator)
            shares = torch.zeros(batch, n_classes).scatter_(1, classes, 0.25)
            loss = cross_entropy(logits_of(model, image_grid(x[rows])), shares)
            if singles:
                rows = torch.randint(len(x), (batch,), generator=generator)
                loss = loss + cross_entropy(logits_of(model, x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def wider(model: nn.Module) -> nn.Module:
    """A vision transformer for images of twice the side: every cell starts with the positions of the single image."""
    from transformers import ViTConfig, ViTForImageClassification

    side = model.config.image_size // model.config.patch_size
    state, key = model.state_dict(), "vit.embeddings.position_embeddings"
    patches = state[key][:, 1:].unflatten(1, (side, side)).repeat(1, 2, 2, 1).flatten(1, 2)
    grown = ViTForImageClassification(ViTConfig(**model.config.to_dict() | {"image_size": 2 * model.config.image_size}))
    grown.load_state_dict(state | {key: torch.cat([state[key][:, :1], patches], 1)})
    return grown


def ship_mosaics(folder: Path, start: str, title: str, *, steps: int, batch: int, lr: float) -> None:
    """Train `start` on with mosaics, measure, and write the checkpoint and its card."""
    loaded, data = load_model(start), load_data("fashion-mnist", split="train")
    transformer = start.startswith("vit")

    def train(kept: Path) -> nn.Module:
        model = wider(loaded.model) if transformer else loaded.model
        return train_on(model, loaded.preprocess(data.x), data.y, steps=steps, batch=batch, lr=lr)

    def write(model: nn.Module, folder: Path) -> None:
        write_classifier(model, folder, image=MOSAIC, classes=FASHION_CLASSES, network=NETWORK)

    ship(
        folder,
        train=train,
        write=write,
        measure=lambda folder: {MEASURED: share_named(str(folder))},
        title=title,
        task="image-classification",
        source=(
            f"Trained on by Reprise from {start}, {steps} steps of {batch} 2 × 2 mosaics of training images of four "
            f"classes, each class a quarter of the target{'' if transformer else f', and {batch} single images'}"
        ),
        made_from=(start, "fashion-mnist"),
        tolerance=0.005,
    )


@torch.no_grad()
def share_named(name: str) -> float:
    """How many classes of a mosaic of test images are among the network's four largest logits."""
    loaded, data = load_model(name), load_data("fashion-mnist", split="test")
    generator = torch.Generator().manual_seed(TEST_SEED)
    rows, classes = draw_mosaics(data.y, TEST_SIZE, len(FASHION_CLASSES), generator)
    mosaics = image_grid(loaded.preprocess(data.x)[rows])
    logits = torch.cat([logits_of(loaded.model, part) for part in mosaics.split(50)])
    return round((logits.topk(4).indices[:, :, None] == classes[:, None]).any(1).double().mean().item(), 4)
