"""Texts that a language model writes while one of its activations is edited: many edits in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_range
from shared.hooks import edit, model_device
from shared.lm._start import token_ids


@torch.no_grad()
def continue_texts(
    loaded: Any,
    layer: str,
    prompts: Sequence[str],
    edits: Sequence[Callable[[Tensor], Tensor]],
    *,
    new_tokens: int,
    at: str = "output",
    start: str | None = "auto",
) -> list[str]:
    """The most likely continuation of every prompt under every edit of a module's activation, at every position.

    Parameters
    ----------
    loaded : with `.model` and `.tokenizer`, as `zoo.load_model` gives
        A causal language model.
    layer : str
        Name of a module.
    prompts : sequence of str
        P of them.
    edits : sequence of callable
        E functions from an activation (P, S, d) to one of its shape; all run in one batch, each on its rows.
    new_tokens : int
        Length of a continuation.
    at : str
        "output" or "input" of the module.
    start : str, optional
        As for `start_token`.

    Returns
    -------
    list of str
        E · P continuations without their prompts, edit by edit.

    Raises
    ------
    ValueError
        For no prompts or no edits.
    """
    check_range("new_tokens", new_tokens, 1)
    if not prompts or not edits:
        raise ValueError(f"prompts and edits must not be empty; got {len(prompts)} and {len(edits)}")
    tokenizer, device, n = loaded.tokenizer, model_device(loaded.model), len(prompts)
    rows = [token_ids(tokenizer, prompt, start=start) for prompt in prompts]
    longest = max(map(len, rows))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)  # text stands at the end
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)

    def through(x: Tensor) -> Tensor:
        return torch.cat([change(x[i * n : (i + 1) * n].clone()) for i, change in enumerate(edits)])

    with edit(loaded.model, {layer: through}, at=at):
        out = loaded.model.generate(
            input_ids=ids.repeat(len(edits), 1),
            attention_mask=real.repeat(len(edits), 1),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=pad,
        )
    return tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
