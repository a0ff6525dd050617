"""A language model's hidden states of whole texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.hooks import capture

POOLS = ("max", "mean")


def mean_states(loaded: Any, layer: str, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
    """A module's output, averaged over each text's tokens: `pooled_states` of one layer, by the mean.

    Parameters
    ----------
    loaded : with `.model` and `.tokenizer`, as `zoo.load_model` gives
        A language model.
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
    return pooled_states(loaded, [layer], texts, pool="mean", batch_size=batch_size)[layer, "mean"]


@torch.no_grad()
def pooled_states(
    loaded: Any,
    layers: Sequence[str],
    texts: Sequence[str],
    *,
    pool: str | Sequence[str] = "max",
    at: str = "output",
    max_tokens: int | None = None,
    batch_size: int = 64,
) -> dict[tuple[str, str], Tensor]:
    """Outputs of modules, pooled over each text's tokens, so that models with other tokenizers can be compared.

    A token of the start (or end) of text is put in front and left out of the pool, because language models store no
    content but large values at a first token; so are an encoder's first and last token. Texts of like length share a
    batch.

    Parameters
    ----------
    loaded : with `.model` and `.tokenizer`, as `zoo.load_model` gives
        A causal language model, or an encoder whose tokenizer has a [CLS] token.
    layers : sequence of str
        Names of modules that give (B, S, d), e.g. ["model.layers.14"].
    texts : sequence of str
    pool : "max", "mean" or a sequence of them
        The largest value of each dimension, or the mean.
    at : "output" or "input" of the modules
        The input of "model.layers.14.mlp.down_proj" are the layer's neurons.
    max_tokens : int, optional
        Tokens of a text that are read; None reads all.
    batch_size : int

    Returns
    -------
    dict of (layer, pool) to Tensor, shape (n, d)
        On the CPU, float32.

    Raises
    ------
    ValueError
        For no texts, an empty one, no layers, or an unknown pool.
    """
    pools = [pool] if isinstance(pool, str) else list(pool)
    for name in pools:
        check_choice("pool", name, POOLS)
    if isinstance(layers, str) or not layers or not pools:
        raise ValueError(
            f"layers={layers!r}, pool={pool!r}: a sequence of module names and at least one pool are needed"
        )
    check_range("batch_size", batch_size, 1)
    if max_tokens is not None:
        check_range("max_tokens", max_tokens, 1)
    model, order, parts = loaded.model, [], {(layer, name): [] for layer in layers for name in pools}
    for rows, batch, real in _batches(loaded, texts, max_tokens, batch_size):
        order += rows
        with capture(model, list(layers), at=at) as seen:
            model.base_model(**batch, **({"use_cache": False} if real.causal else {}))
        for (layer, name), found in parts.items():
            found.append(real.pooled(seen[layer], name).cpu())
    back = torch.tensor(order).argsort()
    return {key: torch.cat(found)[back] for key, found in parts.items()}


class _Real:
    """Which positions (B, S) of a batch are tokens of the texts."""

    def __init__(self, real: Tensor, causal: bool) -> None:
        self.real, self.causal = real[..., None], causal

    def pooled(self, states: Tensor, pool: str) -> Tensor:
        if pool == "max":
            return states.float().masked_fill(~self.real, -torch.inf).amax(1)
        return (states.float() * self.real).sum(1) / self.real.sum(1)


def _batches(
    loaded: Any, texts: Sequence[str], max_tokens: int | None, batch_size: int
) -> Iterator[tuple[list[int], dict[str, Tensor], _Real]]:
    """Row numbers, the model's arguments and the real positions, by length."""
    tokenizer, device = loaded.tokenizer, loaded.model.device
    causal = tokenizer.cls_token_id is None
    start = next(
        token for token in (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None
    )
    end = [] if causal else [tokenizer.sep_token_id]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"][:max_tokens] for text in texts]
    if not ids or min(map(len, ids)) < 1:
        raise ValueError("texts must be non-empty, and so must each of them")
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for low in range(0, len(order), batch_size):
        rows = order[low : low + batch_size]
        longest = max(len(ids[i]) for i in rows)
        fill = [longest - len(ids[i]) for i in rows]
        batch = [[start, *ids[i], *end, *[start] * n] for i, n in zip(rows, fill)]
        real = [[False, *[True] * len(ids[i]), *[False] * (len(end) + n)] for i, n in zip(rows, fill)]
        arguments = {"input_ids": torch.tensor(batch, device=device)}
        if not causal:  # a causal model's padding stands behind, where nothing looks
            seen = [[1] * (longest + 2 - n) + [0] * n for n in fill]
            arguments["attention_mask"] = torch.tensor(seen, device=device)
        yield rows, arguments, _Real(torch.tensor(real, device=device), causal)
