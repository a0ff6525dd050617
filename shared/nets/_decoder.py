"""A small language model of the Llama family, for grammars whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from shared._checks import check_range
from shared.nets._build import _drawing_from

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def small_decoder(
    vocabulary: int,
    *,
    layers: int = 4,
    heads: int = 8,
    width: int = 96,
    hidden: int | None = None,
    length: int = 128,
    generator: torch.Generator | None = None,
) -> LlamaForCausalLM:
    """A causal language model with fresh weights: transformers' Llama, so that what reads large ones reads it.

    Parameters
    ----------
    vocabulary : int
        Number of tokens; the first, id 0, begins a text.
    layers, heads : int
        Every head has keys and values of its own.
    width : int
        Of the residual stream, an even multiple of `heads`.
    hidden : int, optional
        Units of each MLP; twice the width without.
    length : int
        Longest text, in tokens.
    generator : torch.Generator on the CPU, optional
        Gives the weights and moves on; torch's global state is left alone. Without it, that state gives them.

    Returns
    -------
    LlamaForCausalLM
        In eval mode.

    Raises
    ------
    ValueError
        For numbers out of range, or a width that the heads don't divide evenly.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    given = {"vocabulary": vocabulary, "layers": layers, "heads": heads, "width": width, "length": length}
    for name, value in given.items():
        check_range(name, value, 1)
    if width % (2 * heads):
        raise ValueError(f"width={width} must be an even multiple of heads={heads}")
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=hidden or 2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=length,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    with _drawing_from(generator):
        return LlamaForCausalLM(config).eval()
