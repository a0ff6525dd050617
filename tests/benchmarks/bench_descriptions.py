"""What FADE's scores of 400 features cost: peaks and scores together, beside one plain pass over the same texts.

Texts are of 24 tokens, the model a Llama of SmolLM2's width with its own tokenizer left out: ids are given as words.
The judge's ratings and the texts it writes are at hand. CPU seconds of this process.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import transformers
from clock import cpu_seconds

from shared.concepts import clarity, responsiveness_purity
from shared.lm import Site, peak_activations

FEATURES, TOKENS, WRITTEN = 400, 24, 15


class Words:
    """As much of a tokenizer as `peak_activations` asks: texts are numbers between blanks."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[int(word) for word in text.split()])


def run(quick: bool = False) -> list[dict]:
    """One row; `quick` takes fewer texts and layers."""
    n, depth = (192, 8) if quick else (512, 12)
    torch.manual_seed(0)
    sizes = {"hidden_size": 576, "num_hidden_layers": depth, "intermediate_size": 1536, "vocab_size": 4096}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=9, num_key_value_heads=3)
    loaded = SimpleNamespace(model=transformers.LlamaForCausalLM(config).eval(), tokenizer=Words())
    ids = torch.randint(5, 4096, (n, TOKENS))
    texts = [" ".join(map(str, row)) for row in ids.tolist()]
    ratings = torch.randint(0, 3, (n, FEATURES))
    synthetic = torch.randn(WRITTEN, FEATURES)
    site = Site(f"model.layers.{depth - 1}.mlp.down_proj", "input", lambda x: x[..., :FEATURES])

    def scored() -> None:
        peaks = peak_activations(loaded, site, texts, start=None)
        responsiveness_purity(peaks, ratings)
        clarity(peaks, synthetic)

    @torch.no_grad()
    def plain() -> None:
        for part in ids.split(32):
            loaded.model.model(part, use_cache=False)

    ours, theirs = cpu_seconds(scored, repeats=1), cpu_seconds(plain, repeats=1)
    return [
        {
            "benchmark": f"FADE's scores of {FEATURES} features on {n} texts of {TOKENS} tokens",
            "ours_s": ours,
            "reference": "one pass over the texts",
            "reference_s": theirs,
            "ratio": ours / theirs,
            "aim": 1.3,
            "note": "peaks of all features in one pass, then the scores",
        }
    ]
