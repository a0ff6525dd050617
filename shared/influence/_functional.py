"""A network's logits as a function of what training may move."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.influence._classifier import TrainedClassifier


class TrainableLogits:
    """Logits as a function of the trainable parameters; frozen ones and buffers are constants of it.

    `parameters` maps names to tensors, `size` is the number P of their entries.
    """

    def __init__(self, net: TrainedClassifier) -> None:
        recurrent = [name for name, m in net.model.named_modules() if isinstance(m, nn.RNNBase)]
        if recurrent:
            raise ValueError(
                f"layers='all': torch can't vectorise gradients of {recurrent[0]!r} (recurrent); use 'head'"
            )
        named = dict(net.model.named_parameters())
        self.model = net.model
        self.parameters = {name: p.detach() for name, p in named.items() if p.requires_grad}
        frozen = {name: p.detach() for name, p in named.items() if not p.requires_grad}
        self.constants = {**frozen, **dict(net.model.named_buffers())}
        self.size = sum(p.numel() for p in self.parameters.values())
        if not self.size:
            raise ValueError("layers='all': the model has no trainable parameter (requires_grad); use 'head'")

    def __call__(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits `(B, K)`, differentiable in the parameters."""
        out = torch.func.functional_call(self.model, (parameters, self.constants), (x,))
        return out if isinstance(out, Tensor) else out.logits

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector `(P,)` in the parameters' shapes."""
        parts = flat.split([p.numel() for p in self.parameters.values()])
        return {name: part.view_as(p) for part, (name, p) in zip(parts, self.parameters.items(), strict=True)}
