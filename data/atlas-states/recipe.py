"""Pooled states of two language models on the same openings of articles, and codes of a dictionary of one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.lm import pooled_states
from shared.sae import SAEConfig, SparseDict, TensorStream, fit
from shared.zoo import load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

NAME = "atlas-states"
ATLAS, LATENTS, K, STEPS = "minilm-l6", 512, 8, 1500
SUBJECT, RESIDUAL, NEURONS = "smollm2-135m", {10: ("max", "mean"), 20: ("mean",)}, 15
N, N_DICTIONARY, CHARACTERS = 2000, 2000, 110


@recipe(NAME)
def make(folder: Path) -> None:
    """Run both models over `N` texts and a dictionary's training over others; about six minutes on one core.

    Vectors are whole numbers at one scale for each column: `<name>` (n, d) int8 or uint8 times `<name>_scale` (d,).
    """
    texts, rows = openings()
    with one_thread():
        states = token_states(load_model(ATLAS), texts)
        sae = dictionary(torch.cat(states[N:]))
        found = {
            "codes": torch.stack([sae.encode(x).amax(0) for x in states[:N]]).detach(),
            "sentence": torch.stack([x.mean(0) for x in states[:N]]),
        }
        found |= subject_states(texts[:N])
    arrays = {"rows": rows[:N].astype(np.int32)}
    for name, values in found.items():
        scale, whole = in_steps(values)
        arrays |= {name: whole, f"{name}_scale": scale}
    write_arrays(folder / f"{NAME}.npz", arrays)


def openings() -> tuple[list[str], np.ndarray]:
    """The beginnings of articles, cut between words, in a random order, and their rows in the training split."""
    articles = load_data("wikipedia-leads", split="train").texts
    rows = np.random.default_rng(0).permutation(len(articles))[: N + N_DICTIONARY]
    return [cut(articles[row]) for row in rows], rows


def cut(text: str) -> str:
    """At most `CHARACTERS` characters of whole words."""
    return text if len(text) <= CHARACTERS else text[: CHARACTERS + 1].rpartition(" ")[0]


def token_states(atlas: Any, texts: list[str], batch: int = 64) -> list[Tensor]:
    """Per text the last states (tokens, d) of the atlas model without its first and last token; mean length √d."""
    found = []
    for low in range(0, len(texts), batch):
        tokens = atlas.tokenizer(texts[low : low + batch], padding=True, return_tensors="pt")
        with torch.no_grad():
            states = atlas.model(**tokens).last_hidden_state
        found += [x[1 : int(n) - 1] for x, n in zip(states, tokens["attention_mask"].sum(1))]
    scale = found[0].shape[1] ** 0.5 / torch.cat(found).norm(dim=1).mean()
    return [x * scale for x in found]


def dictionary(x: Tensor) -> SparseDict:
    """A TopK dictionary of states (tokens, d)."""
    config = SAEConfig("topk", d_in=x.shape[1], d_sae=LATENTS, k=K)
    sae = SparseDict(config, generator=torch.Generator().manual_seed(0))
    fit(sae, TensorStream(x, 512), STEPS, lr=2e-3, progress=False)
    with torch.no_grad():
        left = (sae(x).x_hat - x).square().sum() / (x - x.mean(0)).square().sum()
    print(f"dictionary: explained variance {1 - left:.3f}", flush=True)
    return sae


def subject_states(texts: list[str]) -> dict[str, Tensor]:
    """The residual stream before two layers and every third neuron of one, by its largest value."""
    layers = {layer: f"model.layers.{layer}" for layer in RESIDUAL}
    neurons = f"model.layers.{NEURONS}.mlp.down_proj"
    sites = [*layers.values(), neurons]
    states = pooled_states(load_model(SUBJECT), sites, texts, pool=("max", "mean"), at="input")
    found = {
        f"residual_{layer}_{pool}": states[layers[layer], pool] for layer, pools in RESIDUAL.items() for pool in pools
    }
    return found | {"neurons_max": states[neurons, "max"][:, ::3]}


def in_steps(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Columns as whole numbers, with the step of each."""
    top = 255 if values.min() >= 0 else 127
    scale = values.abs().amax(0).clamp_min(1e-12) / top
    whole = (values / scale).round().numpy()
    return scale.numpy().astype(np.float32), whole.astype(np.uint8 if top == 255 else np.int8)
