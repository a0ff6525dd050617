"""An autoencoder of a cut-down shapes world whose code is linear in eight concepts, and a judge that sees them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, mse_loss, pad
from tqdm.auto import tqdm

from shared.nets import ConceptAutoencoder, ConceptJudge
from shared.worlds import IMAGE_CONCEPTS, concept_images
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._train import one_thread

NAME = "autoencoder-shapes"
SIDE, CODE = 32, 96
PAIRS, STEPS, BATCH, LR = 16_000, 2000, 64, 4e-3
NOISE, CONSISTENCY = 0.2, 0.05  # of the code, whose dimensions have unit variance; weight of E(x') = E(x) + g
COLOUR = 6.0  # extra weight of a pixel whose channels differ by one
JUDGED, JUDGE_STEPS = 12_000, 1000
HELD_OUT = 1000


@recipe(NAME)
def make(folder: Path) -> None:
    """Train both, round to half precision, measure, and write the checkpoint and its card."""
    ship(
        folder,
        train=train,
        write=write_files,
        measure=lambda folder: measure(load_model(str(folder)).model),
        title="Autoencoder of the small shapes world, with a code that is linear in eight concepts, and a judge",
        task="autoencoder",
        source=(
            f"Trained by Reprise on {PAIRS:,} pairs of renders that differ in one concept, {STEPS:,} steps of {BATCH}; "
            f"the judge on {JUDGED:,} other renders, {JUDGE_STEPS:,} steps"
        ),
        notes=(
            f"Input (B, 3, {SIDE}, {SIDE}) in [0, 1]; encode gives (B, {CODE}), decode images, judge a logit each for "
            f"{', '.join(IMAGE_CONCEPTS)}. Labels were independent in training. `shifts` (8, {CODE}) holds the vectors "
            "whose addition to a code was trained to insert one concept, so the code is linear by training, not by "
            "itself; they needn't be orthogonal. The judge saw no decoded image. In half precision; measured on "
            f"{HELD_OUT:,} other images after rounding."
        ),
    )


def train(kept: Path) -> nn.Module:
    """The autoencoder with its judge, in half precision."""
    model = train_autoencoder()
    model.judge = train_judge()
    return model.half()


def draw_pairs(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, the same images with one absent concept more, and that concept's number (n,); labels independent."""
    generator = torch.Generator().manual_seed(seed)
    Y = torch.randint(2, (n, len(IMAGE_CONCEPTS)), generator=generator)
    Y[torch.arange(n), torch.randint(len(IMAGE_CONCEPTS), (n,), generator=generator)] = 0  # one at least is absent
    added = torch.multinomial(1.0 - Y, 1, generator=generator)
    return concept_images(Y, generator=seed), concept_images(Y.scatter(1, added, 1), generator=seed), added[:, 0]


def train_autoencoder(steps: int = STEPS, pairs: int = PAIRS, seed: int = 0) -> nn.Module:
    """Encoder and decoder, in eval mode: `D(E(x)) = x`, and `D(E(x) + g_c)` is x with concept c, for learnt g."""
    before, after, added = draw_pairs(pairs, 21)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = ConceptAutoencoder(CODE, len(IMAGE_CONCEPTS)).to(memory_format=torch.channels_last).train()
        optimizer, schedule = _optimizer(list(model.parameters()), steps)
        for _ in (bar := tqdm(range(steps), leave=False, mininterval=20)):
            rows = torch.randint(pairs, (BATCH,), generator=generator)
            x, y = (part[rows].contiguous(memory_format=torch.channels_last) for part in (before, after))
            z, z_after = model.encode(torch.cat([x, y])).chunk(2)
            moved = z + model.shifts[added[rows]]
            codes = torch.cat([z, moved])
            codes = codes + NOISE * torch.randn(codes.shape, generator=generator)
            target, found = torch.cat([x, y]), model.decode(codes)
            loss = pixel_loss(found, target) + CONSISTENCY * mse_loss(moved, z_after)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    return model.to(memory_format=torch.contiguous_format).eval()


