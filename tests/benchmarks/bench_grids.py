"""Costs of a language model's patching grid and of taking out its heads, beside a whole run for each cell."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from clock import cpu_seconds, ratio_row

from shared.hooks import ablate_heads, attention_modules, capture, patch, transformer_parts
from shared.lm import direct_logit_attribution, head_ablation, logit_difference, patching_grid

PAIRS, TOKENS = 4, 16


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` takes a smaller model. CPU seconds of this process."""
    width, depth = (128, 6) if quick else (256, 8)
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "intermediate_size": 3 * width, "vocab_size": 4096}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    model = transformers.LlamaForCausalLM(config).eval()
    clean, corrupt = torch.randint(5, 4096, (2, PAIRS, TOKENS), generator=torch.Generator().manual_seed(0))
    metric = logit_difference(clean[:, -1], corrupt[:, -1])
    note = f"Llama {depth} x {width}, {TOKENS} tokens, {PAIRS} pairs where no other number stands"
    names = [transformer_parts(model).layer("block", layer) for layer in range(depth)]

    def score(ids: torch.Tensor) -> torch.Tensor:
        return metric(model(ids, use_cache=False).logits[:, -1])

    @torch.no_grad()
    def loop(clean: torch.Tensor, corrupt: torch.Tensor, score: Callable[[torch.Tensor], object]) -> None:
        with capture(model, names, at="input") as seen:
            score(clean)
        for name in names:
            for place in range(TOKENS):
                put = (slice(None), place)
                with patch(model, {name: seen[name][put]}, index=put, at="input"):
                    score(corrupt)

    @torch.no_grad()
    def ablations() -> None:
        for name in attention_modules(model):
            for head in range(4):
                with ablate_heads(model, {name: [head]}):
                    score(clean)

    def grids(pairs: int) -> dict:
        one, other = clean[:pairs], corrupt[:pairs]
        some = logit_difference(one[:, -1], other[:, -1])
        ours = cpu_seconds(lambda: patching_grid(model, one, other, some), 3)
        cells = cpu_seconds(lambda: loop(one, other, lambda x: some(model(x, use_cache=False).logits[:, -1])), 2)
        name, aim = f"lm: patching grid, {depth} x {TOKENS} cells, pairs: {pairs}", 0.25 if pairs == 1 else 0.4
        return ratio_row(name, ours, "a whole run for each", cells, aim, note)

    heads, each = cpu_seconds(lambda: head_ablation(model, clean, metric), 2), cpu_seconds(ablations, 1)
    direct = cpu_seconds(lambda: direct_logit_attribution(model, clean, 7, heads=True, neurons=True), 3)
    with torch.no_grad():
        forward = cpu_seconds(lambda: model(clean, use_cache=False), 3)
    return [
        grids(1),
        grids(PAIRS),  # bound by arithmetic: a cell costs about a quarter of a run
        ratio_row(f"lm: ablation of each of {4 * depth} heads", heads, "a whole run for each", each, 0.8, note),
        ratio_row("lm: direct logit attribution, heads and neurons", direct, "one forward pass", forward, 2.5, note),
    ]


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
