"""Activations and labels as tensors, checked; the errors of this room."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_finite, wide


class DegenerateDirectionError(ValueError):
    """A concept whose direction is zero or undefined, e.g. because activations are constant."""


def as_rows(argument: str, value: Tensor) -> Tensor:
    """Finite vectors (k, d) as they are; one vector (d,) becomes a row."""
    rows = torch.atleast_2d(value)
    check_array(argument, rows, ("k", "d"))
    return rows


def as_activations(value: Any, argument: str = "H") -> Tensor:
    """A finite (n, d) tensor in double precision (single where the device has no double), on the device it came on."""
    tensor = torch.as_tensor(_dense(value)).detach()
    if tensor.ndim != 2:
        raise ValueError(f"{argument} has shape {tuple(tensor.shape)}; expected (n, d): pool maps and tokens first")
    tensor = tensor.to(torch.float32) if tensor.device.type == "mps" else double(tensor)
    check_finite(argument, tensor)
    return tensor


def _dense(value: Any) -> Any:
    """Frames (nullable too, where missing is NaN) and sparse tables as arrays; anything else as it is."""
    if hasattr(value, "toarray"):
        return value.toarray()
    return value.to_numpy(dtype=np.float64, na_value=np.nan) if hasattr(value, "iloc") else value


def as_labels(value: Any, like: Tensor, argument: str = "y", least: int = 1) -> tuple[Tensor, bool]:
    """Labels as (n, k) of zeros and ones like `like` (n, d), and whether they came as one column (n,).

    Raises `ValueError` unless every column has at least `least` samples of each class.
    """
    raw = torch.as_tensor(np.asarray(_dense(value)) if not isinstance(value, Tensor) else value)
    single = raw.ndim == 1
    if raw.ndim not in (1, 2) or len(raw) != len(like):
        raise ValueError(f"{argument} has shape {tuple(raw.shape)}; expected ({len(like)},) or ({len(like)}, k)")
    raw = raw[:, None] if single else raw
    if not _binary(raw):
        raise ValueError(f"{argument} holds other values than 0 (non-concept) and 1 (concept)")
    labels = double(raw).to(like)
    positive = labels.sum(0).long()
    counts = torch.stack([len(labels) - positive, positive])
    short = (counts < least).any(0).nonzero().flatten().tolist()
    if short:
        zero, one = counts[:, short[0]].tolist()
        raise ValueError(
            f"{argument}: concept {short[0]} has {one} concept and {zero} non-concept samples; "
            f"at least {least} of each are needed ({len(short)} such concepts)"
        )
    return labels, single


def _binary(labels: Tensor) -> bool:
    """Whether all are 0 or 1; whole numbers are so if the smallest and the largest are, which one pass tells."""
    if labels.dtype == torch.bool or not labels.numel():
        return True
    if labels.is_floating_point() or labels.is_complex():
        return bool(((labels == 0) | (labels == 1)).all())
    low, high = labels.aminmax()
    return int(low) >= 0 and int(high) <= 1


def double(X: Tensor) -> Tensor:
    """X in double precision. On the CPU by numpy, whose large arrays lie on large pages: several times faster."""
    if X.device.type != "cpu" or X.dtype in (torch.float64, torch.bfloat16):
        return X if X.device.type == "mps" else wide(X)
    return torch.from_numpy(X.detach().numpy().astype(np.float64))


def centre(X: Tensor) -> tuple[Tensor, Tensor]:
    """X (n, d) without its mean, and the mean (d,); by numpy as in `double`."""
    mean = X.mean(0)
    if X.device.type != "cpu":
        return X - mean, mean
    return torch.from_numpy(X.detach().numpy() - mean.detach().numpy()), mean


def gram(X: Tensor) -> Tensor:
    """`Xᵀ X` (d, d) of X (n, d). On the CPU by numpy, which sees the symmetry and does half the arithmetic."""
    if X.device.type != "cpu":
        return X.T @ X
    rows = X.detach().numpy()
    return torch.from_numpy(rows.T @ rows)
