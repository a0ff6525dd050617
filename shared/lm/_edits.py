"""Attention to some tokens suppressed in some layers, through transformers' attention registry (`wrap_attention`).

The weights of the edited layers are made here from queries and keys, after the keys of grouped-query attention are
repeated for each head, so the other layers stay with the implementation that the model has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from shared._checks import check_range
from shared.hooks import attention_modules, find_module, transformer_parts, wrap_attention

_CHANGES: WeakKeyDictionary[nn.Module, list[Callable[[int, Tensor], Tensor]]] = WeakKeyDictionary()
READABLE = ("eager", "sdpa")  # implementations whose masks say for each query which keys it sees


class AttentionNotAvailable(ValueError):
    """The model's attention keeps no weights and hands over no mask that they could be made from."""


@dataclass
class AttentionEdit:
    """What an edit did.

    Attributes
    ----------
    removed : dict of int -> list of Tensor, shape (B, Q)
        By layer, for each call the attention taken from the keys, mean over heads.
    emptied : int
        Rows (of a head and a query) that had attention on suppressed keys only and were left as they are.
    """

    removed: dict[int, list[Tensor]] = field(default_factory=dict)
    emptied: int = 0


@contextmanager
def edit_attention(
    model: nn.Module,
    layers: Sequence[int],
    keys: Tensor,
    *,
    gamma: float = 0.0,
    min_weight: float = 0.0,
    queries: str = "all",
    renormalise: bool = True,
) -> Iterator[AttentionEdit]:
    """Within the context, attention to marked keys is multiplied by `gamma` behind the softmax.

    Edits nest: the later one is given what the earlier ones left.

    Parameters
    ----------
    model : a transformers model with eager or SDPA attention
    layers : sequence of int
        Blocks, from 0.
    keys : Tensor of bool, shape (B, S)
        The tokens that are attended to less, counted from the first that the key-value cache holds; those behind the
        S-th (decoded later) are not.
    gamma : float
        From 0 (not attended to at all) to 1 (no edit).
    min_weight : float
        Only weights above it are edited.
    queries : str
        "all", or "last": only the last query of each call, the one that predicts the next token.
    renormalise : bool
        Whether rows sum to one again.

    Yields
    ------
    AttentionEdit

    Raises
    ------
    AttentionNotAvailable
        For an attention implementation other than eager or SDPA.
    ValueError
        For an unknown architecture, layers that it doesn't have, keys of another shape, or options out of range.
    """
    check_range("gamma", gamma, 0.0, 1.0)
    check_range("min_weight", min_weight, 0.0, 1.0)
    if queries not in ("all", "last"):
        raise ValueError(f"queries={queries!r}; accepted: 'all' or 'last'")
    if keys.dtype != torch.bool or keys.ndim != 2:
        raise ValueError(f"keys has shape {tuple(keys.shape)} and type {keys.dtype}; accepted: bool (B, S)")
    done = AttentionEdit()

    def change(layer: int, weights: Tensor) -> Tensor:
        if weights.shape[0] != len(keys):
            raise ValueError(f"keys has {len(keys)} rows; the model was given {weights.shape[0]}")
        marked = torch.zeros(len(keys), weights.shape[-1], dtype=torch.bool, device=weights.device)
        here = keys[:, : weights.shape[-1]]
        marked[:, : here.shape[1]] = here.to(weights.device)
        chosen = marked[:, None, None] & (weights > min_weight)
        if queries == "last":
            chosen[:, :, :-1] = False
        edited = torch.where(chosen, weights * gamma, weights)
        left = edited.sum(-1, keepdim=True)
        empty = left <= 1e-6
        done.emptied += int(empty.sum())
        done.removed.setdefault(layer, []).append((1 - left[..., 0]).mean(1).detach())
        if renormalise:
            edited = edited / left.clamp(min=1e-6)
        return torch.where(empty, weights, edited)

    with _reweighted(model, layers, change):
        yield done


