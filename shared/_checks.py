"""Argument checks that every room shares, so that bad input gets the same one clear message everywhere."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


class UnknownNameError(ValueError):
    """A name that isn't in a registry; the message lists what is."""


def check_choice(argument: str, value: Any, choices: Iterable[Any]) -> Any:
    """Return `value` if it is one of `choices`; else raise `UnknownNameError` with the closest and all names."""
    known = list(choices)
    if value in known:
        return value
    close = difflib.get_close_matches(str(value), [str(k) for k in known], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownNameError(f"{argument}={value!r} is unknown; {hint}known: {', '.join(map(str, known)) or 'none'}")


def check_keys(argument: str, given: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Raise `UnknownNameError`, with the closest name, unless a mapping has all `needed` ones; it may have others."""
    for name in needed:
        if name not in given:
            close = difflib.get_close_matches(name, list(given), n=1)
            hint = f" (closest: {close[0]!r})" if close else ""
            there = ", ".join(map(str, given)) or "nothing"
            raise UnknownNameError(f"{argument} lacks {name!r}{hint}; it has: {there}")


def check_finite(argument: str, value: torch.Tensor | np.ndarray) -> None:
    """Raise `ValueError` if a floating tensor or array is empty or holds NaN or infinity."""
    import torch  # here, so that the command line tools that check names start without it

    size = value.numel() if isinstance(value, torch.Tensor) else value.size
    if size == 0:
        raise ValueError(f"{argument} is empty (shape {tuple(value.shape)}); at least one element is needed")
    if _sums_to_finite(value):
        return
    if isinstance(value, torch.Tensor):
        bad = 0 if not (value.is_floating_point() or value.is_complex()) else int((~torch.isfinite(value)).sum())
    else:
        bad = int((~np.isfinite(value)).sum()) if value.dtype.kind in "fc" else 0
    if bad:
        raise ValueError(f"{argument} has {bad} NaN or infinite values of {size}; all must be finite")


def _sums_to_finite(value: torch.Tensor | np.ndarray) -> bool:
    """One pass without a mask: NaN and infinity make any sum NaN or infinite. False may also be an overflow."""
    if isinstance(value, np.ndarray) and value.dtype.kind not in "fc":
        return True  # labels and counts hold neither
    with np.errstate(all="ignore"):
        return math.isfinite(abs(value.sum().item()))


def check_shape(argument: str, value: torch.Tensor | np.ndarray, shape: Sequence[int | str | None]) -> None:
    """Raise `ValueError` unless `value` has `shape`; None or a letter stands for any length.

    >>> check_shape("x", torch.zeros(4, 3, 8, 8), ("B", 3, None, None))
    """
    got = tuple(value.shape)
    fits = len(got) == len(shape) and all(not isinstance(w, int) or w == g for g, w in zip(got, shape))
    if not fits:
        want = ", ".join("any" if w is None else str(w) for w in shape)
        raise ValueError(f"{argument} has shape {got}; expected ({want})")


def check_array(argument: str, value: torch.Tensor | np.ndarray, shape: Sequence[int | str | None]) -> None:
    """`check_shape`, then `check_finite`: what most public functions ask of an array they are given."""
    check_shape(argument, value, shape)
    check_finite(argument, value)


def check_range(argument: str, value: float, low: float | None = None, high: float | None = None) -> None:
    """Raise `ValueError` unless low <= value <= high (either bound may be None); NaN never passes."""
    if not ((low is None or value >= low) and (high is None or value <= high)):
        bounds = f"[{'-inf' if low is None else low}, {'inf' if high is None else high}]"
        raise ValueError(f"{argument}={value!r} is out of range; accepted: {bounds}")


def copied(argument: str, model: Any, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy of a module, or a `ValueError` that names it where torch can't make one."""
    import copy

    try:
        return copy.deepcopy(model, memo)
    except RuntimeError as error:  # tensors with a history: the hooks of the old `torch.nn.utils.weight_norm`
        raise ValueError(
            f"{argument} can't be copied: {type(model).__name__} holds tensors that a graph made, as the hooks of "
            "torch.nn.utils.weight_norm do; make them parameters (torch.nn.utils.remove_weight_norm)"
        ) from error


def as_numbers(value: Any) -> np.ndarray:
    """An array of float64 of whatever holds numbers, a tensor in half precision, on a device or in a graph too."""
    import torch

    return np.asarray(value.detach().cpu().double() if isinstance(value, torch.Tensor) else value, dtype=np.float64)


def wide(x: torch.Tensor) -> torch.Tensor:
    """In the widest floating type of the tensor's device: float64, or float32 on Apple's MPS, which has no float64."""
    import torch

    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
