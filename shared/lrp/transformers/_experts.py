"""AttnLRP and CP-LRP in mixtures of experts: the router's shares and the experts' outputs are factors of a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.lrp._graph import cover
from shared.lrp.rules._base import Rule
from shared.lrp.rules._ops import LinearOp
from shared.lrp.transformers._modules import gated

ROUTERS = ("MixtralTopKRouter", "Qwen3MoeTopKRouter")
EXPERTS = ("MixtralExperts", "Qwen3MoeExperts")


def router_forward(module: Any, mode: str, covered: set[Any]) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The router, whose shares are a softmax over the experts it picks: AttnLRP's softmax rule is its own gradient.

    In CP-LRP the shares are constants, as attention patterns are.
    """
    own = module.forward

    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, shares, picked = own(x)
        if mode == "cp":
            return logits, shares.detach(), picked
        cover(covered, shares, x)
        return logits, shares, picked

    return forward


def experts_forward(module: Any, mode: str, rule: Rule | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The picked experts of each token, `sum_e share_e down_e(act(gate_e x) * up_e x)`, dense layers under `rule`."""

    def dense(x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight) if rule is None else rule.apply(LinearOp(), x, weight, None)

    def forward(x: Tensor, picked: Tensor, shares: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for expert in picked.unique().tolist():
            token, place = torch.where(picked == expert)
            gate, up = dense(x[token], module.gate_up_proj[expert]).chunk(2, dim=-1)
            out = dense(gated(module.act_fn(gate), up, mode), module.down_proj[expert])
            total = total.index_add(0, token, gated(shares[token, place, None].to(out.dtype), out, mode).to(x.dtype))
        return total

    return forward
