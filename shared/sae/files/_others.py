"""Dictionaries other projects wrote: sparsify, dictionary_learning, Prisma, Gemma Scope. Nothing in files is run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice
from shared.sae._config import SAEConfig
from shared.sae._model import SparseDict
from shared.sae.architectures._gated import GATED, as_jumprelu
from shared.sae.files._saelens import CONFIG, check_keys, filled, read_json
from shared.sae.files._whole import read_tensors

# dictionary_learning's classes
CLASSES = {
    "AutoEncoder": "standard",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "matryoshka",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
}
DICTIONARY_LEARNING = ("standard", "topk", "batchtopk", "matryoshka", "jumprelu", "gated")
GATED_NAMES = {"gate_bias": "b_gate", "mag_bias": "b_mag", "decoder_bias": "b_dec"}
ENCODER_AND_DECODER = ("W_enc", "b_enc", "W_dec", "b_dec")
SPARSIFY_KEYS = frozenset(
    """k num_latents d_in activation transcode skip_connection expansion_factor normalize_decoder multi_topk signed
    """.split()
)


def load_sparsify(folder: str | Path) -> SparseDict:
    """Read a directory of EleutherAI's sparsify: TopK dictionaries and (skip) transcoders.

    Parameters
    ----------
    folder : path
        With `sae.safetensors` and `cfg.json`.

    Returns
    -------
    SparseDict
        Of architecture topk, with a skip connection if the file has a `W_skip`.

    Raises
    ------
    ValueError
        A key or tensor that isn't understood, or one that contradicts another.
    """
    folder = Path(folder)
    path = folder / "sae.safetensors"
    content = read_json(folder / CONFIG)
    check_keys(content, SPARSIFY_KEYS, folder / CONFIG)
    found, _ = read_tensors(path)
    tensors = _renamed(found, {"encoder.weight": "W_enc", "encoder.bias": "b_enc"}, path)
    tensors["W_enc"] = tensors["W_enc"].T
    d_in, d_sae = tensors["W_enc"].shape
    if content.get("num_latents") and content["num_latents"] != d_sae:
        raise ValueError(f"{path}: encoder.weight has {d_sae} rows; cfg.json says num_latents={content['num_latents']}")
    check_choice(f"activation in {folder / CONFIG}", content.get("activation", "topk"), ("topk",))
    if content.get("signed"):
        raise ValueError(f"{folder / CONFIG}: signed=True is not understood; known: False")
    transcode = bool(content.get("transcode")) or "W_skip" in tensors
    d_out = tensors["W_dec"].shape[1] if transcode else None
    cfg = SAEConfig("topk", d_in, d_sae, k=content["k"], d_out=d_out, skip="W_skip" in tensors)
    return filled(cfg, tensors, path)


def load_dictionary_learning(
    path: str | Path, *, architecture: str | None = None, k: float | None = None
) -> SparseDict:
    """Read an `ae.pt` of dictionary_learning: AutoEncoder, TopK, BatchTopK, Matryoshka, JumpReLU or Gated.

    Parameters
    ----------
    path : path
        The file; read without running anything it may hold (`weights_only`).
    architecture : str, optional
        By default what `config.json` beside the file says (`dict_class`), else what only one of them can have: `bias`
        (standard), `group_sizes` (matryoshka), thresholds by latent (jumprelu), `r_mag` (gated). TopK and BatchTopK
        have the same tensors, so one of "topk" and "batchtopk" must be said where no `config.json` does.
    k : float, optional
        Where the file has none.

    Returns
    -------
    SparseDict
        A JumpReLU's decoder norms are folded, so that codes are those its own `encode` gives. A gated one is of
        architecture jumprelu, which it is at inference.

    Raises
    ------
    ValueError
        A class, key or tensor that isn't understood, or tensors of several architectures.
    """
    path = Path(path)
    found = _plain_tensors(path)
    names = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec", "bias": "b_dec"}
    if not {"encoder.weight", "W_enc"} & found.keys():
        _renamed(found, names, path)  # says what is missing
    architecture = architecture or _dict_class(path) or _only_architecture(found, path)
    check_choice("architecture", architecture, DICTIONARY_LEARNING)
    gated = architecture == "gated"
    parts = ("W_enc", "W_dec", "b_dec", *GATED) if gated else ENCODER_AND_DECODER
    tensors = _renamed(found, names | (GATED_NAMES if gated else {}), path, parts)
    for name in ("W_enc", "W_dec") if "encoder.weight" in found else ():
        tensors[name] = tensors[name].T
    if gated:
        tensors, architecture = as_jumprelu(tensors), "jumprelu"
    k = float(tensors.pop("k")) if "k" in tensors else k
    groups = tensors.pop("group_sizes", None)
    threshold = tensors.pop("threshold", None)
    if architecture in ("batchtopk", "matryoshka"):
        value = float("nan") if threshold is None or float(threshold) < 0 else float(threshold)  # below 0: not yet set
        tensors["threshold"] = torch.tensor(value, dtype=torch.float64)
    elif architecture != "topk" and threshold is not None:  # a TopK keeps one that it doesn't use
        tensors["threshold"] = threshold
    d_in, d_sae = tensors["W_enc"].shape
    widths = None if groups is None else [int(w) for w in groups.cumsum(0)]
    plain = architecture == "jumprelu" and not gated  # it doesn't subtract b_dec from the input; the others do
    cfg = SAEConfig(architecture, d_in, d_sae, k=k, widths=widths, apply_b_dec_to_input=not plain)
    sae = filled(cfg, tensors, path)
    return sae.fold_decoder_norm_() if plain else sae


def _dict_class(path: Path) -> str | None:
    """Architecture by the configuration that trainers write beside the file."""
    config = path.with_name("config.json")
    if not config.is_file():
        return None
    named = (read_json(config).get("trainer") or {}).get("dict_class")
    return None if named is None else CLASSES[check_choice(f"dict_class in {config}", named, CLASSES)]


def _only_architecture(found: Mapping[str, Tensor], path: Path) -> str:
    """Architecture by the tensors, where they fit only one."""
    if "group_sizes" in found:
        return "matryoshka"
    if "threshold" in found and found["threshold"].ndim == 1:
        return "jumprelu"
    if "r_mag" in found and "encoder.bias" not in found:
        return "gated"
    if "bias" in found and "k" not in found:
        return "standard"
    raise ValueError(
        f"{path}: {', '.join(found)} fit several architectures; say architecture='topk' or 'batchtopk' (or another), "
        "or put its config.json beside it"
    )


def load_prisma(path: str | Path, *, config: str | Path | None = None) -> SparseDict:
    """Read weights of ViT-Prisma: its standard SAEs, ReLU or TopK.

    Parameters
    ----------
    path : path
        The weights (`weights.pt`); read without running anything they may hold. Older single files pickle their
        configuration object along and are refused.
    config : path, optional
        By default `config.json` in the same folder.

    Returns
    -------
    SparseDict
        Of architecture standard or topk.

    Raises
    ------
    ValueError
        An architecture, activation or tensor that isn't understood, or one that contradicts another.
    """
    path = Path(path)
    config = path.with_name("config.json") if config is None else Path(config)
    content = read_json(config)
    found = _plain_tensors(path)
    tensors = _renamed(found.get("state_dict", found), {}, path)
    check_choice(f"architecture in {config}", content.get("architecture", "standard"), ("standard",))
    activation = check_choice(f"activation_fn_str in {config}", content.get("activation_fn_str"), ("relu", "topk"))
    if content.get("is_transcoder"):
        raise ValueError(f"{config}: is_transcoder=True is not understood; known: False")
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


def load_gemma_scope(path: str | Path, *, transcoder: bool = False) -> SparseDict:
    """Read a `params.npz` of Gemma Scope: JumpReLU dictionaries and (skip) transcoders.

    Parameters
    ----------
    path : path
        The file; read without pickle.
    transcoder : bool
        Whether it reads one activation and writes another, which the file doesn't tell; one with `W_skip` does.

    Returns
    -------
    SparseDict
        Of architecture jumprelu, in the file's type; `b_dec` isn't subtracted from the input, as theirs isn't.

    Raises
    ------
    ValueError
        A tensor that is missing or not understood, or one that contradicts another.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} holds no plain arrays: {error}") from error
    tensors = _renamed(found, {}, path, (*ENCODER_AND_DECODER, "threshold"))
    skip = "W_skip" in tensors
    d_in, d_sae = tensors["W_enc"].shape
    d_out = tensors["W_dec"].shape[1] if transcoder or skip else None
    cfg = SAEConfig("jumprelu", d_in, d_sae, d_out=d_out, skip=skip, apply_b_dec_to_input=False)
    return filled(cfg, tensors, path)


def _plain_tensors(path: Path) -> dict[str, Any]:
    """A file of `torch.save` that holds nothing but tensors and plain values."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path} is no plain state dict: {error}") from error


def _renamed(
    found: Mapping[str, Tensor], names: Mapping[str, str], path: Path, parts: Sequence[str] = ENCODER_AND_DECODER
) -> dict[str, Tensor]:
    tensors = {names.get(key, key): value for key, value in found.items()}
    if missing := [name for name in parts if name not in tensors]:
        raise ValueError(f"{path}: {', '.join(missing)} missing; it has {', '.join(found)}")
    return tensors