def pixel_loss(found: Tensor, target: Tensor) -> Tensor:
    """Absolute and squared error, pixels by how colourful they are: shapes are small and grounds are grey."""
    weight = 1 + COLOUR * (target.amax(1, keepdim=True) - target.amin(1, keepdim=True))
    error = (found - target).abs()
    return (weight * (error + 2 * error.square())).mean()


def train_judge(steps: int = JUDGE_STEPS, images: int = JUDGED, seed: int = 1) -> nn.Module:
    """The judge, in eval mode, trained on other renders only, blurred and with noise by random amounts."""
    Y = torch.randint(2, (images, len(IMAGE_CONCEPTS)), generator=torch.Generator().manual_seed(31))
    pictures = concept_images(Y, generator=31)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = ConceptJudge(len(IMAGE_CONCEPTS)).to(memory_format=torch.channels_last).train()
        optimizer, schedule = _optimizer(list(model.parameters()), steps)
        for _ in tqdm(range(steps), leave=False, mininterval=20):
            rows = torch.randint(images, (BATCH,), generator=generator)
            x = roughened(pictures[rows], generator).contiguous(memory_format=torch.channels_last)
            loss = binary_cross_entropy_with_logits(model(x), Y[rows].float())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


def _optimizer(parameters: list[nn.Parameter], steps: int) -> tuple:
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps, pct_start=0.2)


def roughened(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image blurred and made noisy by its own amount, as a decoder may leave it."""
    u = torch.rand(2, len(images), 1, 1, 1, generator=generator)
    soft = avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images + 0.8 * u[0] * (soft - images) + 0.05 * u[1] * torch.randn(images.shape, generator=generator)


@torch.no_grad()
def measure(model: nn.Module) -> dict[str, float]:
    """Errors of reconstructions and of known insertions, and what the judge still reads off them."""
    before, after, added = draw_pairs(HELD_OUT, 41)
    Y = torch.randint(2, (HELD_OUT, len(IMAGE_CONCEPTS)), generator=torch.Generator().manual_seed(51))
    x = concept_images(Y, generator=51)
    back, moved = model(x), model.decode(model.encode(before) + model.shifts[added])
    readable = lambda images: (model.judge(images) > 0) == Y.bool()  # noqa: E731
    seen, kept = readable(x).double(), readable(back).double()
    variance = (x - x.mean(0)).square().mean()
    shown = (model.judge(moved) > 0).gather(1, added[:, None]).double()
    measured = {
        "reconstruction: mean absolute error": (back - x).abs().mean(),
        "reconstruction: share of the pixels' variance explained": 1 - (back - x).square().mean() / variance,
        "insertion along the learnt shift, against the true counterfactual: mean absolute error": (
            (moved - after).abs().mean()
        ),
        "insertion along the learnt shift: the judge sees the concept": shown.mean(),
        "renders: concepts that the judge reads rightly": seen.mean(),
        "reconstructions: concepts that the judge reads rightly": kept.mean(),
        "reconstructions: the worst concept": kept.mean(0).min(),
        "cosine of two concepts' learnt shifts, largest absolute": _largest_cosine(model.shifts),
    }
    return {what: round(float(value), 4) for what, value in measured.items()}


def _largest_cosine(V: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(V, dim=1)
    return (unit @ unit.T - torch.eye(len(V))).abs().max()


def write_files(model: nn.Module, folder: Path) -> None:
    """Weights and configuration."""
    write_weights(folder / "model.safetensors", model)
    config = {
        "architecture": "concept-autoencoder",
        "arguments": {"code": CODE, "concepts": len(IMAGE_CONCEPTS)},
        "input_size": [3, SIDE, SIDE],
        "classes": list(IMAGE_CONCEPTS),
    }
    write_json(folder / "config.json", config)
