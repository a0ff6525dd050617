"""A client's optimiser, on one model or on many stacked ones; its state starts afresh every round."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.federated._client import LocalTraining
from shared.federated._job import Extras
from shared.federated._state import Params


class Optimiser:
    """Steps of all clients of a round, in place. Clients that are done leave from the end."""

    def __init__(self, local: LocalTraining, rate: float) -> None:
        self.local, self.rate = local, rate
        self.step = 0
        self.first: Params = {}  # velocities, or means of gradients
        self.second: Params = {}  # means of their squares

    @torch.no_grad()
    def apply(self, params: Params, grads: Params, extras: Extras) -> None:
        """One step of the clients still at work.

        Parameters
        ----------
        params : their models, stacked (n, …); changed.
        grads : of their losses.
        extras : what else enters the gradients.
        """
        self.step += 1
        for key, grad in grads.items():
            value = params[key]
            grad = self._whole(key, value, grad, extras)
            if self.local.optimiser == "sgd":
                value.add_(self._with_momentum(key, grad), alpha=-self.rate)
            else:
                value.add_(self._adam(key, grad), alpha=-self.rate)

    def _whole(self, key: str, value: Tensor, grad: Tensor, extras: Extras) -> Tensor:
        """The gradient with weight decay, the proximal pull and SCAFFOLD's correction."""
        if self.local.weight_decay and self.local.optimiser == "adamw":
            value.mul_(1 - self.rate * self.local.weight_decay)
        elif self.local.weight_decay:
            grad = grad + self.local.weight_decay * value
        if extras.pull is not None:
            strength, anchors = extras.pull
            grad = grad + strength.view(-1, *[1] * (value.ndim - 1)).to(value) * (value - anchors[key])
        return grad if extras.correction is None else grad + extras.correction[key]

    def _with_momentum(self, key: str, grad: Tensor) -> Tensor:
        if not self.local.momentum:
            return grad
        if key not in self.first:
            self.first[key] = grad.clone()
            return self.first[key]
        return self.first[key][: len(grad)].mul_(self.local.momentum).add_(grad)

    def _adam(self, key: str, grad: Tensor) -> Tensor:
        """Kingma & Ba 2015, as torch computes it."""
        one, two = self.local.betas
        if key not in self.first:
            self.first[key], self.second[key] = torch.zeros_like(grad), torch.zeros_like(grad)
        mean = self.first[key][: len(grad)].mul_(one).add_(grad, alpha=1 - one)
        square = self.second[key][: len(grad)].mul_(two).addcmul_(grad, grad, value=1 - two)
        root = (square / (1 - two**self.step)).sqrt_().add_(self.local.eps)
        return mean / (1 - one**self.step) / root
