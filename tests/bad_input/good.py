"""What the tables of good calls are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

Calls = dict[str, Callable[[], dict[str, Any]]]  # function -> its arguments, made afresh


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


def axes() -> Any:
    return plt.figure().add_subplot()


def sums(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)
