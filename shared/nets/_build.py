"""Classifiers by kind for any input, initialised from a generator: MLP, a small CNN, ResNet-18 for small images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared._checks import check_choice

KINDS = ("mlp", "cnn", "resnet18")
NORMS = ("group", "batch")


def build_net(
    kind: str,
    shape: Sequence[int],
    classes: int,
    *,
    generator: torch.Generator | None = None,
    hidden: Sequence[int] = (64, 32),
    norm: str = "group",
) -> nn.Module:
    """A classifier for inputs of `shape`, with fresh weights; it gives logits (B, classes).

    Parameters
    ----------
    kind : "mlp" (ReLU layers of any input), "cnn" (two convolutions, a linear layer) or "resnet18"
        The ResNet (He et al. 2016) has a 3×3 stem and no max-pooling; it and the CNN take (C, H, W).
    shape : sequence of int
        Of one input, without the batch axis.
    classes : int
    generator : torch.Generator on the CPU, optional
        Gives the weights and moves on; torch's global state is left alone. Without it, that state gives them.
    hidden : sequence of int
        Units of the MLP's hidden layers.
    norm : "group" or "batch"
        "group" normalises each example for itself, so that federated clients can be trained as one batch.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        For an unknown kind or norm, or a shape that isn't (C, H, W) where that is needed.
    """
    check_choice("kind", kind, KINDS)
    check_choice("norm", norm, NORMS)
    if kind != "mlp" and len(shape) != 3:
        raise ValueError(f"shape={tuple(shape)} must be (C, H, W) for kind={kind!r}")
    with _drawing_from(generator):
        if kind == "mlp":
            return _mlp(math.prod(shape), classes, hidden)
        if kind == "cnn":
            return _cnn(shape, classes, norm)
        return _ResNet18(shape[0], classes, norm)


@contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """torch's initialisers take no generator: lend them its state, then give it what they left."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())


def _mlp(inputs: int, classes: int, hidden: Sequence[int]) -> nn.Module:
    sizes = [inputs, *hidden]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], classes))


def _norm(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(min(8, channels // 2), channels)


def _cnn(shape: Sequence[int], classes: int, norm: str) -> nn.Module:
    def block(wide_in: int, wide_out: int) -> list[nn.Module]:
        return [nn.Conv2d(wide_in, wide_out, 3, padding=1), _norm(norm, wide_out), nn.ReLU(), nn.MaxPool2d(2)]

    features = 32 * (shape[1] // 4) * (shape[2] // 4)
    return nn.Sequential(*block(shape[0], 16), *block(16, 32), nn.Flatten(), nn.Linear(features, classes))


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut, with either norm."""

    def __init__(self, wide_in: int, wide_out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.norm1 = _norm(norm, wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.norm2 = _norm(norm, wide_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or wide_in != wide_out:
            self.shortcut = nn.Sequential(nn.Conv2d(wide_in, wide_out, 1, stride, bias=False), _norm(norm, wide_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class _ResNet18(nn.Module):
    def __init__(self, channels: int, classes: int, norm: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), _norm(norm, 64), nn.ReLU())
        stages = []
        for a, b in itertools.pairwise([64, 64, 128, 256, 512]):
            stages.append(nn.Sequential(_Block(a, b, 1 if a == b else 2, norm), _Block(b, b, 1, norm)))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))
