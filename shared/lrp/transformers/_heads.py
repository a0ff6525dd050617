"""The relevance of attention heads and attention weights, and the tap that sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import wrap_attention
from shared.lrp._attribute import attribute, default_composite
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
        """Wrap the attention of `model`; each new forward pass of it starts afresh."""

        def restart(*_: Any) -> None:
            for store in (self.outputs, self.coefficients, self.patterns):
                store.clear()

        with ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(restart).remove)
            stack.enter_context(wrap_attention(model, wrapper))
            yield

    def heads(self, call: Callable[..., Any], module: nn.Module, *args: Any, **kw: Any) -> Any:
        """Wrapper that watches the output of the attention function; a module's first call counts."""
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
        """Like `heads`, and computes the attention weights beside the fused kernel."""
        if module not in self.patterns:
            with torch.no_grad():
                self.patterns[module] = attention_weights(module, q, k, *a, **kw), _repeat(module, v.detach())
        return self.heads(call, module, q, k, v, *a, **kw)

    def collect(self, relevance: Callable[[nn.Module, Tensor], Tensor], many: bool) -> Tensor:
        """`(B, L, ...)` from `relevance(module, coefficient)`, with a leading axis of targets if `many`."""
        check_found(self.outputs)
        layers = []
        for module, out in self.outputs.items():
            coefficients = self.coefficients[module] or [torch.zeros_like(out)]
            layers.append(torch.stack([relevance(module, c) for c in coefficients]))
        stacked = torch.stack(layers, dim=2)  # (targets, B, L, ...)
        return stacked if many else stacked[0]


def check_found(outputs: dict[nn.Module, Tensor]) -> None:
    """Raise unless there were attention modules, all of one shape."""
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
    """Relevance of every attention head's output (what enters the output projection), `(B, L, H)`.

    Args:
        positive: sum `max(R, 0)` over positions and channels instead of R.
        per_position: keep the sequence axis, `(B, L, H, S)`.
        options: further arguments of `attribute`; a list of targets gives a leading axis.

    Conserves: the signed sum over a layer's heads is the relevance that enters its output projection.
    """
    tap = AttentionTap()
    many = _run(tap, tap.heads, model, x, target, composite, options)
    relevance = tap.collect(lambda module, c: times(tap.outputs[module], c), many)  # (..., B, L, S, H, d)
    relevance = relevance.clamp(min=0) if positive else relevance
    per_head = relevance.sum(-1).transpose(-1, -2)
    return per_head if per_position else per_head.sum(-1)


def attention_relevance(
    model: nn.Module, x: Any, target: Any = None, *, composite: Composite | None = None, **options: Any
) -> Tensor:
    """Relevance of every attention weight, `(B, L, H, S, S)` (queries, keys): `A * (c V^T)`.

    With AttnLRP the weights share the relevance of `A V` half and half with the values; with CP-LRP, where they are
    constants, this is the relevance that flows through each weight.
    """
    tap = AttentionTap()
    composite = composite if composite is not None else default_composite(model)
    share = 0.5 if composite.transformer == "attnlrp" else 1.0
    many = _run(tap, tap.weights, model, x, target, composite, options)

    def relevance(module: nn.Module, c: Tensor) -> Tensor:
        weights, values = tap.patterns[module]
        return times(weights, c.transpose(1, 2) @ values.transpose(-1, -2)) * share

    return tap.collect(relevance, many)


def _run(
    tap: AttentionTap, wrapper: Any, model: nn.Module, x: Any, target: Any, composite: Composite | None, options: Any
) -> bool:
    with tap.watching(model, wrapper):
        attribute(model, x, target, composite=composite, **options)
    return isinstance(target, list | tuple) or isinstance(options.get("conditions"), list | tuple)


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
