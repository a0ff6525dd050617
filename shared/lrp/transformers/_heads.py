"""The relevance of attention heads and attention weights, and the tap that sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import wrap_attention
from shared.lrp._attribute import attribute_parts, default_composite, gives_many
from shared.lrp._errors import UnsupportedModule
from shared.lrp._probes import times
from shared.lrp.rules._composite import Composite


class AttentionTap:
    """Keeps each attention module's output `(B, S, H, d)` and what flows back to it on each backward pass."""

    def __init__(self) -> None:
        self.outputs: dict[nn.Module, Tensor] = {}
        self.coefficients: dict[nn.Module, list[Tensor]] = {}
        self.patterns: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # attention weights and values

    @contextmanager
    def watching(self, model: nn.Module, wrapper: Callable[..., Any]) -> Iterator[None]:
        """Wrap the attention of a model; each new forward pass of it starts afresh.

        Parameters
        ----------
        model : a transformers model.
        wrapper : `tap.heads` or `tap.weights`.

        Yields
        ------
        Nothing; the tap fills while the model runs inside.
        """

        def restart(*_: Any) -> None:
            for store in (self.outputs, self.coefficients, self.patterns):
                store.clear()

        with ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(restart).remove)
            stack.enter_context(wrap_attention(model, wrapper))
            yield

    def heads(self, call: Callable[..., Any], module: nn.Module, *args: Any, **kw: Any) -> Any:
        """Wrapper that watches the output of the attention function; a module's first call counts.

        Parameters
        ----------
        call, module, args, kw : as `hooks.wrap_attention` hands them over.

        Returns
        -------
        What the function gives.
        """
        out, weights = call(module, *args, **kw)
        if module not in self.outputs:
            self.outputs[module] = out.detach()
            self.coefficients[module] = []
            if out.requires_grad:
                out.register_hook(self.coefficients[module].append)
        return out, weights

    def weights(
        self, call: Callable[..., Any], module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *a: Any, **kw: Any
    ) -> Any:
        """Like `heads`, and computes the attention weights beside the fused kernel.

        Parameters
        ----------
        call, module, q, k, v, a, kw : as `hooks.wrap_attention` hands them over.

        Returns
        -------
        What the function gives.
        """
        if module not in self.patterns:
            with torch.no_grad():
                self.patterns[module] = attention_weights(module, q, k, *a, **kw), _repeat(module, v.detach())
        return self.heads(call, module, q, k, v, *a, **kw)

    def collect(self, relevance: Callable[[nn.Module, Tensor], Tensor], *, many: bool) -> Tensor:
        """What was seen in the last forward pass and the backward passes after it.

        Parameters
        ----------
        relevance : module and coefficient `(B, S, H, d)` -> what to keep `(B, ...)`.
        many : keep the leading axis of backward passes.

        Returns
        -------
        `(B, L, ...)`, or `(N, B, L, ...)` of N backward passes.
        """
        check_found(self.outputs)
        layers = []
        for module, out in self.outputs.items():
            coefficients = self.coefficients[module] or [torch.zeros_like(out)]
            layers.append(torch.stack([relevance(module, c) for c in coefficients]))
        stacked = torch.stack(layers, dim=2)  # (targets, B, L, ...)
        return stacked if many else stacked[0]


def check_found(outputs: dict[nn.Module, Tensor]) -> None:
    """Raise unless there were attention modules, all of one shape.

    Parameters
    ----------
    outputs : module -> its output.

    Raises
    ------
    UnsupportedModule
        There were none.
    ValueError
        Their outputs differ in shape.
    """
    if not outputs:
        raise UnsupportedModule(
            "the model has no attention of transformers' interface (Llama, GPT-2, BERT, ViT, CLIP, …)"
        )
    if len({value.shape for value in outputs.values()}) > 1:
        raise ValueError("attention modules of different shapes (two towers?): pass one tower of the model")


def head_relevance(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    composite: Composite | None = None,
    positive: bool = False,
    per_position: bool = False,
    **options: Any,
) -> Tensor:
    """Relevance of every attention head's output, that is what enters the output projection.

    The signed sum over a layer's heads is the relevance that enters its output projection.

    Parameters
    ----------
    model : a transformers model, or one tower of it.
    x : as for `attribute`.
    target : as for `attribute`.
    composite : as for `attribute`.
    positive : sum `max(R, 0)` over positions and channels instead of R.
    per_position : keep the sequence axis.
    options : further arguments of `attribute`.

    Returns
    -------
    `(B, L, H)`, or `(B, L, H, S)` per position; a list of targets or conditions gives a leading axis.

    Raises
    ------
    UnsupportedModule
        The model has no attention of transformers' interface.
    """
    tap = AttentionTap()
    parts = _collected(
        tap, tap.heads, lambda module, c: times(tap.outputs[module], c), model, x, target, composite, options
    )
    parts = parts.clamp(min=0) if positive else parts  # (..., B, L, S, H, d)
    per_head = parts.sum(-1).transpose(-1, -2)
    return per_head if per_position else per_head.sum(-1)


def attention_relevance(
    model: nn.Module, x: Any, target: Any = None, *, composite: Composite | None = None, **options: Any
) -> Tensor:
    """Relevance of every attention weight, `A * (c V^T)`.

    With AttnLRP the weights share the relevance of `A V` half and half with the values; with CP-LRP, where they are
    constants, this is the relevance that flows through each weight.

    Parameters
    ----------
    model : a transformers model, or one tower of it.
    x : as for `attribute`.
    target : as for `attribute`.
    composite : as for `attribute`.
    options : further arguments of `attribute`.

    Returns
    -------
    `(B, L, H, S, S)`, queries before keys; a list of targets or conditions gives a leading axis.

    Raises
    ------
    UnsupportedModule
        The model has no attention of transformers' interface.
    """
    tap = AttentionTap()
    composite = composite if composite is not None else default_composite(model)
    share = 0.5 if composite.transformer == "attnlrp" else 1.0

    def relevance(module: nn.Module, c: Tensor) -> Tensor:
        weights, values = tap.patterns[module]
        return times(weights, c.transpose(1, 2) @ values.transpose(-1, -2)) * share

    return _collected(tap, tap.weights, relevance, model, x, target, composite, options)


def _collected(
    tap: AttentionTap,
    wrapper: Callable[..., Any],
    relevance: Callable[[nn.Module, Tensor], Tensor],
    model: nn.Module,
    x: Any,
    target: Any,
    composite: Composite | None,
    options: Mapping[str, Any],
) -> Tensor:
    """What the tap has seen of each batch of rows, joined."""
    many = gives_many(target, options.get("conditions"))
    with tap.watching(model, wrapper):
        parts = [
            tap.collect(relevance, many=many) for _ in attribute_parts(model, x, target, composite=composite, **options)
        ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1 if many else 0)


def attention_weights(
    module: Any,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> Tensor:
    """`softmax(scaling q k^T + mask)`, `(B, H, S, S)`, with the conventions of transformers' attention functions."""
    scores = query @ _repeat(module, key).transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if mask is None and causal and query.shape[2] > 1:
        size = scores.shape[-2:]
        mask = torch.ones(size, dtype=torch.bool, device=scores.device).tril(size[1] - size[0])
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    wide = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    return torch.softmax(wide, -1).to(query.dtype)


def _repeat(module: Any, states: Tensor) -> Tensor:
    """Key and value heads shared by groups of queries, repeated."""
    return states.repeat_interleave(getattr(module, "num_key_value_groups", 1), dim=1)
