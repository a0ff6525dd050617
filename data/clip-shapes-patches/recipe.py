"""A head that aligns the small CLIP's patches with text, learnt from phrases alone: no masks, no labels of pixels.

Contrast trains only CLIP's class token: its patches lie nowhere near the words for what they show. As in Mukhoti et al.
(2023, "Open vocabulary semantic segmentation with patch aligned contrastive learning"), both towers stay as they are
and a small head on the patches' last hidden states learns to match phrases: each phrase looks for itself among an
image's patches, and the image whose patches answer best should be the phrase's own. A 3 × 3 convolution comes first, as
in CLIP-DINOiser.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm

from shared.nets import PatchHead
from shared.vision import encode_text, hidden_patches
from shared.worlds import BACKGROUNDS, COLOURS, SHADES, SHAPES, ShapesWorld, shape_captions, shapes_world
from shared.zoo import LoadedModel, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._small_clip import NAME as CLIP
from shared.zoo.recipes._small_clip import SIDE, prepare
from shared.zoo.recipes._train import one_thread

NAME = "clip-shapes-patches"
IMAGES, HELD_OUT = 8000, 500
PHRASES = 3  # per image, over the run
HIDDEN = 128
STEPS, BATCH, LR, WEIGHT_DECAY = 2500, 128, 2e-3, 1e-2
BACKGROUND = 0.2  # share of phrases about the background
SHARPNESS = 10.0  # of the attention of a phrase to patches
SEED = 5_000_000  # of the training images; the CLIP and its dictionaries use smaller numbers


@recipe(NAME)
def make(folder: Path) -> None:
    """Train the head, measure it on held-out images, and write it with its card."""
    clip = load_model(CLIP)
    ship(
        folder,
        train=lambda kept: train(*training_set(clip)),
        write=write_files,
        measure=lambda folder: measure(load_model(str(folder)).model, clip),
        title="A head that aligns the small CLIP's patches with text",
        task="patch-text",
        source=(
            f"Trained by Reprise on {CLIP}, both of whose towers stay as they are: {STEPS:,} steps of {BATCH} images "
            f"and phrases about one of their objects or the background ({IMAGES:,} images; no masks)"
        ),
        made_from=[CLIP],
        notes=(
            "A module from hidden states (B, H, W, 64) to features (B, H, W, 64) in the space shared with text: "
            f"vision.patch_features(clip, images, kind='head', head=zoo.load_model('{NAME}').model)."
        ),
        seed=SEED,
    )


def training_set(clip: LoadedModel) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Hidden states of the images' patches, and rounds of phrases about them."""
    shown = world(IMAGES, SEED)
    states = hidden_patches(clip.model, prepare(shown.images), batch_size=250).detach()
    return states, [embed(clip, phrases(shown, SEED + e)) for e in range(PHRASES)]


def world(n: int, seed: int, *, masks: bool = False) -> ShapesWorld:
    """One to three objects of all kinds, no words."""
    return shapes_world(
        n, generator=seed, size=SIDE, n_objects=(1, 3), values={"shape": list(SHAPES)}, noise=0.05, masks=masks
    )


def phrases(shown: ShapesWorld, seed: int) -> list[str]:
    """One phrase per image: one of its objects with some attributes, or its background."""
    generator = torch.Generator().manual_seed(seed)
    present = shown.factors["present"].sum(1)
    which = (torch.rand(len(shown), generator=generator) * present).long()[:, None]
    alone = {name: value.gather(1, which) if value.ndim == 2 else value for name, value in shown.factors.items()}
    said = shape_captions(ShapesWorld(shown.images, alone, {}, shown.words), generator=generator, keep=0.6)
    behind = (torch.rand(len(shown), generator=generator) < BACKGROUND).tolist()
    shade, ground = (shown.factors[name].tolist() for name in ("shade", "background"))
    return [
        f"{SHADES[shade[i]]} {BACKGROUNDS[ground[i]]} background" if behind[i] else said[i] for i in range(len(shown))
    ]


@torch.no_grad()
def embed(clip: LoadedModel, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Text embeddings (N, d), each distinct text encoded once, and the number of each text (N,)."""
    distinct = list(dict.fromkeys(texts))
    number = {text: i for i, text in enumerate(distinct)}
    index = torch.tensor([number[text] for text in texts])
    parts = [distinct[i : i + 500] for i in range(0, len(distinct), 500)]
    return torch.cat([encode_text(clip.model, clip.tokenizer, part) for part in parts])[index], index


def train(states: Tensor, text: list[tuple[Tensor, Tensor]], steps: int = STEPS, seed: int = 0) -> nn.Module:
    """The head in eval mode, from hidden states (N, H, W, D) and rounds of texts with their numbers."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = PatchHead(states.shape[-1], HIDDEN, text[0][0].shape[1])
        head.mean.copy_(states.mean((0, 1, 2)))
        head.std.copy_(states.std((0, 1, 2)))
        scale = nn.Parameter(torch.tensor(3.0))
        groups = [{"params": list(head.parameters())}, {"params": [scale], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=WEIGHT_DECAY)
        for step in tqdm(range(steps), leave=False, mininterval=20):
            for group in optimizer.param_groups:
                group["lr"] = LR * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
            rows = torch.randint(len(states), (BATCH,))
            embeddings, number = text[step % len(text)]
            loss = contrast(head(states[rows]), embeddings[rows], number[rows], scale.exp())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval()


def contrast(patches: Tensor, text: Tensor, number: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over all pairs of images and phrases; equal phrases share the target evenly.

    A pair's similarity is that of the phrase and the patches averaged by how well each answers the phrase.
    """
    unit = normalize(patches.flatten(1, 2), dim=-1)
    each = torch.einsum("ipd,jd->ijp", unit, text)
    weight = (SHARPNESS * each).softmax(-1)
    pooled = torch.einsum("ijp,ipd->ijd", weight, unit)
    logits = scale * (weight * each).sum(-1) / pooled.norm(dim=-1)
    same = (number[:, None] == number).float()
    target = same / same.sum(1, keepdim=True)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def measure(head: nn.Module, clip: LoadedModel) -> dict[str, float]:
    """Share of the objects' patches (half covered or more) whose nearest name is right, by attribute."""
    shown = world(HELD_OUT, 2 * SEED, masks=True)
    found = normalize(head(hidden_patches(clip.model, prepare(shown.images), batch_size=250)), dim=-1)
    named = [name.replace("starfish", "star fish") for name in SHAPES]
    prompts = {
        "shape": (named, [f"a {colour} {{}}" for colour in COLOURS]),
        "colour": (list(COLOURS), [f"a {{}} {name}" for name in named]),
    }
    measured = {}
    for factor, (names, templates) in prompts.items():
        text = encode_text(clip.model, clip.tokenizer, names, templates=templates)
        known = shown.label_map(factor)
        cover = torch.stack([(known == i).float() for i in range(len(names))], 1)
        cover = nn.functional.avg_pool2d(cover, SIDE // found.shape[1]).movedim(1, -1)
        most = cover.max(-1)
        right = (found @ text.T).argmax(-1) == most.indices
        measured[f"{factor}: patches of objects called by their right name"] = float(
            right[most.values >= 0.5].float().mean()
        )
    return {what: round(value, 4) for what, value in measured.items()}


def write_files(head: nn.Module, folder: Path) -> None:
    """Weights and configuration."""
    write_weights(folder / "model.safetensors", head)
    arguments = {"width": len(head.mean), "hidden": head.spread.out_channels, "out": head.project.out_channels}
    write_json(folder / "config.json", {"architecture": "patch-head", "arguments": arguments})