@contextmanager
def attention_maps(model: nn.Module, layers: Sequence[int]) -> Iterator[dict[int, list[Tensor]]]:
    """Collect some layers' attention, averaged over heads; inside `edit_attention` it is the edited one.

    Parameters
    ----------
    model : a transformers model with eager or SDPA attention
    layers : sequence of int

    Yields
    ------
    dict of int -> list of Tensor, shape (B, Q, K)
        One for each call; rows sum to one.

    Raises
    ------
    AttentionNotAvailable, ValueError
        As `edit_attention`.
    """
    maps: dict[int, list[Tensor]] = {}

    def keep(layer: int, weights: Tensor) -> Tensor:
        maps.setdefault(layer, []).append(weights.mean(1).detach())
        return weights

    with _reweighted(model, layers, keep):
        yield maps


@contextmanager
def _reweighted(model: nn.Module, layers: Sequence[int], change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Inside, attention of some layers is `change(layer, weights)`, with weights (B, H, Q, K)."""
    numbers = _numbered(model, layers)
    implementation = model.config._attn_implementation  # type: ignore[union-attr]
    if implementation not in READABLE:
        raise AttentionNotAvailable(
            f"model has attention {implementation!r}, which gives no weights; accepted: {' or '.join(READABLE)} "
            "(model.set_attn_implementation('eager'))"
        )

    def wrapper(
        call: Callable[..., Any], module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **given: Any
    ) -> tuple[Tensor, Tensor | None]:
        if module not in numbers:
            return call(module, q, k, v, mask, **given)
        weights = _weights(module, q, k, mask, given)
        for each in _CHANGES[module]:  # those of other contexts too: this one stands for all
            weights = each(numbers[module], weights)
        repeated = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
        return (weights.to(v.dtype) @ repeated).transpose(1, 2).contiguous(), weights

    with wrap_attention(model, wrapper):
        for module in numbers:
            _CHANGES.setdefault(module, []).append(change)
        try:
            yield
        finally:
            for module in numbers:
                _CHANGES[module].remove(change)


def _numbered(model: nn.Module, layers: Sequence[int]) -> dict[nn.Module, int]:
    """The attention modules of some blocks."""
    parts = transformer_parts(model)
    count = len(find_module(model, parts.blocks))
    if not len(layers) or not all(0 <= number < count for number in layers):
        raise ValueError(f"layers={list(layers)!r}; accepted: at least one block from 0 to {count - 1}")
    known = set(attention_modules(model).values())
    found = {find_module(model, parts.layer("attention", number)): number for number in layers}
    if not known.issuperset(found):
        raise AttentionNotAvailable(
            f"{type(model).__name__} doesn't call its attention through transformers' attention interface"
        )
    return found


def _weights(module: nn.Module, q: Tensor, k: Tensor, mask: Tensor | None, given: Mapping[str, Any]) -> Tensor:
    """Softmax of the scores in float32, (B, H, Q, K): q (B, H, Q, d), k (B, Hkv, K, d)."""
    if given.get("s_aux") is not None:
        raise AttentionNotAvailable(f"{type(module).__name__} adds a sink of its own to the softmax; no edit for these")
    scale, cap = given.get("scaling"), given.get("softcap")
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = (q @ k.transpose(-1, -2)).float() * (q.shape[-1] ** -0.5 if scale is None else scale)
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    length, total = scores.shape[-2:]
    if mask is not None:
        mask = mask[..., :total]
        floor = torch.finfo(torch.float32).min
        scores = scores.masked_fill(~mask, floor) if mask.dtype == torch.bool else scores + mask
    elif length > 1 and (given.get("is_causal") is not False) and getattr(module, "is_causal", True):
        ahead = torch.ones(length, total, dtype=torch.bool, device=q.device).triu(total - length + 1)
        scores = scores.masked_fill(ahead, -torch.inf)
    return scores.softmax(-1)
