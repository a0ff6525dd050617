"""A language model's hidden states of whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_range
from shared.hooks import capture


@torch.no_grad()
def mean_states(loaded: Any, layer: str, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
    """A module's output, averaged over each text's tokens.

    A token of the start (or end) of text is put in front and left out of the mean, because language models store no
    content but large values at a first token. Texts of like length share a batch.

    Parameters
    ----------
    loaded : with `.model` and `.tokenizer`, as `zoo.load_model` gives
        A causal language model.
    layer : str
        Name of a module that gives (B, S, d), e.g. "model.layers.14".
    texts : sequence of str
    batch_size : int

    Returns
    -------
    Tensor, shape (n, d)
        On the CPU, float32.

    Raises
    ------
    ValueError
        For no texts, or an empty one.
    """
    check_range("batch_size", batch_size, 1)
    model = loaded.model
    tokenizer = loaded.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = [[start, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in texts]
    if not ids or min(map(len, ids)) < 2:
        raise ValueError("texts must be non-empty, and so must each of them")
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    parts = []
    for low in range(0, len(order), batch_size):
        rows = [ids[i] for i in order[low : low + batch_size]]
        longest = max(map(len, rows))
        batch = torch.tensor([row + [start] * (longest - len(row)) for row in rows], device=model.device)
        real = torch.tensor([[0] + [1] * (len(row) - 1) + [0] * (longest - len(row)) for row in rows])
        real = real.to(model.device, torch.float32)[..., None]
        with capture(model, layer) as seen:  # padding stands behind, where a causal model doesn't look
            model(batch, use_cache=False)
        parts.append(((seen[layer].float() * real).sum(1) / real.sum(1)).cpu())
    out = torch.empty(len(ids), parts[0].shape[1])
    out[order] = torch.cat(parts)
    return out
