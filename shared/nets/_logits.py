"""What a classifier says, however it returns it."""

from __future__ import annotations

from torch import Tensor, nn

from shared._checks import check_array


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """A classifier's logits, whether it returns them or an object that holds them as `.logits`.

    Parameters
    ----------
    model : nn.Module
    x : Tensor
        What the model takes.

    Returns
    -------
    Tensor, shape (B, classes)

    Raises
    ------
    TypeError
        For a model that gives neither.
    """
    out = model(x)
    found = out if isinstance(out, Tensor) else getattr(out, "logits", None)
    if not isinstance(found, Tensor):
        raise TypeError(f"model gives {type(out).__name__}; expected logits or an object with .logits")
    return found


def target_logit(logits: Tensor, target: Tensor) -> Tensor:
    """Each row's logit of its own class: what most explanations explain.

    Parameters
    ----------
    logits : Tensor, shape (B, classes)
    target : Tensor of int64, shape (B,)

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        For other shapes, NaN, and classes that the logits haven't.
    """
    check_array("logits", logits, ("B", "classes"))
    check_array("target", target, (len(logits),))
    if bool((target < 0).any()) or bool((target >= logits.shape[1]).any()):
        raise ValueError(f"target must be from 0 to {logits.shape[1] - 1}; got {target.tolist()}")
    return logits.gather(1, target[:, None]).squeeze(1)
