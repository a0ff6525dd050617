"""Prompts as left-padded batches with a region marked, and the regions that guided decoding refers to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_shape
from shared.hooks import attention_modules
from shared.lm._start import start_token


@dataclass(frozen=True)
class Roi:
    """A region of interest (ROI): some of the prompt's tokens, or some attention heads.

    Attributes
    ----------
    mask : Tensor of bool, shape (B, S), or None
    pairs : tuple of (layer, head)
    """

    mask: Tensor | None = None
    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def tokens(cls, mask: Tensor) -> Roi:
        """The embeddings of some tokens of each prompt.

        Parameters
        ----------
        mask : Tensor of bool, shape (B, S)
            As wide as the prompts, padding included.

        Returns
        -------
        Roi

        Raises
        ------
        ValueError
            For a row without any token, or a mask that isn't boolean.
        """
        check_array("mask", mask, ("B", "S"))
        if mask.dtype != torch.bool:
            raise ValueError(f"mask has dtype {mask.dtype}; expected torch.bool")
        empty = (~mask.any(1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"mask marks no token in row {empty[0]}: an empty region has no relevance to compare")
        return cls(mask=mask)

    @classmethod
    def heads(cls, pairs: Iterable[tuple[int, int]]) -> Roi:
        """What some attention heads give at any position.

        Parameters
        ----------
        pairs : iterable of (layer, head)

        Returns
        -------
        Roi

        Raises
        ------
        ValueError
            For none.
        """
        chosen = tuple(sorted({(int(layer), int(head)) for layer, head in pairs}))
        if not chosen:
            raise ValueError("pairs is empty: an empty region has no relevance to compare")
        return cls(pairs=chosen)

    def head_weights(self, model: Any) -> dict[Any, Tensor]:
        """For each attention module with heads in the region, 1 at these.

        Parameters
        ----------
        model : a transformers model

        Returns
        -------
        dict of module -> Tensor, shape (H,)

        Raises
        ------
        ValueError
            For a layer or head that the model doesn't have.
        """
        modules = list(attention_modules(model).values())
        weights: dict[Any, Tensor] = {}
        for layer, head in self.pairs:
            count = modules[layer].config.num_attention_heads if 0 <= layer < len(modules) else 0
            if not 0 <= head < count:
                heads = f" of {count} heads" if count else ""
                raise ValueError(f"roi has head {(layer, head)}; the model has {len(modules)} layers{heads}, from 0")
            weights.setdefault(modules[layer], torch.zeros(count))[head] = 1
        return weights


@dataclass(frozen=True)
class PromptBatch:
    """Prompts padded on the left, where decoding wants it.

    Attributes
    ----------
    ids : Tensor of int64, shape (B, S)
    attention_mask : Tensor of int64, shape (B, S)
    regions : dict of str -> Tensor of bool, shape (B, S)
        By name, the tokens that share a character with the prompt's range of that name.
    """

    ids: Tensor
    attention_mask: Tensor
    regions: dict[str, Tensor]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the model and its `generate` take."""
        return {"input_ids": self.ids, "attention_mask": self.attention_mask}

    def to(self, device: torch.device | str) -> PromptBatch:
        """The batch on another device.

        Parameters
        ----------
        device : torch.device or str

        Returns
        -------
        PromptBatch
        """
        regions = {name: mask.to(device) for name, mask in self.regions.items()}
        return PromptBatch(self.ids.to(device), self.attention_mask.to(device), regions)

    def shuffled(self, name: str, *, generator: torch.Generator) -> Tensor:
        """As many tokens as the region has, drawn from each prompt's other tokens: a null for guided decoding.

        Parameters
        ----------
        name : str
            Of the region.
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of bool, shape (B, S)
            Where the others are fewer, some of the region's own are among them. The first token is never drawn.
        """
        region, real = self.regions[name].cpu(), self.attention_mask.bool().cpu()
        real = real & (real.cumsum(1) > 1)
        draw = torch.rand(region.shape, generator=generator) + region.float() + 2 * (~real).float()
        rank = draw.argsort(1).argsort(1)
        return (rank < region.sum(1, keepdim=True)).to(self.ids.device)


def prompt_batch(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    regions: dict[str, Sequence[tuple[int, int]]] | None = None,
    start: str | None = "auto",
) -> PromptBatch:
    """Prompts as one batch padded on the left, with the tokens of character ranges marked.

    Parameters
    ----------
    tokenizer : one of transformers' fast tokenizers
    texts : sequence of str
        Whole prompts, the chat template applied if there is one.
    regions : dict of str -> sequence of (int, int), optional
        By name, a range of characters for each prompt.
    start : str, optional
        As for `start_token`; None where the text has its own.

    Returns
    -------
    PromptBatch

    Raises
    ------
    ValueError
        For no texts, or a range that holds no token.
    """
    if not texts:
        raise ValueError("texts is empty; at least one is needed")
    encoded = tokenizer(list(texts), return_offsets_mapping=True, add_special_tokens=False)
    first = start_token(tokenizer, start=start)
    ids = [[*([] if first is None else [first]), *row] for row in encoded.input_ids]
    offsets = [[*([] if first is None else [(0, 0)]), *row] for row in encoded.offset_mapping]
    width = max(map(len, ids))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
    padded = torch.tensor([[pad] * (width - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
    where = torch.tensor([[(0, 0)] * (width - len(row)) + list(row) for row in offsets])  # (B, S, 2)
    marked = {name: _marked(name, where, ranges) for name, ranges in (regions or {}).items()}
    return PromptBatch(padded, mask, marked)


def _marked(name: str, where: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    check_shape(f"regions[{name!r}]", torch.tensor(ranges), (len(where), 2))
    begin, end = torch.tensor(ranges)[:, None].unbind(-1)
    covered = torch.maximum(where[..., 0], begin) < torch.minimum(where[..., 1], end)
    empty = (~covered.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"regions[{name!r}] holds no token in text {empty[0]}: {ranges[empty[0]]}")
    return covered
