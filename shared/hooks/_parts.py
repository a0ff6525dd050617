"""Names of a transformer's parts by family: the one table; tests/hooks/test_parts.py holds it to transformers 5."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from shared._checks import UnknownNameError, check_choice, check_range
from shared.hooks._core import find_module


@dataclass(frozen=True)
class TransformerParts:
    """Where a model keeps its parts; `layer("value", 3)` is the full name of block 3's value projection.

    Parameters
    ----------
    blocks : the stack of blocks, as `model.named_modules()` spells it.
    embedding : token embedding, or of images the module that gives the patches' (and class token's) embeddings.
    final_norm : the norm behind the last block; None in post-norm families.
    attention : within a block, the module that runs the attention function.
    query, key, value : within a block; one and the same name where they are fused.
    output : within a block, the projection of the heads' outputs.
    down : within a block, the MLP's last linear map; its input are the neurons.
    attention_norm, mlp_norm : within a block; in front of the part (pre-norm) or behind its sum with the stream.
    post_norm : whether norms act on the stream after each sum (BERT).
    attention_write, mlp_write : within a block, the modules whose outputs are added to the residual stream.
    """

    blocks: str
    embedding: str
    final_norm: str | None
    attention: str
    query: str
    key: str
    value: str
    output: str
    down: str
    attention_norm: str
    mlp_norm: str
    post_norm: bool = False
    attention_write: str = ""
    mlp_write: str = ""

    def layer(self, part: str, number: int) -> str:
        """Full name of a part of a block.

        Parameters
        ----------
        part : "block" for the whole, or a field of this class that is within a block.
        number : the block, from 0.

        Returns
        -------
        A name for `find_module`, `capture`, `steer` and the like.
        """
        check_range("number", number, 0)
        block = f"{self.blocks}.{number}"
        if part == "block":
            return block
        check_choice("part", part, ("block", *_WITHIN))
        written = {"attention_write": self.output, "mlp_write": self.down}
        return f"{block}.{getattr(self, part) or written[part]}"


_WITHIN = (
    "attention",
    "query",
    "key",
    "value",
    "output",
    "down",
    "attention_norm",
    "mlp_norm",
    "attention_write",
    "mlp_write",
)
_QKV = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
_LLAMA = TransformerParts(
    blocks="layers",
    embedding="embed_tokens",
    final_norm="norm",
    attention="self_attn",
    **_QKV,
    output="self_attn.o_proj",
    down="mlp.down_proj",
    attention_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
)
_GEMMA2 = replace(
    _LLAMA,
    mlp_norm="pre_feedforward_layernorm",
    attention_write="post_attention_layernorm",
    mlp_write="post_feedforward_layernorm",
)
_PHI3 = replace(_LLAMA, **dict.fromkeys(_QKV, "self_attn.qkv_proj"))
_GPT2 = TransformerParts(
    blocks="h",
    embedding="wte",
    final_norm="ln_f",
    attention="attn",
    **dict.fromkeys(_QKV, "attn.c_attn"),
    output="attn.c_proj",
    down="mlp.c_proj",
    attention_norm="ln_1",
    mlp_norm="ln_2",
)
_NEOX = TransformerParts(
    blocks="layers",
    embedding="embed_in",
    final_norm="final_layer_norm",
    attention="attention",
    **dict.fromkeys(_QKV, "attention.query_key_value"),
    output="attention.dense",
    down="mlp.dense_4h_to_h",
    attention_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
)
_OPT = TransformerParts(
    blocks="decoder.layers",
    embedding="decoder.embed_tokens",
    final_norm="decoder.final_layer_norm",
    attention="self_attn",
    **_QKV,
    output="self_attn.out_proj",
    down="fc2",
    attention_norm="self_attn_layer_norm",
    mlp_norm="final_layer_norm",
)
_BERT = TransformerParts(
    blocks="encoder.layer",
    embedding="embeddings.word_embeddings",
    final_norm=None,
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    down="output.dense",
    attention_norm="attention.output.LayerNorm",
    mlp_norm="output.LayerNorm",
    post_norm=True,
)
_VIT = TransformerParts(
    blocks="layers",
    embedding="embeddings",
    final_norm="layernorm",
    attention="attention",
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    output="attention.o_proj",
    down="mlp.fc2",
    attention_norm="layernorm_before",
    mlp_norm="layernorm_after",
)
_DINO2 = replace(
    _VIT,
    blocks="encoder.layer",
    attention_norm="norm1",
    mlp_norm="norm2",
    attention_write="layer_scale1",
    mlp_write="layer_scale2",
)
_CLIP_VISION = TransformerParts(
    blocks="encoder.layers",
    embedding="embeddings",
    final_norm="post_layernorm",
    attention="self_attn",
    **_QKV,
    output="self_attn.out_proj",
    down="mlp.fc2",
    attention_norm="layer_norm1",
    mlp_norm="layer_norm2",
)
_CLIP_TEXT = replace(_CLIP_VISION, embedding="embeddings.token_embedding", final_norm="final_layer_norm")
FAMILIES = {  # model_type of the config -> names relative to the base model
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma"), _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA2),
    "phi3": _PHI3,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    "opt": _OPT,
    **dict.fromkeys(("bert", "roberta"), _BERT),
    "vit": _VIT,
    "dinov2": _DINO2,
    **dict.fromkeys(("clip_vision_model", "siglip_vision_model"), _CLIP_VISION),
    **dict.fromkeys(("clip_text_model", "siglip_text_model"), _CLIP_TEXT),
}


def transformer_parts(model: nn.Module, *, tower: str = "") -> TransformerParts:
    """Names of the parts of a transformers model, with or without a head.

    Parameters
    ----------
    model : of a family in the table: Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, Phi-3, GPT-2, GPT-NeoX, OPT, BERT,
        RoBERTa, ViT, DINOv2, CLIP, SigLIP.
    tower : of a model of two, "vision_model" or "text_model".

    Returns
    -------
    `TransformerParts`, names as `model.named_modules()` spells them.

    Raises
    ------
    ValueError
        A model without `config`, of another family, or of two towers without `tower`.
    """
    part = find_module(model, tower)
    if not hasattr(part, "config"):
        raise ValueError(f"model is a {type(model).__name__} without config; a transformers model is needed")
    if not tower and {"vision_model", "text_model"} <= dict(model.named_children()).keys():
        raise ValueError(f"model is a {type(model).__name__} of two towers; pass tower='vision_model' or 'text_model'")
    family = part.config.model_type
    if family not in FAMILIES:
        raise UnknownNameError(f"model is of family {family!r}, which is not in the table: {', '.join(FAMILIES)}")
    names, base = FAMILIES[family], getattr(part, "base_model_prefix", "")
    prefix = ".".join(filter(None, (tower, base if base and hasattr(part, base) else "")))
    return _below(names, prefix)


def _below(names: TransformerParts, prefix: str) -> TransformerParts:
    if not prefix:
        return names
    final = None if names.final_norm is None else f"{prefix}.{names.final_norm}"
    return replace(names, blocks=f"{prefix}.{names.blocks}", embedding=f"{prefix}.{names.embedding}", final_norm=final)
