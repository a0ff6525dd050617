"""Stand-ins for the paper's Llama and its skip transcoders, in sparsify's files and folders."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.papers.hub import SMALL, tiny_llama

PARAMETERS = {
    **{"layers": 2, "window": 12, "n_describe": 30, "n_judge": 30, "n_features": 4, "n_tokens": 3, "n_planted": 2},
    **{"n_traced": 2, "n_pairs": 2, "n_samples": 3, "span": 5, "z": 2.0, "z_upstream": 2.0},
}
WIDTH, LATENTS = SMALL["hidden_size"], 32


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-3.2-1B")
    for layer in range(PARAMETERS["layers"]):
        tiny_sparsify(hub / "EleutherAI" / "Llama-3.2-1B-mntss-skip-transcoder" / f"layers.{layer}.mlp", layer)


def tiny_sparsify(folder: Path, layer: int) -> None:
    """A TopK transcoder with a skip connection, as sparsify writes one."""
    generator = torch.Generator().manual_seed(layer)
    folder.mkdir(parents=True)
    shapes = {"encoder.weight": (LATENTS, WIDTH), "encoder.bias": (LATENTS,), "W_dec": (LATENTS, WIDTH)}
    shapes |= {"b_dec": (WIDTH,), "W_skip": (WIDTH, WIDTH)}
    save_file({k: torch.randn(s, generator=generator) for k, s in shapes.items()}, folder / "sae.safetensors")
    content = {"activation": "topk", "k": 8, "num_latents": LATENTS, "d_in": WIDTH, "transcode": True}
    (folder / "cfg.json").write_text(json.dumps({**content, "skip_connection": True}), encoding="utf-8")
