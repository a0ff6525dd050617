"""What every correction of a trained model is: a change of one layer's activation, per sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_finite, check_range

Data = Tensor | Mapping[str, Any]


class Correction(ABC):
    """A change of one layer's activation that takes artifacts out of a model's decisions.

    To write another one, set `layer` and give the three methods; `predict`, `predict_from` and code that explains
    corrected models ask for nothing else.

    Attributes
    ----------
    layer : name of the module whose output is changed.
    """

    layer: str

    @abstractmethod
    def applied(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """Within the context the model itself runs corrected: `model(x)`, and whatever else calls the model.

        Parameters
        ----------
        model : in eval mode where the correction must not depend on the batch.

        Returns
        -------
        A context manager that gives the model.
        """

    @abstractmethod
    def logits(self, model: nn.Module, x: Data) -> Tensor:
        """What the corrected model says, by the cheapest way.

        Parameters
        ----------
        model : in eval mode.
        x : one batch: a tensor (n, …), or a mapping of tensors by argument name.

        Returns
        -------
        (n, classes), without gradients.
        """

    @abstractmethod
    def logits_from(self, head: Callable[[Tensor], Tensor], activation: Tensor) -> Tensor:
        """The same from a stored activation of the layer.

        Parameters
        ----------
        head : the network behind the layer.
        activation : (n, …).

        Returns
        -------
        (n, classes).
        """


@torch.no_grad()
def predict(model: nn.Module, x: Data, *, correction: Correction | None = None, batch_size: int = 512) -> Tensor:
    """Logits of the plain or corrected model, in batches, without gradients.

    Parameters
    ----------
    model : in eval mode.
    x : a tensor (n, …), or a mapping of tensors by argument name.
    correction : None for the plain model.
    batch_size : rows per pass; the result doesn't depend on it.

    Returns
    -------
    (n, classes), on the model's device.
    """
    hooks.refuse_training(model)
    parts = [
        hooks.first_tensor(hooks.run_model(model, batch)) if correction is None else correction.logits(model, batch)
        for batch in hooks.batches(x, batch_size)
    ]
    return torch.cat(parts)


@torch.no_grad()
def predict_from(
    head: Callable[[Tensor], Tensor],
    activation: Tensor,
    *,
    correction: Correction | None = None,
    batch_size: int = 8192,
) -> Tensor:
    """Logits from stored activations of the correction's layer, without gradients.

    The same as `predict` at a fraction of its cost where many corrections are compared on the same images.

    Parameters
    ----------
    head : the network behind the layer.
    activation : (n, …).
    correction : None for the plain model.
    batch_size : rows per pass; the result doesn't depend on it.

    Returns
    -------
    (n, classes).
    """
    check_finite("activation", activation)
    check_range("batch_size", batch_size, 1)
    parts = [
        head(part) if correction is None else correction.logits_from(head, part)
        for part in activation.split(batch_size)
    ]
    return torch.cat(parts)
