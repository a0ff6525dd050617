"""Dictionaries other projects wrote: sparsify, dictionary_learning, Prisma. Nothing in their files is run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice
from shared.sae._checkpoint import read_tensors
from shared.sae._config import BATCH_FAMILY, SAEConfig
from shared.sae._files import CONFIG, filled, read_json
from shared.sae._model import SparseDict


def load_sparsify(folder: str | Path) -> SparseDict:
    """Read a directory of EleutherAI's sparsify: `sae.safetensors` and `cfg.json` (TopK; `W_skip` if it has one)."""
    folder = Path(folder)
    content = read_json(folder / CONFIG)
    found, _ = read_tensors(folder / "sae.safetensors")
    path = folder / "sae.safetensors"
    tensors = _renamed(found, {"encoder.weight": "W_enc", "encoder.bias": "b_enc"}, path)
    tensors["W_enc"] = tensors["W_enc"].T
    d_in, d_sae = tensors["W_enc"].shape
    if content.get("num_latents") and content["num_latents"] != d_sae:
        raise ValueError(f"{path}: encoder.weight has {d_sae} rows; cfg.json says num_latents={content['num_latents']}")
    transcode = bool(content.get("transcode")) or "W_skip" in tensors
    d_out = tensors["W_dec"].shape[1] if transcode else None
    if content.get("activation", "topk") != "topk":
        raise ValueError(f"{folder / CONFIG}: activation={content['activation']!r} is unknown; known: topk")
    cfg = SAEConfig("topk", d_in, d_sae, k=content["k"], d_out=d_out, skip="W_skip" in tensors)
    return filled(cfg, tensors, path)


def load_dictionary_learning(path: str | Path, architecture: str | None = None, k: float | None = None) -> SparseDict:
    """Read an `ae.pt` of dictionary_learning: AutoEncoder, TopK, BatchTopK or Matryoshka.

    Args:
        path: the file; read without running anything it may hold (`weights_only`).
        architecture: by default read from the tensors: `group_sizes` → matryoshka, a threshold ≥ 0 and `k` → batchtopk,
            `k` → topk, else standard. TopK files may hold a threshold too, so say "topk" where it is one.
        k: where the file has none.
    """
    path = Path(path)
    found = _plain_tensors(path)
    names = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec", "bias": "b_dec"}
    turned = "encoder.weight" in found
    tensors = _renamed(found, names, path)
    for name in ("W_enc", "W_dec") if turned else ():
        tensors[name] = tensors[name].T
    k = float(tensors.pop("k")) if "k" in tensors else k
    groups, threshold = tensors.pop("group_sizes", None), tensors.pop("threshold", None)
    if architecture is None:
        batch = threshold is not None and threshold.ndim == 0 and float(threshold) >= 0
        architecture = "matryoshka" if groups is not None else "batchtopk" if batch else "topk" if k else "standard"
    widths = None if groups is None else [int(w) for w in groups.cumsum(0)]
    if architecture in BATCH_FAMILY:
        value = float("nan") if threshold is None or float(threshold) < 0 else float(threshold)
        tensors["threshold"] = torch.tensor(value, dtype=torch.float64)
    elif architecture == "jumprelu":
        tensors["threshold"] = threshold
    d_in, d_sae = tensors["W_enc"].shape
    # its JumpReLU doesn't subtract b_dec from the input unless asked; the others do
    cfg = SAEConfig(architecture, d_in, d_sae, k=k, widths=widths, apply_b_dec_to_input=architecture != "jumprelu")
    return filled(cfg, tensors, path)


def load_prisma(path: str | Path, config: str | Path | None = None) -> SparseDict:
    """Read weights of ViT-Prisma (`weights.pt` with `config.json` beside it): its standard SAEs, ReLU or TopK.

    Args:
        path: the weights; read without running anything they may hold. Older single files pickle their configuration
            object along and are refused.
        config: by default `config.json` in the same folder.
    """
    path = Path(path)
    config = path.with_name("config.json") if config is None else Path(config)
    content, found = read_json(config), _plain_tensors(path)
    tensors = _renamed(found.get("state_dict", found), {}, path)
    check_choice(f"architecture in {config}", content.get("architecture", "standard"), ("standard",))
    activation = check_choice(f"activation_fn_str in {config}", content.get("activation_fn_str"), ("relu", "topk"))
    d_in = int(content["d_in"])
    cfg = SAEConfig(
        "standard" if activation == "relu" else "topk",
        d_in,
        d_in * int(content["expansion_factor"]),
        k=(content.get("activation_fn_kwargs") or {}).get("k"),
        normalize_activations=content.get("normalize_activations") or "none",
        metadata={key: content[key] for key in ("model_name", "hook_point_layer", "layer_subtype") if key in content},
    )
    return filled(cfg, tensors, path)


def _plain_tensors(path: Path) -> dict[str, Any]:
    """A file of `torch.save` that holds nothing but tensors and plain values."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path} is no plain state dict: {error}") from error


def _renamed(found: Mapping[str, Tensor], names: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    tensors = {names.get(key, key): value for key, value in found.items()}
    if missing := [name for name in ("W_enc", "b_enc", "W_dec", "b_dec") if name not in tensors]:
        raise ValueError(f"{path}: {', '.join(missing)} missing; it has {', '.join(found)}")
    return tensors
