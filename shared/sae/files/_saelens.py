"""Dictionaries on disk: SAELens's directory format, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from shared._checks import check_choice, check_finite, wide
from shared.sae._config import SAEConfig
from shared.sae._model import SparseDict
from shared.sae.architectures._gated import GATED, as_jumprelu
from shared.sae.files._whole import read_tensors, whole

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
# SAELens's architecture (the last two: its names for what it hasn't) -> ours, skip connection
TRANSCODERS = {
    "transcoder": ("standard", False),
    "skip_transcoder": ("standard", True),
    "jumprelu_transcoder": ("jumprelu", False),
    "jumprelu_skip_transcoder": ("jumprelu", True),
    "topk_transcoder": ("topk", False),
    "topk_skip_transcoder": ("topk", True),
}
AUTOENCODERS = {
    "standard": "standard",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "matryoshka",
    "gated": "jumprelu",  # which it is at inference
}
OURS = ("decoder_norm", "l1_coefficient", "l0_coefficient", "bandwidth", "init_threshold", "aux_coefficient", "biases")
ROUNDED, SCALE = {"W_enc": 0, "W_dec": 1}, "_scale"  # what `int8` rounds: matrix -> the axis within a latent
# keys of cfg.json that say what the dictionary computes; a key in neither of these two lists is refused
READ = frozenset(
    """architecture d_in d_sae d_out k apply_b_dec_to_input normalize_activations metadata matryoshka_widths
    rescale_acts_by_decoder_norm reshape_activations
    activation_fn activation_fn_str activation_fn_kwargs finetuning_scaling_factor""".split()  # the last: before 6.0
)
# where it comes from and how it was trained: nothing that changes its codes
NOTES = frozenset(
    """dtype device sae_lens_version sae_lens_training_version neuronpedia_id model_name model_class_name
    model_from_pretrained_kwargs hook_name hook_point hook_layer hook_point_layer hook_head_index hook_point_head_index
    hook_name_out hook_layer_out hook_head_index_out context_size prepend_bos seqpos_slice dataset_path
    dataset_trust_remote_code exclude_special_tokens training_architecture training_architecture_details
    decoder_init_norm l1_coefficient lp_norm l1_warm_up_steps l0_coefficient l0_warm_up_steps pre_act_loss_coefficient
    jumprelu_init_threshold jumprelu_bandwidth jumprelu_sparsity_loss_mode jumprelu_tanh_scale aux_loss_coefficient
    topk_threshold_lr use_sparse_activations use_matryoshka_aux_loss""".split()
)


def save(sae: SparseDict, folder: str | Path, *, int8: bool = False) -> Path:
    """Write `sae_weights.safetensors` and `cfg.json`, loadable by `sae_lens.SAE.load_from_disk(folder)`, or here alone
    what it doesn't have: TopK transcoders, and matrices in int8.

    BatchTopK and Matryoshka are saved as the JumpReLU they are at inference, as SAELens does; what they were trained as
    and their levels stay under `metadata`. The configuration is written last: without it a folder doesn't load.

    Parameters
    ----------
    sae : SparseDict
        The dictionary.
    folder : path
        Made if it is not there.
    int8 : bool
        Keep encoders and decoders as whole numbers, each latent's with a scale of its own (a quarter of float32's size;
        an entry is off by at most 1/254 of its row's largest). SAELens doesn't read these, `load` does.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        Weights that aren't finite, a batch top-k without a threshold, or a kind that has no name in a file.
    """
    folder = Path(folder)
    sae = sae.to_inference()
    tensors = {name: value.detach().cpu().contiguous() for name, value in sae.state_dict().items()}
    for name, value in tensors.items():
        check_finite(name, value)
    if int8:
        for name, dim in ROUNDED.items():
            tensors |= _rounded(name, tensors[name], dim)
    content = _config_out(sae)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    with whole(folder / WEIGHTS) as path:
        save_file(tensors, path)
    with whole(folder / CONFIG) as path:
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def _rounded(name: str, value: Tensor, dim: int) -> dict[str, Tensor]:
    """A matrix in whole numbers from -127 to 127, and the scale of each latent."""
    scale = (value.float().abs().amax(dim, keepdim=True) / 127).clamp_min(1e-30)
    return {name: (value.float() / scale).round().to(torch.int8).contiguous(), name + SCALE: scale}


def _config_out(sae: SparseDict) -> dict[str, Any]:
    cfg = sae.cfg
    names = {kind: name for name, kind in TRANSCODERS.items()}
    if cfg.is_transcoder and (cfg.architecture, cfg.skip) not in names:
        kind = f"{cfg.architecture!r}{' with skip=True' if cfg.skip else ''}"
        raise ValueError(
            f"there is no file format for a transcoder of architecture {kind}; known: {', '.join(TRANSCODERS)}"
        )
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


def load(folder: str | Path, *, device: str | torch.device = "cpu") -> SparseDict:
    """Read a dictionary that `save`, SAELens or its trainers wrote.

    Architectures: standard, jumprelu, topk, batchtopk, matryoshka_batchtopk, gated (read as the JumpReLU that it is at
    inference) and the transcoders; of files before SAELens 6 also standard ones whose `activation_fn_str` is "topk".

    Parameters
    ----------
    folder : path
        With `cfg.json` and `sae_weights.safetensors`.
    device : str or torch.device
        Where the weights go.

    Returns
    -------
    SparseDict
        In the files' type.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        An architecture, activation, key or tensor that isn't known here (it might change the codes), a tensor that is
        missing, not finite or of another shape than the configuration says, a negative threshold, a damaged file; the
        file and key are named.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; a dictionary is a folder with {CONFIG} and {WEIGHTS}")
    content = read_json(folder / CONFIG)
    check_keys(content, READ | NOTES, folder / CONFIG)
    tensors, _ = read_tensors(folder / WEIGHTS)
    for name in ROUNDED:
        if tensors.get(name, torch.zeros(1)).dtype == torch.int8 and name + SCALE in tensors:
            tensors[name] = tensors[name].float() * tensors.pop(name + SCALE)
    cfg = _config_in(content, folder / CONFIG)
    if "topk_threshold" in tensors:
        tensors["threshold"] = wide(tensors.pop("topk_threshold"))
    if bool((tensors.get("scaling_factor", torch.zeros(1)) == 1).all()):
        del tensors["scaling_factor"]  # SAELens wrote it for a while without using it
    if content["architecture"] == "gated":
        if missing := [name for name in GATED if name not in tensors]:
            raise ValueError(f"{folder / WEIGHTS}: {', '.join(missing)} missing for architecture='gated'")
        tensors = as_jumprelu(tensors)
    sae = filled(cfg, tensors, folder / WEIGHTS)
    if content.get("rescale_acts_by_decoder_norm"):
        norms = sae.W_dec.data.norm(dim=1).clamp_min(1e-12)
        sae.W_dec.data /= norms[:, None]
        sae.W_enc.data *= norms
        sae.b_enc.data *= norms
    return sae.to(device)


