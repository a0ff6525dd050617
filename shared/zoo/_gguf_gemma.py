"""From a GGUF file with a Gemma 3 text model to a folder that transformers loads: safetensors, config, tokenizer.

GGUF keeps a SentencePiece tokenizer as pieces with scores; what merges with what follows from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from shared.zoo._gguf import CONTROL, decimal, read_gguf, write_config, write_json

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k": "self_attn.k_proj",
    "attn_k_norm": "self_attn.k_norm",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_NORMAL, _USER_DEFINED = 1, 4  # GGUF's token types: a learned piece; one that the text is cut at before all else
_SIX = 6  # every sixth layer attends to all, the others to a window; GGUF says neither this nor the windows' base
_LOCAL_BASE = 1e4


def convert_gemma3(gguf: Path, folder: Path, dtype: type = np.float32) -> None:
    """Write `model.safetensors`, `config.json`, `generation_config.json` and tokenizer files into `folder`.

    Raises `ValueError` for a GGUF file of another architecture, with another kind of tokenizer, or of a Gemma 3 with
    scaled positions (4B and larger).
    """
    reader, meta = read_gguf(gguf, "gemma3", {"tokenizer.ggml.model": "llama"})
    if scaled := [key for key in meta if key.startswith("gemma3.rope.scaling")]:
        raise ValueError(f"{gguf.name} scales positions ({scaled[0]}); accepted: Gemma 3 without, which is 270M and 1B")
    tensors = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type)
        offset = tensor.name.endswith("norm.weight")  # GGUF keeps 1 + weight, which is what the norm scales by
        tensors[_hub_name(tensor.name)] = (value - 1 if offset else value).astype(dtype)
    write_config(_config(meta), folder)
    _write_tokenizer(meta, folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _hub_name(name: str) -> str:
    """GGUF's tensor name as transformers calls it."""
    part = name.removesuffix(".weight").split(".")[-1]
    if name.startswith("blk."):
        return f"model.layers.{name.split('.')[1]}.{_LAYER_NAMES[part]}.weight"
    return f"{_TOP_NAMES[part]}.weight"


def _config(meta: dict[str, Any]) -> dict[str, Any]:
    width, layers = meta["gemma3.attention.key_length"], meta["gemma3.block_count"]
    base = {"full_attention": meta["gemma3.rope.freq_base"], "sliding_attention": _LOCAL_BASE}
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_size": meta["gemma3.embedding_length"],
        "intermediate_size": meta["gemma3.feed_forward_length"],
        "num_hidden_layers": layers,
        "num_attention_heads": meta["gemma3.attention.head_count"],
        "num_key_value_heads": meta["gemma3.attention.head_count_kv"],
        "head_dim": width,
        "query_pre_attn_scalar": width,
        "max_position_embeddings": meta["gemma3.context_length"],
        "sliding_window": meta["gemma3.attention.sliding_window"],
        "layer_types": ["sliding_attention" if (i + 1) % _SIX else "full_attention" for i in range(layers)],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in base.items()},
        "rms_norm_eps": decimal(meta["gemma3.attention.layer_norm_rms_epsilon"]),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": True,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"],
        "dtype": "float32",
    }


def _write_tokenizer(meta: dict[str, Any], folder: Path) -> None:
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    named = {
        f"{name}_token": tokens[meta[f"tokenizer.ggml.{key}_token_id"]]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = _merges(vocab, types, meta["tokenizer.ggml.scores"])
    model = models.BPE(vocab=vocab, merges=merges, unk_token=named["unk_token"], fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    for kind in (CONTROL, _USER_DEFINED):
        chosen = [token for token, its in zip(tokens, types) if its == kind]
        tokenizer.add_tokens([AddedToken(token, special=kind == CONTROL, normalized=False) for token in chosen])
    if meta["tokenizer.ggml.add_bos_token"]:
        bos = named["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", f"{bos}:1", "$B:1"], special_tokens=[(bos, vocab[bos])]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **named,
            "chat_template": meta.get("tokenizer.chat_template"),
            "model_max_length": meta["gemma3.context_length"],
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
        },
    )


def _merges(vocab: dict[str, int], types: list[int], scores: list[float]) -> list[tuple[str, str]]:
    """Every two learned pieces that make a third, the best-scored third first: what SentencePiece joins next."""
    learned = {token: i for token, i in vocab.items() if types[i] == _NORMAL}
    found = [
        (-scores[i], token[:cut], token[cut:])
        for token, i in learned.items()
        for cut in range(1, len(token))
        if token[:cut] in learned and token[cut:] in learned
    ]
    found.sort(key=lambda merge: merge[0])
    return [merge[1:] for merge in found]
