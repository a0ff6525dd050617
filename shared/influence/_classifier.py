"""`Classifier`: a trained network seen as features and a linear head, with the data that it was trained on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_shape


@dataclass(frozen=True)
class Checkpoint:
    """Weights that training passed through, and the learning rate it had there."""

    state: Mapping[str, Tensor]
    lr: float = 1.0


class Classifier:
    """A network whose last layer is linear, with its training data; what every attribution method is fitted to.

    Args:
        model: any module in eval mode that gives logits (B, K) (or an object with `.logits`).
        x: training inputs (N, …), as the model takes them.
        y: their labels (N,), integers from 0 to K - 1.
        head: name of the last linear layer; "" if the model is that layer itself (then x holds features (N, d)).
        batch_size: inputs in one forward pass.

    Raises `ValueError` for labels, shapes or values that don't fit, `TypeError` for a head that isn't `nn.Linear`,
    `RuntimeError` for a model in train mode.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, head: str = "", *, batch_size: int = 256) -> None:
        layer = dict(model.named_modules()).get(head)
        if not isinstance(layer, nn.Linear):
            linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
            raise TypeError(f"head={head!r} is no nn.Linear of the model; linear layers: {', '.join(linear) or 'none'}")
        if any(m.training for m in model.modules()):
            raise RuntimeError("model is in train mode, so its features may change; call model.eval() first")
        y = torch.as_tensor(y)
        check_finite("x", x)
        if y.is_floating_point() or y.dtype == torch.bool:
            raise ValueError(f"y must hold integer classes; got {y.dtype}")
        check_shape("y", y, (len(x),))
        if int(y.min()) < 0 or int(y.max()) >= layer.out_features:
            raise ValueError(
                f"y has values from {int(y.min())} to {int(y.max())}; the head has {layer.out_features} classes"
            )
        self.model, self.head, self.batch_size = model, head, batch_size
        self.x, self.y = x, y.to(layer.weight.device).long()

    @property
    def layer(self) -> nn.Linear:
        """The head."""
        return self.model.get_submodule(self.head) if self.head else self.model

    @property
    def n_classes(self) -> int:
        return self.layer.out_features

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def train_features(self) -> Tensor:
        """Features of the training data, (N, d)."""
        return self.features(self.x)

    def features(self, x: Tensor) -> Tensor:
        """The head's input (B, d) for inputs (B, …) shaped like the training data."""
        check_shape("x", x, ("B", *self.x.shape[1:]))
        check_finite("x", x)
        seen: list[Tensor] = []
        hook = self.layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
        try:
            with torch.no_grad():
                for part in x.split(self.batch_size):
                    self.model(part.to(self.layer.weight.device))
        finally:
            hook.remove()
        features = torch.cat(seen)
        if features.ndim != 2 or len(features) != len(x):
            raise ValueError(f"the head's input has shape {tuple(features.shape)} for {len(x)} inputs; expected (B, d)")
        return features

    def logits(self, features: Tensor) -> Tensor:
        """The head's output (B, K) for features (B, d)."""
        with torch.no_grad():
            return self.layer(features)

    def predict(self, x: Tensor) -> Tensor:
        """The most probable class of each input, (B,)."""
        return self.logits(self.features(x)).argmax(1)

    def augmented(self, features: Tensor) -> Tensor:
        """Features with a column of ones for the head's bias, if it has one: (B, D)."""
        if self.layer.bias is None:
            return features
        return torch.cat([features, features.new_ones(len(features), 1)], 1)

    def at(self, checkpoint: Checkpoint) -> Classifier:
        """The same with the checkpoint's weights (a copy of the model)."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(dict(checkpoint.state))
        return Classifier(model, self.x, self.y, self.head, batch_size=self.batch_size)

    def randomised(self, generator: torch.Generator) -> Classifier:
        """The same with every parameter tensor's values permuted, as for `model_randomisation`."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for p in model.parameters():
                order = torch.randperm(p.numel(), generator=generator, device=generator.device).to(p.device)
                p.copy_(p.flatten()[order].view_as(p))
        return Classifier(model, self.x, self.y, self.head, batch_size=self.batch_size)

    def on(self, x: Tensor, y: Tensor) -> Classifier:
        """The same model with other training data."""
        return Classifier(self.model, x, y, self.head, batch_size=self.batch_size)

    def output(self, model: Any, state: Any, x: Tensor) -> Tensor:
        """Logits (B, K) of `model` called with the parameters `state`, differentiable in them."""
        out = torch.func.functional_call(model, state, (x,))
        return out if isinstance(out, Tensor) else out.logits
