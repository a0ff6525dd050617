"""Transcoders of SmolLM2-135M's first three MLPs, trained on the openings of Wikipedia articles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared.hooks import capture
from shared.lm import token_ids
from shared.sae import SAEConfig, SparseDict, TensorStream, fit, load, metrics, save
from shared.zoo import load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import ship
from shared.zoo.recipes._train import one_thread

NAME = "smollm2-transcoders"
MODEL = "smollm2-135m"
LAYERS = 3
READS = "model.layers.{}.post_attention_layernorm"
PREDICTS = "model.layers.{}.mlp"
LATENTS, K = 1024, 32
EPOCHS, BATCH, LR = 4, 2048, 1e-3
MASSIVE = 10.0  # times the median norm
CONTEXT, ROWS = 256, 32  # tokens of a text that are used; texts of a pass


@recipe(NAME)
def make(folder: Path) -> None:
    """Train one transcoder per layer, measure them on other articles, and write them with their card."""
    loaded = load_model(MODEL)
    ship(
        folder,
        train=lambda kept: {layer: train(*states(loaded, layer, "train"), layer, kept) for layer in range(LAYERS)},
        write=lambda made, folder: [save(one, folder / f"layer-{i}", int8=True) for i, one in made.items()],
        measure=lambda folder: measure(folder, loaded),
        title="Transcoders of SmolLM2-135M's first three MLPs",
        task="dictionaries",
        source=(
            f"Trained by Reprise on what the MLPs of {MODEL} read (behind their norm) and write, at all tokens but the "
            f"start token of wikipedia-leads' training articles, up to {CONTEXT} each; {EPOCHS} epochs of {BATCH:,}"
        ),
        made_from=[MODEL, "wikipedia-leads"],
        notes=(
            f"{LATENTS} latents, {K} of them per token (TopK). SAELens's names, matrices in int8 with a scale per "
            "latent. The model ran, and the training's products were taken, in bfloat16 (ten core-minutes). Explained "
            "variance is of the MLP's output, on the validation articles, in float32. Tokens at which "
            f"an MLP writes more than {MASSIVE:g} times the median norm are left out of training and measurement."
        ),
    )


@torch.no_grad()
def states(loaded: object, layer: int, split: str, *, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor]:
    """What an MLP reads and writes (tokens, d), of a split's articles; the start token is left out."""
    model = loaded.model.to(dtype)
    body = model.model
    kept, body.layers = body.layers, body.layers[: layer + 1]
    try:
        parts = [_pass(model, layer, batch) for batch in tqdm(batches(loaded.tokenizer, split), leave=False)]
    finally:
        body.layers = kept
        model.float()
    return tuple(torch.cat(part) for part in zip(*parts))


def batches(tokenizer: object, split: str) -> list[list[list[int]]]:
    """Token ids of the articles in groups of like length."""
    texts = load_data("wikipedia-leads", split=split).texts
    ids = sorted((token_ids(tokenizer, text)[:CONTEXT] for text in texts), key=len)
    return [ids[low : low + ROWS] for low in range(0, len(ids), ROWS)]


def _pass(model: nn.Module, layer: int, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # padding stands behind: nothing looks there
    real = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    real[:, 0] = False
    names = (READS.format(layer), PREDICTS.format(layer))
    with capture(model, names) as seen:
        model.model(ids, use_cache=False)
    return tuple(seen[name][real] for name in names)


def train(x: Tensor, y: Tensor, layer: int, kept: Path) -> SparseDict:
    """A transcoder, trained at unit scale on both sides and told of their own scales afterwards."""
    width, kept_rows = x.shape[1], ordinary(y)
    x, y = x[kept_rows], y[kept_rows]
    x_scale, y_scale = (float(width**0.5 / one[::50].float().norm(dim=1).mean()) for one in (x, y))
    about = {"model_name": MODEL, "hook_name": READS.format(layer), "hook_name_out": PREDICTS.format(layer)}
    cfg = SAEConfig("topk", d_in=width, d_sae=LATENTS, d_out=width, k=K, metadata=about)
    with one_thread(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        found = SparseDict(cfg, generator=torch.Generator().manual_seed(layer))
        stream = _Scaled(TensorStream(x, BATCH, y=y), x_scale, y_scale)
        fit(found, stream, EPOCHS * (len(x) // BATCH), lr=LR, checkpoint=kept / f"layer-{layer}.safetensors")
    return _unscaled_(found, x_scale, y_scale)


def ordinary(y: Tensor) -> Tensor:
    """Which tokens an MLP writes no massive vector at, whose few would be all that is learned."""
    norms = y.float().norm(dim=1)
    return norms <= MASSIVE * norms.median()


class _Scaled:
    """A stream's pairs in float32, each side at unit scale; resumed as the stream is."""

    def __init__(self, stream: TensorStream, x_scale: float, y_scale: float) -> None:
        self.stream, self.x_scale, self.y_scale = stream, x_scale, y_scale

    def __iter__(self) -> _Scaled:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        x, y = next(self.stream)
        return x.float() * self.x_scale, y.float() * self.y_scale

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state)


@torch.no_grad()
def _unscaled_(found: SparseDict, x_scale: float, y_scale: float) -> SparseDict:
    """Reads and writes at the model's scale; decoder rows of norm 1, so that codes are lengths in the MLP's output."""
    found.W_enc *= x_scale / y_scale
    found.b_enc /= y_scale
    found.b_dec /= y_scale
    return found


@torch.no_grad()
def measure(folder: Path, loaded: object) -> dict[str, float]:
    """The card's numbers of the stored transcoders, on the validation articles."""
    found = {}
    for layer in range(LAYERS):
        x, y = states(loaded, layer, "validation", dtype=torch.float32)
        one = load(folder / f"layer-{layer}")
        kept = ordinary(y)
        x, y = x[kept], y[kept]
        out = one(x)
        found[f"layer {layer}: share of massive tokens, left out"] = round(1 - float(kept.float().mean()), 4)
        found[f"layer {layer}: explained variance"] = round(metrics.explained_variance(y, out.x_hat), 4)
        found[f"layer {layer}: latents that fire on fewer than 1 token of 10,000"] = round(
            float(((out.codes > 0).float().mean(0) < 1e-4).float().mean()), 4
        )
    return found
