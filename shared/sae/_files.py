"""Dictionaries on disk: SAELens's directory format, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from shared._checks import check_choice, check_finite
from shared.sae._checkpoint import read_tensors, whole
from shared.sae._config import BATCH_FAMILY, SAEConfig
from shared.sae._model import SparseDict

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
# SAELens's architecture -> ours, skip connection
TRANSCODERS = {
    "transcoder": ("standard", False),
    "skip_transcoder": ("standard", True),
    "jumprelu_transcoder": ("jumprelu", False),
    "jumprelu_skip_transcoder": ("jumprelu", True),
}
AUTOENCODERS = {
    "standard": "standard",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "matryoshka",
}
OURS = ("decoder_norm", "l1_coefficient", "l0_coefficient", "bandwidth", "init_threshold", "aux_coefficient")


def save(sae: SparseDict, folder: str | Path) -> Path:
    """Write `sae_weights.safetensors` and `cfg.json`, loadable by `sae_lens.SAE.load_from_disk(folder)`.

    BatchTopK and Matryoshka are saved as the JumpReLU they are at inference, as SAELens does; what they were trained as
    and their levels stay under `metadata`. The configuration is written last: without it a folder doesn't load.

    Raises:
        ValueError: weights that aren't finite, a batch top-k without a threshold, or a kind SAELens has no name for.
    """
    folder = Path(folder)
    sae = sae.to_inference()
    tensors = {name: value.detach().cpu().contiguous() for name, value in sae.state_dict().items()}
    for name, value in tensors.items():
        check_finite(name, value)
    content = _config_out(sae)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    with whole(folder / WEIGHTS) as path:
        save_file(tensors, path)
    with whole(folder / CONFIG) as path:
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def _config_out(sae: SparseDict) -> dict[str, Any]:
    cfg = sae.cfg
    names = {kind: name for name, kind in TRANSCODERS.items()}
    if cfg.is_transcoder and (cfg.architecture, cfg.skip) not in names:
        kind = f"{cfg.architecture!r}{' with skip=True' if cfg.skip else ''}"
        raise ValueError(f"SAELens has no transcoder of architecture {kind}; it has {', '.join(TRANSCODERS)}")
    content: dict[str, Any] = {
        "architecture": names[cfg.architecture, cfg.skip] if cfg.is_transcoder else cfg.architecture,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": str(sae.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": cfg.apply_b_dec_to_input,
        "normalize_activations": cfg.normalize_activations,
        "reshape_activations": "none",
    }
    if cfg.architecture == "topk":
        content |= {"k": int(cfg.k), "rescale_acts_by_decoder_norm": False}
    if cfg.is_transcoder:
        content["d_out"] = cfg.d_out
    ours = {key: getattr(cfg, key) for key in OURS} | {"widths": cfg.widths}
    return content | {"metadata": {**cfg.metadata, "reprise": ours}}


def load(folder: str | Path, device: str | torch.device = "cpu") -> SparseDict:
    """Read a dictionary that `save`, SAELens or its trainers wrote (architectures standard, jumprelu, topk, batchtopk,
    matryoshka_batchtopk and the transcoders).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an unknown architecture, a tensor that is missing, unknown, not finite or of another shape than the
            configuration says, a negative threshold, a damaged file; the file and key are named.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; a dictionary is a folder with {CONFIG} and {WEIGHTS}")
    content = read_json(folder / CONFIG)
    tensors, _ = read_tensors(folder / WEIGHTS)
    cfg = _config_in(content, folder / CONFIG)
    if "topk_threshold" in tensors:
        tensors["threshold"] = tensors.pop("topk_threshold").double()
    sae = filled(cfg, tensors, folder / WEIGHTS)
    if content.get("rescale_acts_by_decoder_norm"):
        norms = sae.W_dec.data.norm(dim=1).clamp_min(1e-12)
        sae.W_dec.data /= norms[:, None]
        sae.W_enc.data *= norms
        sae.b_enc.data *= norms
    return sae.to(device)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; it holds a {type(content).__name__}")
    return content


def _config_in(content: Mapping[str, Any], path: Path) -> SAEConfig:
    """Our configuration from SAELens's."""
    if missing := [key for key in ("architecture", "d_in", "d_sae") if key not in content]:
        raise ValueError(f"{path}: {', '.join(missing)} missing; it has {', '.join(content)}")
    name = check_choice(f"architecture in {path}", content["architecture"], [*AUTOENCODERS, *TRANSCODERS])
    metadata = dict(content.get("metadata") or {})
    ours = metadata.pop("reprise", {})
    fields: dict[str, Any] = {key: ours[key] for key in (*OURS, "widths") if key in ours}
    if name in TRANSCODERS:
        fields["architecture"], fields["skip"] = TRANSCODERS[name]
        fields["d_out"] = content.get("d_out", 768)  # SAELens's default
    else:
        fields["architecture"] = AUTOENCODERS[name]
        fields["apply_b_dec_to_input"] = bool(content.get("apply_b_dec_to_input", True))
    if name in ("topk", "batchtopk", "matryoshka_batchtopk"):
        fields["k"] = content.get("k", 100)
    if "matryoshka_widths" in content:
        fields["widths"] = content["matryoshka_widths"]
    if content.get("reshape_activations", "none") != "none":
        metadata["reshape_activations"] = content["reshape_activations"]
    fields["normalize_activations"] = content.get("normalize_activations") or "none"
    try:
        return SAEConfig(d_in=content["d_in"], d_sae=content["d_sae"], metadata=metadata, **fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def filled(cfg: SAEConfig, tensors: dict[str, Tensor], path: Path) -> SparseDict:
    """A dictionary with these tensors, each checked against the configuration."""
    sae = SparseDict(cfg, torch.Generator())
    state = sae.state_dict()
    if cfg.architecture in BATCH_FAMILY and "threshold" not in tensors:
        tensors["threshold"] = state["threshold"]
    if missing := sorted(state.keys() - tensors.keys()):
        raise ValueError(f"{path}: {', '.join(missing)} missing for architecture={cfg.architecture!r}")
    if unknown := sorted(tensors.keys() - state.keys()):
        raise ValueError(f"{path}: unexpected {', '.join(unknown)} for architecture={cfg.architecture!r}")
    for name in state:
        value = tensors[name]
        if value.shape != state[name].shape:
            wanted, sizes = tuple(state[name].shape), f"d_in={cfg.d_in}, d_sae={cfg.d_sae}, d_out={cfg.width_out}"
            raise ValueError(f"{path}: {name} has shape {tuple(value.shape)}; {sizes} ask for {wanted}")
        if not value.is_floating_point():
            raise ValueError(f"{path}: {name} has type {value.dtype}; expected floating point")
        if name != "threshold" or cfg.architecture == "jumprelu":
            check_finite(f"{name} in {path}", value)
        if name == "threshold" and bool((value < 0).any()):
            raise ValueError(f"{path}: threshold has negative values (lowest {float(value.min()):.3g})")
    sae = sae.to(tensors["W_dec"].dtype)
    if cfg.architecture in BATCH_FAMILY:
        sae.threshold = sae.threshold.double()
    sae.load_state_dict(tensors)
    return sae
