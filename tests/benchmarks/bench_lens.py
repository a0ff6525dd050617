"""What reading all layers costs, beside one forward pass: a language model's and a post-norm chess network's.

The language model is read at its last position. The chess network is read at every piece, and each state has still to
pass the norms of all later blocks, whose share shrinks with the width: 768, as in the paper's network.
"""

from __future__ import annotations

import torch
import transformers
from clock import cpu_seconds, ratio_row
from torch import nn

from shared.lm import logit_lens, residual_stack
from shared.nets import PostNormPolicy


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` takes smaller models. CPU seconds of this process."""
    width, depth = (128, 6) if quick else (384, 12)
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "intermediate_size": 3 * width, "vocab_size": 4096}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(5, 4096, (8, 64))

    def forward() -> None:
        with torch.no_grad():
            model(ids, use_cache=False)

    rows = [_row(f"lm: logit lens, Llama {depth} x {width}", lambda: logit_lens(model, ids, batch_size=8), forward)]
    net = PostNormPolicy(layers=8, width=128 if quick else 768, heads=8).eval()
    stack = residual_stack(net, blocks="blocks", norm=nn.Identity(), head=net.head, rest=net.rest)
    tokens = torch.randint(12 * 64, (256, 4))

    def play() -> None:
        with torch.no_grad():
            net(tokens)

    def read() -> None:
        logit_lens(net, tokens, stack=stack, position=None, batch_size=512)

    return [*rows, _row("lm: post-norm lens, 8 chess blocks, every piece", read, play)]


def _row(name: str, lens: object, forward: object) -> dict:
    ours, theirs = cpu_seconds(lens, 5), cpu_seconds(forward, 5)
    return ratio_row(name, ours, "one forward pass", theirs, 1.3, "every readout of one pass")


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
