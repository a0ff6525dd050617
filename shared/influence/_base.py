"""What all attribution methods share."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor

from shared._checks import check_range, check_shape
from shared.influence._classifier import TrainedClassifier
from shared.influence._rows import Inputs, as_rows, check_rows


class TopScores(NamedTuple):
    """The best of each test point's scores.

    Parameters
    ----------
    values : Tensor
        τ, `(T, k)`.
    indices : Tensor
        Numbers of the training points, `(T, k)`.
    """

    values: Tensor
    indices: Tensor


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
        with net.own_precision():
            self._fit(net)
        return self

    def attribute(self, x: Inputs, targets: Tensor | None = None, *, batch_size: int | None = None) -> Tensor:
        """Scores τ, positive where the training point supports the explained class.

        Parameters
        ----------
        x : Tensor, Dataset or DataLoader
            Test inputs `(T, …)` shaped like the training data; labels that a data set holds play no part.
        targets : Tensor, optional
            Classes `(T,)`; by default the predicted ones.
        batch_size : int, optional
            Test inputs at once, which bounds the memory of whatever a method makes for them; by default all of a
            tensor's, the network's number of a data set's. The scores are the same for any (iterative solvers: within
            their tolerance).

        Returns
        -------
        Tensor
            `(T, N)`.
        """
        return torch.cat(list(self._in_parts(x, targets, batch_size)))

    def top(
        self,
        x: Inputs,
        k: int,
        targets: Tensor | None = None,
        *,
        largest: bool = True,
        batch_size: int | None = None,
    ) -> TopScores:
        """The k training points that speak most for each explained class, or against it.

        Without the matrix of all test and training points: of it, `batch_size` rows exist at a time.

        Parameters
        ----------
        x : Tensor, Dataset or DataLoader
            As for `attribute`.
        k : int
            From 1 to N.
        targets : Tensor, optional
            As for `attribute`.
        largest : bool
            False for the points that speak most against.
        batch_size : int, optional
            Test inputs at once; by default the network's.

        Returns
        -------
        TopScores
            Best first.
        """
        check_range("k", k, 1, len(self.fitted))
        parts = self._in_parts(x, targets, batch_size or self.fitted.batch_size)
        best = [tau.topk(k, dim=1, largest=largest) for tau in parts]
        return TopScores(torch.cat([b.values for b in best]), torch.cat([b.indices for b in best]))

    def _in_parts(self, x: Inputs, targets: Tensor | None, batch_size: int | None) -> Iterator[Tensor]:
        """Rows of τ, `batch_size` at a time."""
        net = self.fitted
        x = as_rows("x", x)
        check_rows("x", x, ("T", *net.x.shape[1:]))
        size = batch_size if batch_size is not None else len(x) if isinstance(x, Tensor) else net.batch_size
        check_range("batch_size", size, 1)
        if targets is not None:
            targets = torch.as_tensor(targets, device=net.layer.weight.device)
            check_shape("targets", targets, (len(x),))
            if int(targets.min()) < 0 or int(targets.max()) >= net.n_classes:
                raise ValueError(f"targets has classes beyond 0 to {net.n_classes - 1}")
        start = 0
        for part in x.split(size):
            features = net.features(part)
            classes = net.logits(features).argmax(1) if targets is None else targets[start : start + len(part)].long()
            with net.own_precision():
                tau = self._attribute(part, features, classes)
            yield tau
            start += len(part)

    def self_influence(self) -> Tensor:
        """Score of each training point for itself and its own label, `(N,)`; warns where all have the same."""
        with self.fitted.own_precision():
            own = self._self_influence(self.fitted)
        if len(own) > 1 and bool((own == own[0]).all()):
            said = (
                f"{self.name} gives all training points the self-influence {float(own[0]):g}, which ranks none of them"
            )
            warnings.warn(said, stacklevel=2)
        return own

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
