"""AttnLRP and CP-LRP for torch's own `nn.MultiheadAttention`, whose fused call hides q, k and v."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.lrp._errors import unsupported
from shared.lrp._graph import cover
from shared.lrp.rules._base import Rule
from shared.lrp.rules._functions import scale_gradient
from shared.lrp.rules._ops import LinearOp


def mha_forward(
    module: nn.MultiheadAttention, name: str, mode: str, rule: Rule | None, covered: set[Any]
) -> Callable[..., Any]:
    """The module's forward with explicit projections (under `rule`) and the attention rules of `mode`."""
    if module.bias_k is not None or module.add_zero_attn or not (module.dropout == 0 or not module.training):
        raise unsupported("bias_k, add_zero_attn or dropout", module, name, ("plain nn.MultiheadAttention",))

    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if query.ndim != 3:
            raise ValueError(
                f"query has shape {tuple(query.shape)}; attributions need a batch axis: (B, S, E) or (S, B, E)"
            )
        states = [t if module.batch_first else t.transpose(0, 1) for t in (query, key, value)]
        q, k, v = (_project(module, rule, n, t) for n, t in enumerate(states))
        if mode == "cp":
            q, k = q.detach(), k.detach()
        else:
            q, k, v = scale_gradient(q, 0.25), scale_gradient(k, 0.25), scale_gradient(v, 0.5)
        mask = _additive_mask(attn_mask, key_padding_mask, q)
        out = F.scaled_dot_product_attention(q, k, v, mask)
        cover(covered, out, q, k, v)
        out = out.transpose(1, 2).flatten(2)
        out = module.out_proj(out)
        weights = _weights(q, k, mask, average_attn_weights) if need_weights else None
        return out if module.batch_first else out.transpose(0, 1), weights

    return forward


def _project(module: Any, rule: Rule | None, which: int, x: Tensor) -> Tensor:
    """q, k or v `(B, H, S, d)`."""
    if module.in_proj_weight is not None:
        weight = module.in_proj_weight.chunk(3)[which]
    else:
        weight = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)[which]
    bias = None if module.in_proj_bias is None else module.in_proj_bias.chunk(3)[which]
    z = F.linear(x, weight, bias) if rule is None else rule.apply(LinearOp(), x, weight, bias)
    return z.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)


def _additive_mask(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks of torch (True or -inf means: not attended) as one float mask `(B or 1, H or 1, S, T)`."""
    parts = []
    if attn_mask is not None:
        mask = _floating(attn_mask, q)
        parts.append(mask if mask.ndim == 2 else mask.unflatten(0, (q.shape[0], -1)))
    if padding is not None:
        parts.append(_floating(padding, q)[:, None, None, :])
    return sum(parts[1:], parts[0]) if parts else None


def _floating(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))


@torch.no_grad()
def _weights(q: Tensor, k: Tensor, mask: Tensor | None, average: bool) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = torch.softmax(scores if mask is None else scores + mask, -1)
    return weights.mean(1) if average else weights
