"""`TrainedClassifier`: a network seen as features and a linear head, with the data that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from shared._checks import check_range, check_shape, copied
from shared.hooks import refuse_compiled
from shared.influence._rows import Inputs, as_rows, check_rows


@dataclass(frozen=True)
class Checkpoint:
    """Weights that training passed through.

    Parameters
    ----------
    state : mapping
        The model's state dict.
    lr : float
        The learning rate that training had there.
    """

    state: Mapping[str, Tensor]
    lr: float = 1.0


class TrainedClassifier:
    """A network whose last layer is linear, with its training data; what every attribution method is fitted to.

    Parameters
    ----------
    model : Module
        In eval mode; gives logits `(B, K)` (or an object with `.logits`).
    x : Tensor, Dataset or DataLoader
        Training inputs `(N, …)`, as the model takes them. A data set of inputs or (input, label) pairs is read a batch
        at a time, in its own order, of a loader as well (which is asked for its data set and its collation only).
    y : Tensor, optional
        Their labels `(N,)`, integers from 0 to K - 1; by default those of the data set.
    head : str
        Name of the last linear layer; "" if the model is that layer itself (then x holds features `(N, d)`).
    batch_size : int
        Inputs in one pass, of whatever method is fitted; results don't depend on it but for rounding. Passes that hold
        a gradient per input take at most 64.

    Raises
    ------
    ValueError
        Labels, shapes or values that don't fit; a model in training mode.
    TypeError
        A head that isn't `nn.Linear`, inputs that are neither a tensor nor a data set of tensors.
    """

    def __init__(
        self, model: nn.Module, x: Inputs, y: Tensor | None = None, *, head: str = "", batch_size: int = 256
    ) -> None:
        layer = dict(model.named_modules()).get(head)
        if not isinstance(layer, nn.Linear):
            linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
            raise TypeError(f"head={head!r} is no nn.Linear of the model; linear layers: {', '.join(linear) or 'none'}")
        refuse_compiled(model)
        if any(m.training for m in model.modules()):
            raise ValueError("model is in training mode, so its features may change; call model.eval() first")
        check_range("batch_size", batch_size, 1)
        x = as_rows("x", x)
        check_rows("x", x, ("N", *x.shape[1:]))
        if y is None:
            if isinstance(x, Tensor):
                raise ValueError("y is missing: a tensor of inputs has no labels of its own")
            y = x.labels(batch_size)
        self.model = model
        self.head = head
        self.batch_size = batch_size
        self.x = x
        self.y = _labels(y, len(x), layer)

    @property
    def layer(self) -> nn.Linear:
        """The head."""
        return self.model.get_submodule(self.head) if self.head else self.model

    @property
    def n_classes(self) -> int:
        """K."""
        return self.layer.out_features

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def train_features(self) -> Tensor:
        """Features of the training data, `(N, d)`."""
        return self.features(self.x)

    def features(self, x: Inputs) -> Tensor:
        """The head's input.

        Parameters
        ----------
        x : Tensor, Dataset or DataLoader
            Inputs `(B, …)` shaped like the training data.

        Returns
        -------
        Tensor
            `(B, d)`.
        """
        x = as_rows("x", x)
        check_rows("x", x, ("B", *self.x.shape[1:]))
        seen: list[Tensor] = []
        hook = self.layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
        try:
            with torch.no_grad(), self.own_precision():
                for part in x.split(self.batch_size):
                    self.model(self.placed(part))
        finally:
            hook.remove()
        features = torch.cat(seen)
        if features.ndim != 2 or len(features) != len(x):
            raise ValueError(f"the head's input has shape {tuple(features.shape)} for {len(x)} inputs; expected (B, d)")
        return features

    def placed(self, x: Tensor) -> Tensor:
        """Inputs on the head's device, numbers (not token ids) in its precision.

        Parameters
        ----------
        x : Tensor
            Inputs `(B, …)`.

        Returns
        -------
        Tensor
            `(B, …)`.
        """
        weight = self.layer.weight
        return x.to(weight) if x.is_floating_point() else x.to(weight.device)

    def logits(self, features: Tensor) -> Tensor:
        """The head's output.

        Parameters
        ----------
        features : Tensor
            `(B, d)`.

        Returns
        -------
        Tensor
            `(B, K)`.
        """
        with torch.no_grad(), self.own_precision():
            return self.layer(features)

    def own_precision(self) -> torch.autocast:
        """A context without autocast: features and scores are in the network's dtype, solvers meet one precision.

        Returns
        -------
        torch.autocast
            Disabled.
        """
        return torch.autocast(self.layer.weight.device.type, enabled=False)

    def predict(self, x: Inputs) -> Tensor:
        """The most probable class of each input.

        Parameters
        ----------
        x : Tensor, Dataset or DataLoader
            Inputs `(B, …)` shaped like the training data.

        Returns
        -------
        Tensor
            `(B,)` int64.
        """
        return self.logits(self.features(x)).argmax(1)

    def augmented(self, features: Tensor) -> Tensor:
        """Features with a column of ones for the head's bias, if it has one.

        Parameters
        ----------
        features : Tensor
            `(B, d)`.

        Returns
        -------
        Tensor
            `(B, D)`.
        """
        if self.layer.bias is None:
            return features
        return torch.cat([features, features.new_ones(len(features), 1)], 1)

    def at(self, checkpoint: Checkpoint) -> TrainedClassifier:
        """The same with the checkpoint's weights (a copy of the model).

        Parameters
        ----------
        checkpoint : Checkpoint
            Of the same architecture.

        Returns
        -------
        TrainedClassifier
            With the same data.
        """
        model = copied("model", self.model)
        model.load_state_dict(dict(checkpoint.state))
        return TrainedClassifier(model, self.x, self.y, head=self.head, batch_size=self.batch_size)

    def randomised(self, generator: torch.Generator) -> TrainedClassifier:
        """The same with every parameter tensor's values permuted, as for `model_randomisation`.

        Parameters
        ----------
        generator : torch.Generator
            Of the permutations.

        Returns
        -------
        TrainedClassifier
            A copy with the same data.
        """
        model = copied("model", self.model)
        with torch.no_grad():
            for p in model.parameters():
                order = torch.randperm(p.numel(), generator=generator, device=generator.device).to(p.device)
                p.copy_(p.flatten()[order].view_as(p))
        return TrainedClassifier(model, self.x, self.y, head=self.head, batch_size=self.batch_size)

    def on(self, x: Inputs, y: Tensor | None = None) -> TrainedClassifier:
        """The same model with other training data.

        Parameters
        ----------
        x : Tensor, Dataset or DataLoader
            Training inputs `(N, …)`.
        y : Tensor, optional
            Their labels `(N,)`; by default those of the data set.

        Returns
        -------
        TrainedClassifier
            Of the same model, not a copy.
        """
        return TrainedClassifier(self.model, x, y, head=self.head, batch_size=self.batch_size)


def _labels(y: Tensor, n: int, layer: nn.Linear) -> Tensor:
    y = torch.as_tensor(y)
    if y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(f"y must hold integer classes; got {y.dtype}")
    check_shape("y", y, (n,))
    if int(y.min()) < 0 or int(y.max()) >= layer.out_features:
        raise ValueError(
            f"y has values from {int(y.min())} to {int(y.max())}; the head has {layer.out_features} classes"
        )
    return y.to(layer.weight.device).long()
