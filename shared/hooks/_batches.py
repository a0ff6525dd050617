"""Data through a model in batches: images or token ids as a tensor, or a mapping of tensors by argument name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_range

Data = Tensor | Mapping[str, Any]


def run_model(model: nn.Module, x: Any) -> Any:
    """`model(x)` on the model's device.

    Parameters
    ----------
    model : any torch module.
    x : a tensor; of a tuple or list the first element is taken; a mapping is given as keyword arguments.

    Returns
    -------
    What the model gives.
    """
    device = model_device(model)

    def here(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) and device is not None else value

    if isinstance(x, Mapping):
        return model(**{key: here(value) for key, value in padded_positions(model, x).items()})
    return model(here(x[0] if isinstance(x, tuple | list) else x))


def padded_positions(model: nn.Module, x: Mapping[str, Any]) -> dict[str, Any]:
    """A transformers batch in which left padding takes no positions.

    GPT-2, say, counts positions from the first column, padding included, so that a left-padded row gives other
    numbers than the row alone. Rotary models see distances only and don't mind.

    Parameters
    ----------
    model : any torch module.
    x : its arguments by name.

    Returns
    -------
    The arguments; with `position_ids` that count attended tokens where an attention mask (B, S) begins with padding,
    the model takes such ids, none were given and it doesn't number its tokens by itself.
    """
    named = dict(x)
    mask = named.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2 or named.get("position_ids") is not None:
        return named
    takes = "position_ids" in inspect.signature(model.forward).parameters
    itself = any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules())  # RoBERTa
    if takes and not itself and not bool(mask[:, 0].all()):
        named["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return named


def model_device(model: nn.Module) -> torch.device | None:
    """Where the model's first parameter is.

    Parameters
    ----------
    model : any torch module.

    Returns
    -------
    The device; None for a model without parameters.
    """
    return next((p.device for p in model.parameters()), None)


def count_rows(x: Data, *, argument: str = "x") -> int:
    """Number of samples, after a check of the data.

    Parameters
    ----------
    x : tensor (B, …), or a mapping whose tensors all have B rows (other values, such as flags, go to every batch).
    argument : what the caller calls it.

    Returns
    -------
    B, at least 1.

    Raises
    ------
    ValueError
        Another kind of data; no tensor in a mapping; NaN; nothing; different numbers of rows.
    """
    if isinstance(x, Tensor):
        check_finite(argument, x)
        return len(x)
    if not isinstance(x, Mapping):
        raise ValueError(
            f"{argument} is a {type(x).__name__}; expected a tensor (B, …) or a mapping of tensors by name"
        )
    tensors = {key: value for key, value in x.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{argument} is a mapping without tensors: {', '.join(map(str, x)) or 'empty'}")
    for key, value in tensors.items():
        check_finite(f"{argument}[{key!r}]", value)
    sizes = {len(value) for value in tensors.values()}
    if len(sizes) > 1:
        raise ValueError(f"{argument} holds tensors of different numbers of rows: {sorted(sizes)}")
    return sizes.pop()


def batches(x: Data, batch_size: int, *, argument: str = "x") -> Iterator[Data]:
    """The data in parts of at most `batch_size` rows, in order.

    Parameters
    ----------
    x : as `count_rows` takes it.
    batch_size : at least 1.
    argument : what the caller calls the data.

    Returns
    -------
    An iterator over data of the same kind.
    """
    rows = count_rows(x, argument=argument)
    check_range("batch_size", batch_size, 1)
    return (take_rows(x, slice(start, start + batch_size)) for start in range(0, rows, batch_size))


def take_rows(x: Data, rows: slice | Tensor) -> Data:
    """Some of the samples.

    Parameters
    ----------
    x : as `count_rows` takes it.
    rows : a slice, or numbers of rows (n,).

    Returns
    -------
    Data of the same kind.
    """
    if isinstance(x, Tensor):
        return x[rows]
    return {key: value[rows] if isinstance(value, Tensor) else value for key, value in x.items()}


@contextmanager
def graph_mode() -> Iterator[None]:
    """Gradients are computed inside, whatever the caller stands in: `no_grad` or `inference_mode`.

    Yields
    ------
    Nothing.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


def refuse_training(model: nn.Module) -> None:
    """Raise `ValueError` if a part in training mode makes a row's result depend on chance or on the batch.

    Parameters
    ----------
    model : any torch module; dropout, batch norms and attention with dropout count.
    """
    for name, module in model.named_modules():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        rate = getattr(module, "attention_dropout", None)
        attends = isinstance(rate, float) and rate > 0
        if module.training and (drops or attends or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            raise ValueError(
                f"model is in training mode ({type(module).__name__} at {name!r}); call model.eval() first"
            )
