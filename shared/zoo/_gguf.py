"""From a GGUF file with a Llama model to a folder that transformers loads: safetensors, config, tokenizer.

Why not transformers' own GGUF loading each time: it takes half a minute, and its tokenizer follows generic Llama rules.
SmolLM2's is a byte-level BPE that splits digits one by one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL = 3  # GGUF's token type for special tokens


def convert_llama(gguf: Path, folder: Path, dtype: type = np.float32) -> None:
    """Write `model.safetensors`, `config.json`, `generation_config.json` and tokenizer files into `folder`.

    Raises `ValueError` for a GGUF file of another architecture or with another kind of tokenizer.
    """
    reader, meta = read_gguf(gguf, "llama", {"tokenizer.ggml.pre": "smollm"})
    heads = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    tensors = {}
    for tensor in reader.tensors:
        name, part = _hub_name(tensor.name)
        value = dequantize(tensor.data, tensor.tensor_type).astype(dtype)
        tensors[name] = _undo_rope_order(value, heads[part]) if part in heads else value
    config = _config(meta, tied="lm_head.weight" not in tensors)
    write_config(config, folder)
    _write_tokenizer(meta, folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def read_gguf(gguf: Path, architecture: str, tokenizer: dict[str, str]) -> tuple[GGUFReader, dict[str, Any]]:
    """An open file and its metadata; `ValueError` for another architecture, or a tokenizer of another kind.

    `tokenizer` is a field that tells kinds apart, and the value it must have.
    """
    reader = GGUFReader(gguf)
    meta = {key: value.contents() for key, value in reader.fields.items()}
    ((key, kind),) = tokenizer.items()
    if meta.get("general.architecture") != architecture or meta.get(key) != kind:
        raise ValueError(
            f"{gguf.name} holds architecture {meta.get('general.architecture')!r} with tokenizer "
            f"{meta.get(key)!r}; accepted: {architecture!r} with {kind!r}"
        )
    return reader, meta


def _hub_name(name: str) -> tuple[str, str]:
    """GGUF's tensor name as transformers calls it, and its part: `blk.3.attn_q.weight` is part `attn_q`."""
    part = name.removesuffix(".weight").split(".")[-1]
    if name.startswith("blk."):
        return f"model.layers.{name.split('.')[1]}.{_LAYER_NAMES[part]}.weight", part
    return f"{_TOP_NAMES[part]}.weight", part


def _undo_rope_order(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """GGUF interleaves the two halves of each head's rotary dimensions; transformers keeps them apart."""
    rows, columns = weight.shape
    split = weight.reshape(n_heads, rows // n_heads // 2, 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def _config(meta: dict[str, Any], tied: bool) -> dict[str, Any]:
    heads = meta["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": meta["llama.embedding_length"] // heads,
        "max_position_embeddings": meta["llama.context_length"],
        "rms_norm_eps": decimal(meta["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": meta["llama.rope.freq_base"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "vocab_size": meta["llama.vocab_size"],
        "tie_word_embeddings": tied,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"],
        "dtype": "float32",
    }


def _write_tokenizer(meta: dict[str, Any], folder: Path) -> None:
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[meta["tokenizer.ggml.bos_token_id"]],
            "eos_token": tokens[meta["tokenizer.ggml.eos_token_id"]],
            "unk_token": tokens[meta["tokenizer.ggml.unknown_token_id"]],
            "pad_token": tokens[meta["tokenizer.ggml.padding_token_id"]],
            "additional_special_tokens": special,
            "chat_template": meta.get("tokenizer.chat_template"),
            "model_max_length": meta["llama.context_length"],
            "clean_up_tokenization_spaces": False,
        },
    )


def decimal(value: float) -> float:
    """A number as it was written before GGUF kept it in single precision: 1e-6, not 9.99999997e-07."""
    return float(f"{value:.6g}")


def write_config(config: dict[str, Any], folder: Path) -> None:
    """`config.json`, and `generation_config.json` with the start and end tokens."""
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {k: config[k] for k in ("bos_token_id", "eos_token_id")})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Indented by two."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
