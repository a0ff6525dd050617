"""Attention heads of a transformers model: what they attend to, what they give, and what happens without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice
from shared.hooks._attention import attention_modules, wrap_attention

HeadEdit = Callable[[Tensor], Tensor]


@contextmanager
def edit_heads(model: nn.Module, edits: Mapping[str, HeadEdit]) -> Iterator[nn.Module]:
    """Apply `edits[name]` to what the heads of attention module `name` give, whenever it runs.

    Parameters
    ----------
    model : a transformers model.
    edits : name of an attention module -> function of (B, S, H, d), what the heads give before the output projection,
        that keeps the shape.

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        A name that is no attention module (`attention_modules(model)` lists them).
    """
    known = attention_modules(model)
    by_module = {known[check_choice("edits", name, known)]: function for name, function in edits.items()}

    def wrapper(call: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        output, weights = call(module, *args, **kwargs)
        return (by_module[module](output), weights) if module in by_module else (output, weights)

    with wrap_attention(model, wrapper):
        yield model


@contextmanager
def capture_heads(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collect what the heads give, before the output projection.

    Parameters
    ----------
    model : a transformers model.

    Yields
    ------
    A dict, filled as the model runs: name of the attention module -> one (B, S, H, d) per call, detached.
    """
    store: dict[str, list[Tensor]] = {}

    def keeper(name: str) -> HeadEdit:
        def keep(output: Tensor) -> Tensor:
            store.setdefault(name, []).append(output.detach().clone())
            return output

        return keep

    with edit_heads(model, {name: keeper(name) for name in attention_modules(model)}):
        yield store


@contextmanager
def capture_attention(model: nn.Module, query: int) -> Iterator[dict[str, list[Tensor]]]:
    """Collect where one token attends to.

    The weights are made anew from queries and keys, so it works with implementations that keep none (SDPA), without
    dropout; masks are heeded.

    Parameters
    ----------
    model : a transformers model.
    query : the token's place in the sequence, 0 for a class token in front, -1 for the last.

    Yields
    ------
    A dict, filled as the model runs: name of the attention module -> one (B, H, S) per call, detached; rows sum to 1.
    """
    store: dict[str, list[Tensor]] = {}
    names = {module: name for name, module in attention_modules(model).items()}

    def wrapper(
        call: Callable[..., Any], module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        with torch.no_grad():
            row = range(q.shape[2])[query]
            store.setdefault(names[module], []).append(_weights(module, q[:, :, row], k, mask, row, kwargs))
        return call(module, q, k, v, mask, **kwargs)

    with wrap_attention(model, wrapper):
        yield store


def _weights(
    module: nn.Module, q: Tensor, k: Tensor, mask: Tensor | None, row: int, options: Mapping[str, Any]
) -> Tensor:
    """Softmax of one query's scores, (B, H, S): q (B, H, d), k (B, Hkv, S, d)."""
    scale = options.get("scaling")
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = torch.einsum("bhd,bhsd->bhs", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    causal = options.get("is_causal")
    if mask is not None:
        part = mask[..., row, : k.shape[2]]
        scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part
    elif getattr(module, "is_causal", False) if causal is None else causal:
        scores[..., row + 1 :] = -torch.inf
    return scores.softmax(-1)


@contextmanager
def ablate_heads(
    model: nn.Module,
    heads: Mapping[str, Iterable[int]],
    *,
    values: Mapping[str, Tensor] | None = None,
    tokens: int | slice | list[int] | None = None,
) -> Iterator[nn.Module]:
    """Replace what some heads give by zero or by fixed values; the output projection and its bias stay.

    Parameters
    ----------
    model : a transformers model.
    heads : name of an attention module -> heads in it; none is the identity.
    values : by the same names, what all heads of a module give instead, (H, d) or (S, H, d), for instance the mean over
        images (mean ablation); zero without.
    tokens : where: an index, slice or list of positions; everywhere without. `values` of shape (S, H, d) are indexed
        alike.

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        Unknown names, heads out of range, values that aren't finite.
    """
    known = attention_modules(model)
    edits = {}
    for name, which in heads.items():
        module, index = known[check_choice("heads", name, known)], sorted(set(which))
        width = module.config.num_attention_heads
        if bad := [h for h in index if not 0 <= h < width]:
            raise ValueError(f"heads has {bad[0]} in {name!r}; it has {width}, from 0 to {width - 1}")
        value = None if values is None else values[check_choice("values", name, values)]
        if value is not None:
            check_array("values", value, ("S", width, "d") if value.ndim == 3 else (width, "d"))
        if index:
            edits[name] = _replacing(index, value, slice(None) if tokens is None else tokens)
    with edit_heads(model, edits):
        yield model


def _replacing(index: list[int], value: Tensor | None, tokens: Any) -> HeadEdit:
    """The edit that puts `value` for the heads `index` at `tokens`."""

    def change(output: Tensor) -> Tensor:
        new = output.clone()
        part = new[:, tokens]
        if value is None:
            part[..., index, :] = 0
        else:
            put = value.to(new)
            part[..., index, :] = (put[tokens] if put.ndim == 3 else put)[..., index, :]
        new[:, tokens] = part
        return new

    return change
