"""Stand-ins for Atlas-Alignment: a Llama as the subject, a Gemma 2 as the atlas, with other tokenizers."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from tests.papers.hub import WORDS, tiny_llama, tiny_tokenizer

PARAMETERS = {
    **{"atlas_layer": "model.layers.0", "n_texts": 60, "n_latents": 16, "latent_k": 2, "dictionary_steps": 5},
    **{"layer": 1, "neuron_layer": 1, "n_fit": 24, "n_label": 16, "sizes": [12, 24], "min_fires": 1, "max_share": 1.0},
    **{"n_query": 3, "n_key": 4, "n_null": 2, "n_tokens": 2},
}


def build(hub: Path) -> None:
    tiny_llama(hub / "meta-llama" / "Llama-3.1-8B")
    folder = hub / "google" / "gemma-2-2b"
    tokenizer = tiny_tokenizer(folder, WORDS[::2])
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"head_dim": 8, "intermediate_size": 48, "vocab_size": len(tokenizer), "query_pre_attn_scalar": 8}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**sizes, **ids)).save_pretrained(folder)
