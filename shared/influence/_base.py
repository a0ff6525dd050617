"""What all attribution methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from shared._checks import check_shape
from shared.influence._classifier import TrainedClassifier


class Attributor(ABC):
    """A method that scores every training point for the explained class of every test point.

    Everything is on the network's device and in its dtype. A new method writes `_fit`, `_attribute` and
    `_self_influence`.
    """

    name: str
    net: TrainedClassifier | None = None

    def fit(self, net: TrainedClassifier) -> Self:
        """Prepare for a network and its training data.

        Parameters
        ----------
        net : TrainedClassifier
            The network with its data.

        Returns
        -------
        Attributor
            Itself.
        """
        self.net = net
        self._fit(net)
        return self

    def attribute(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        """Scores τ, positive where the training point supports the explained class.

        Parameters
        ----------
        x : Tensor
            Test inputs `(T, …)` shaped like the training data.
        targets : Tensor, optional
            Classes `(T,)`; by default the predicted ones.

        Returns
        -------
        Tensor
            `(T, N)`.
        """
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
        """Score of each training point for itself and its own label, `(N,)`."""
        return self._self_influence(self.fitted)

    @property
    def fitted(self) -> TrainedClassifier:
        """The network; `RuntimeError` before `fit`."""
        if self.net is None:
            raise RuntimeError(f"{type(self).__name__} isn't fitted; call fit(net) first")
        return self.net

    @abstractmethod
    def _fit(self, net: TrainedClassifier) -> None: ...

    @abstractmethod
    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def _self_influence(self, net: TrainedClassifier) -> Tensor: ...


class RandomAttribution(Attributor):
    """Scores drawn at random: the zero level of every metric.

    Parameters
    ----------
    generator : torch.Generator
        Of the draws.
    """

    name = "random"

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def _fit(self, net: TrainedClassifier) -> None:
        pass

    def _draw(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(like)

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        return self._draw((len(x), len(self.fitted)), features)

    def _self_influence(self, net: TrainedClassifier) -> Tensor:
        return self._draw((len(net),), net.train_features)