def check_keys(content: Mapping[str, Any], known: frozenset[str], path: Path) -> None:
    """Refuse a configuration with keys that nothing here reads: they may change what the dictionary computes."""
    if unknown := sorted(content.keys() - known):
        raise ValueError(f"{path}: {', '.join(unknown)} not understood, so its codes might come out otherwise")


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
    if content.get("finetuning_scaling_factor"):
        raise ValueError(f"{path}: finetuning_scaling_factor={content['finetuning_scaling_factor']!r}; known: False")
    if content.get("rescale_acts_by_decoder_norm") and not name.endswith("topk"):
        raise ValueError(f"{path}: rescale_acts_by_decoder_norm=True is known for topk, not for {name!r}")
    metadata = dict(content.get("metadata") or {})
    ours = metadata.pop("reprise", {})
    fields: dict[str, Any] = {key: ours[key] for key in (*OURS, "widths") if key in ours}
    if name in TRANSCODERS:
        fields["architecture"], fields["skip"] = TRANSCODERS[name]
        fields["d_out"] = content.get("d_out", 768)  # SAELens's default
    else:
        fields["architecture"] = AUTOENCODERS[name]
        fields["apply_b_dec_to_input"] = bool(content.get("apply_b_dec_to_input", True))
    if name in ("topk", "batchtopk", "matryoshka_batchtopk", "topk_transcoder", "topk_skip_transcoder"):
        fields["k"] = content.get("k", 100)
    fields |= _old_activation(content, name, path)
    if "matryoshka_widths" in content:
        fields["widths"] = content["matryoshka_widths"]
    if content.get("reshape_activations", "none") != "none":
        metadata["reshape_activations"] = content["reshape_activations"]
    fields["normalize_activations"] = content.get("normalize_activations") or "none"
    try:
        return SAEConfig(d_in=content["d_in"], d_sae=content["d_sae"], metadata=metadata, **fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _old_activation(content: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """What `activation_fn_str` of files before SAELens 6 says: they had "topk" as an activation of "standard" ones."""
    given = content.get("activation_fn_str", content.get("activation_fn", "relu"))
    options = dict(content.get("activation_fn_kwargs") or {})
    k = options.pop("k", None)
    check_choice(f"activation_fn_str in {path}", given, ("relu", "topk") if name in ("standard", "topk") else ("relu",))
    if options:
        raise ValueError(f"{path}: activation_fn_kwargs has {', '.join(options)}, not understood; known: k")
    if k is None and given == "topk" and name == "standard":
        raise ValueError(f"{path}: activation_fn_str='topk' needs k in activation_fn_kwargs")
    if given == "topk" or (k is not None and name == "topk"):
        return {"architecture": "topk", "k": content.get("k", 100) if k is None else k}
    return {}


def filled(cfg: SAEConfig, tensors: dict[str, Tensor], path: Path) -> SparseDict:
    """A dictionary with these tensors, each checked against the configuration; what isn't learned may be missing."""
    sae = SparseDict(cfg, generator=torch.Generator())
    learned = dict(sae.named_parameters())
    tensors = {**dict(sae.named_buffers()), **tensors}
    expected = sae.state_dict()
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ValueError(f"{path}: {', '.join(missing)} missing for architecture={cfg.architecture!r}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise ValueError(f"{path}: unexpected {', '.join(unknown)} for architecture={cfg.architecture!r}")
    for name, ours in expected.items():
        value = tensors[name]
        if value.shape != ours.shape:
            wanted, sizes = tuple(ours.shape), f"d_in={cfg.d_in}, d_sae={cfg.d_sae}, d_out={cfg.width_out}"
            raise ValueError(f"{path}: {name} has shape {tuple(value.shape)}; {sizes} ask for {wanted}")
        if not value.is_floating_point():
            raise ValueError(f"{path}: {name} has type {value.dtype}; expected floating point")
        if name in learned or name in ("b_enc", "b_dec"):
            check_finite(f"{name} in {path}", value)
        if name in ("b_enc", "b_dec") and not cfg.biases and bool(value.any()):
            raise ValueError(f"{path}: {name} isn't zero, where the configuration says biases=False")
        if name == "threshold" and bool((value < 0).any()):
            raise ValueError(f"{path}: threshold has negative values (lowest {float(value.min()):.3g})")
    sae = sae.to(tensors["W_dec"].dtype)
    for name, value in sae.named_buffers():  # thresholds that are no parameter stay in double precision
        setattr(sae, name, wide(value) if name == "threshold" else value)
    sae.load_state_dict(tensors)
    return sae
