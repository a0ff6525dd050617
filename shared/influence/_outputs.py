"""What is explained, as a function of the logits, and its gradient in them; larger is always better for the class."""

from __future__ import annotations

import torch
from torch import Tensor

OUTPUTS = ("margin", "logit", "logp")


def explained(logits: Tensor, target: Tensor, output: str) -> Tensor:
    """(…, K) and (…,) -> (…,): z_c, z_c - log Σ_{k≠c} exp z_k (the log-odds of p_c), or log p_c."""
    z = logits.gather(-1, target[..., None]).squeeze(-1)
    if output == "logit":
        return z
    if output == "logp":
        return z - logits.logsumexp(-1)
    others = logits.scatter(-1, target[..., None], -torch.inf)
    return z - others.logsumexp(-1)


def output_gradient(logits: Tensor, target: Tensor, output: str) -> Tensor:
    """Gradient of `explained` in the logits, (B, K)."""
    onehot = torch.nn.functional.one_hot(target, logits.shape[1]).to(logits)
    if output == "logit":
        return onehot
    if output == "logp":
        return onehot - logits.softmax(1)
    return onehot - logits.scatter(1, target[:, None], -torch.inf).softmax(1)
