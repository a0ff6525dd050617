"""What all attribution methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from shared._checks import check_shape
from shared.influence._classifier import Classifier


class Attributor(ABC):
    """A method that scores every training point for the explained class of every test point.

    `fit(net)` prepares it; `attribute(x, targets)` gives τ (T, N), positive where the training point supports the
    explained class (default: the predicted one); `self_influence()` gives each training point's score for its own
    label (N,). All on the network's device and in its dtype.
    """

    name: str
    net: Classifier | None = None

    def fit(self, net: Classifier) -> Self:
        """Prepare for a network and its training data; returns the method itself."""
        self.net = net
        self._fit(net)
        return self

    def attribute(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        """τ (T, N) for inputs x (T, …) shaped like the training data and classes targets (T,)."""
        net = self.fitted
        check_shape("x", x, ("T", *net.x.shape[1:]))
        features = net.features(x)
        if targets is None:
            targets = net.logits(features).argmax(1)
        targets = torch.as_tensor(targets, device=features.device)
        check_shape("targets", targets, (len(x),))
        if int(targets.min()) < 0 or int(targets.max()) >= net.n_classes:
            raise ValueError(f"targets has classes beyond 0 to {net.n_classes - 1}")
        return self._attribute(x, features, targets.long())

    def self_influence(self) -> Tensor:
        """Score of each training point for itself and its own label, (N,)."""
        return self._self_influence(self.fitted)

    @property
    def fitted(self) -> Classifier:
        """The network; `RuntimeError` before `fit`."""
        if self.net is None:
            raise RuntimeError(f"{type(self).__name__} isn't fitted; call fit(net) first")
        return self.net

    @abstractmethod
    def _fit(self, net: Classifier) -> None: ...

    @abstractmethod
    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def _self_influence(self, net: Classifier) -> Tensor: ...


class Random(Attributor):
    """Scores drawn at random: the zero level of every metric."""

    name = "random"

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def _fit(self, net: Classifier) -> None:
        pass

    def _draw(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(like)

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        return self._draw((len(x), len(self.fitted)), features)

    def _self_influence(self, net: Classifier) -> Tensor:
        return self._draw((len(net),), net.train_features)
