"""OpenCLIP's checkpoints as transformers' `CLIPModel`: the config, the names of the weights, the fused projections.

OpenCLIP keeps query, key and value of a block in one matrix, its final projections transposed, and the text tower's
weights at the top level (or under `text.`). Its towers of other kinds (timm's, ResNets, Hugging Face's text encoders,
CoCa's poolers) have no counterpart in `CLIPModel` and are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shared.zoo._assets import AssetError

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's images, which OpenCLIP takes where a config has none
STD = (0.26862954, 0.26130258, 0.27577711)
_READ = {
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs", "eos_id"},
}
# What changes nothing in the embeddings of a class token or of the last token under a causal mask.
_WITHOUT_EFFECT = {
    "vision_cfg": {"patch_dropout", "output_tokens", "pos_embed_type", "final_ln_after_pool", "image_seq_len"},
    "text_cfg": {"output_tokens", "final_ln_after_pool", "pad_id", "bos_id", "tokenizer_kwargs", "tokenizer_mode"}
    | {"tokenizer_type", "tiktoken_name", "hf_tokenizer_name", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"},
}
_UNUSED = ("attn_pooler_", "timm_pool", "timm_proj", "timm_drop", "timm_model_pretrained", "timm_model_kwargs")
_ALLOWED = {  # values that `CLIPModel` has too; anything else must be off
    "pool_type": ("tok", "argmax", "eos"),
    "proj_type": ("linear",),
    "text_arch": ("clip",),
    "block_type": ("default",),
}
_TOP = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_TRANSPOSED = ("visual.proj", "text_projection")
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OF_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)$")


def is_openclip(folder: Path) -> bool:
    """Whether a folder has OpenCLIP's files and none of transformers' for the same model."""
    if not (folder / CONFIG).is_file():
        return False
    own = folder / "config.json"  # timm's repositories have one too, which isn't transformers'
    is_transformers = own.is_file() and "model_type" in json.loads(own.read_text(encoding="utf-8"))
    return not (is_transformers and any(file.name not in WEIGHTS for file in folder.glob("*.safetensors")))


def load_openclip(folder: Path, name: str, dtype: torch.dtype, **options: Any) -> tuple[nn.Module, dict[str, tuple]]:
    """The `CLIPModel` of a folder with OpenCLIP's files, and what its images are: input size, mean, std.

    Parameters
    ----------
    folder : with `open_clip_config.json` and safetensors weights; pickled ones (.bin, .pt) are never read.
    name : for errors.
    dtype : of the weights.
    **options : for `from_pretrained`.
    """
    from transformers import CLIPModel

    said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    weights = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise AssetError(f"{name} has no safetensors weights ({' or '.join(WEIGHTS)}); pickles aren't loaded")
    if "model_cfg" not in said:
        raise AssetError(f"{name}: {CONFIG} has no model_cfg")
    config = clip_config(said["model_cfg"], name)
    state = clip_weights(load_file(weights), name)
    model, found = CLIPModel.from_pretrained(
        None, config=config, state_dict=state, dtype=dtype, output_loading_info=True, **options
    )
    if wrong := [*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]:
        raise AssetError(f"{name}: {weights.name} doesn't fit its config at {', '.join(map(str, sorted(wrong)[:3]))}")
    side = config.vision_config.image_size
    images = said.get("preprocess_cfg", {})
    mean, std = (tuple(images.get(key) or usual) for key, usual in (("mean", MEAN), ("std", STD)))
    return model, {"input_size": (3, side, side), "mean": mean, "std": std}


def clip_config(said: Mapping[str, Any], name: str) -> Any:
    """transformers' `CLIPConfig` of OpenCLIP's `model_cfg`."""
    from transformers import CLIPConfig

    vision, text = ({**said.get(tower, {})} for tower in ("vision_cfg", "text_cfg"))
    for tower, given in (("vision_cfg", vision), ("text_cfg", text)):
        _refuse_others(tower, given, name)
    act = {"hidden_act": "quick_gelu" if said.get("quick_gelu") else "gelu", "projection_dim": said["embed_dim"]}
    width = vision.get("width", 768)
    vocabulary = text.get("vocab_size", 49408)
    eos = text.get("eos_id") if text.get("pool_type") == "eos" else vocabulary - 1  # "argmax": the end has the highest
    return CLIPConfig(
        projection_dim=said["embed_dim"],
        vision_config={
            **_sizes(vision, width),
            **act,
            "num_attention_heads": width // vision.get("head_width", 64),
            "image_size": _side(vision.get("image_size", 224), name),
            "patch_size": _side(vision.get("patch_size", 16), name),
        },
        text_config={
            **_sizes(text, text.get("width", 512)),
            **act,
            "num_attention_heads": text.get("heads", 8),
            "vocab_size": vocabulary,
            "max_position_embeddings": text.get("context_length", 77),
            "bos_token_id": eos - 1,
            "eos_token_id": eos,
            "pad_token_id": eos,
        },
    )


def _sizes(given: Mapping[str, Any], width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": given.get("layers", 12),
        "intermediate_size": int(width * given.get("mlp_ratio", 4.0)),
        "layer_norm_eps": (given.get("norm_kwargs") or {}).get("eps", 1e-5),
    }


def _refuse_others(tower: str, given: Mapping[str, Any], name: str) -> None:
    for key, value in given.items():
        is_resnet = key == "layers" and not isinstance(value, int)
        is_known = key in _READ[tower] | _WITHOUT_EFFECT[tower] or key.startswith(_UNUSED)
        if is_resnet or not (is_known or not value or value in _ALLOWED.get(key, ())):
            raise AssetError(f"{name}: {tower} has {key}={value!r}, which transformers' CLIPModel can't do")


def _side(size: int | list[int], name: str) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise AssetError(f"{name}: images or patches of {size}; transformers' CLIPModel takes squares only")
    return sides.pop()


def clip_weights(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """OpenCLIP's weights under transformers' names."""
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        key = key.removeprefix("text.")
        if key == "attn_mask":  # a buffer of early checkpoints
            continue
        if key in _TOP:
            value = value.T.contiguous() if key in _TRANSPOSED else value
            converted[_TOP[key]] = value.reshape(()) if key == "logit_scale" else value
        elif match := _OF_BLOCK.match(key):
            converted |= _block_weights(match, value, name)
        else:
            raise AssetError(f"{name} has weights {key}, which transformers' CLIPModel doesn't")
    return converted


def _block_weights(match: re.Match[str], value: Tensor, name: str) -> dict[str, Tensor]:
    visual, number, part, kind = match.groups()
    block = f"{'vision' if visual else 'text'}_model.encoder.layers.{number}"
    if part == "attn.in_proj":
        thirds = zip("qkv", value.chunk(3))
        return {f"{block}.self_attn.{which}_proj.{kind}": third.contiguous() for which, third in thirds}
    if part not in _BLOCK:
        raise AssetError(f"{name} has weights {match[0]}, which transformers' CLIPModel doesn't")
    return {f"{block}.{_BLOCK[part]}.{kind}": value}
