"""Sparse dictionaries of the small CLIP's image tower: every block's residual stream, by L1 and by TopK."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared.hooks import capture
from shared.sae import SAEConfig, SparseDict, TensorStream, fit, load, metrics, save
from shared.vision import encode_image
from shared.zoo import load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship
from shared.zoo.recipes._small_clip import NAME as CLIP
from shared.zoo.recipes._small_clip import SIDE, prepare, training_batch
from shared.zoo.recipes._train import one_thread

NAME = "clip-shapes-saes"
HOOK = "vision_model.encoder.layers.{}"
EXPANSION, K, L1 = 8, 16, 0.2  # L1: explained variance as in the paper's dictionaries, 97.6 to 98.7 %
STEPS, BATCH, LR = 1000, 1024, 2e-3
IMAGES, HELD_OUT = 4000, 500
FIRST_BATCH = 2_000_000  # training and measuring the CLIP use smaller numbers
KINDS = {"l1": {"architecture": "standard", "l1_coefficient": L1}, "topk": {"architecture": "topk", "k": K}}


@recipe(NAME)
def make(folder: Path) -> None:
    """Train all dictionaries, measure them on held-out images, and write them with their card."""
    model = load_model(CLIP).model
    hooks = [HOOK.format(layer) for layer in range(model.config.vision_config.num_hidden_layers)]
    ship(
        folder,
        train=lambda kept: train(hidden_states(model, hooks, IMAGES, FIRST_BATCH)),
        write=write_files,
        measure=lambda folder: measure(folder, hidden_states(model, hooks, HELD_OUT, 2 * FIRST_BATCH)),
        title="Sparse dictionaries of the small CLIP's image tower",
        task="dictionaries",
        source=(
            f"Trained by Reprise on the residual stream behind each block of {CLIP}, all tokens of {IMAGES:,} images "
            f"as the model was trained on; {STEPS:,} steps of {BATCH:,} tokens"
        ),
        made_from=[CLIP],
        notes=(
            f"l1-<layer>: ReLU and an L1 term; topk-<layer>: {K} latents per token; {EXPANSION} latents per dimension. "
            f"SAELens's format, in half precision; measured on {HELD_OUT} other images after rounding. Read with "
            f"sae.load(zoo.dictionary_folder('{NAME}/topk-3')).float()."
        ),
    )


@torch.no_grad()
def hidden_states(model: nn.Module, hooks: list[str], n: int, first: int, batch: int = 100) -> dict[str, Tensor]:
    """All tokens' activations (tokens, d) by module, of images as the CLIP was trained on."""
    with capture(model, hooks, every_call=True) as seen:
        for step in range(n // batch):
            encode_image(model, prepare(training_batch(first + step, batch)[0]))
    return {hook: torch.cat(parts).flatten(0, 1) for hook, parts in seen.items()}


def train(states: dict[str, Tensor]) -> dict[str, SparseDict]:
    """A dictionary of each kind for each module's activations, by the folder it goes to."""
    found = {}
    for layer, (hook, x) in enumerate(tqdm(states.items(), leave=False)):
        for kind in KINDS:
            found[f"{kind}-{layer}"] = train_one(x, kind, hook)
    return found


def train_one(x: Tensor, kind: str, hook: str, steps: int = STEPS) -> SparseDict:
    """A dictionary of activations (n, d), trained on them at unit scale and told of their own scale afterwards."""
    scale = float(x.shape[1] ** 0.5 / x.norm(dim=1).mean())
    about = {"model_name": CLIP, "hook_name": hook, "image_size": SIDE}
    cfg = SAEConfig(d_in=x.shape[1], d_sae=EXPANSION * x.shape[1], metadata=about, **KINDS[kind])
    with one_thread():
        found = SparseDict(cfg, generator=torch.Generator().manual_seed(0))
        fit(found, TensorStream(x * scale, BATCH), steps, lr=LR, progress=False)
    return unit_rows_(found.fold_input_scale_(scale), scale)


@torch.no_grad()
def unit_rows_(found: SparseDict, scale: float) -> SparseDict:
    """Decoder rows at norm 1 again, so that codes are lengths in the activation; all rows had the norm 1 / scale."""
    found.W_dec *= scale
    found.W_enc /= scale
    found.b_enc /= scale
    return found


def write_files(made: dict[str, SparseDict], folder: Path) -> None:
    """Each dictionary in a folder of its own, in half precision."""
    for name, one in made.items():
        save(one.half(), folder / name)


def measure(folder: Path, states: dict[str, Tensor]) -> dict[str, float]:
    """The card's numbers of the stored dictionaries, on activations by module."""
    found = {}
    for layer, x in enumerate(states.values()):
        for kind in KINDS:
            found |= measure_one(load(folder / f"{kind}-{layer}").float(), x, f"{kind}, layer {layer}")
    return found


@torch.no_grad()
def measure_one(found: SparseDict, x: Tensor, what: str) -> dict[str, float]:
    out = found(x)
    return {
        f"{what}: explained variance": round(metrics.explained_variance(x, out.x_hat), 4),
        f"{what}: active latents per token": round(metrics.l0(out.codes), 2),
    }
