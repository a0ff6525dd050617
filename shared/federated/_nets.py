"""The networks of the federated papers, built from a seed: MLP, a small CNN, and ResNet-18 for small images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared._checks import check_choice

NETS = ("mlp", "cnn", "resnet18")
NORMS = ("group", "batch")


def build_net(
    kind: str,
    shape: Sequence[int],
    classes: int,
    *,
    seed: int,
    hidden: Sequence[int] = (64, 32),
    norm: str = "group",
) -> nn.Module:
    """A network for inputs of `shape` without the batch axis, initialised from `seed`; logits (B, classes).

    kind : "mlp" with ReLU layers of sizes `hidden` (any shape), "cnn" (two convolutions and a linear layer) or
    "resnet18" (3×3 stem, no max-pooling), both for (C, H, W). norm : "group" normalises each example for itself, so
    that clients can be trained as one batch; "batch" as in the papers, whose running statistics need the loop.
    """
    check_choice("kind", kind, NETS)
    check_choice("norm", norm, NORMS)
    if kind != "mlp" and len(shape) != 3:
        raise ValueError(f"shape={tuple(shape)} must be (C, H, W) for kind={kind!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mlp":
            sizes = [math.prod(shape), *hidden]
            layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
            return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], classes))
        if kind == "cnn":
            return _cnn(shape, classes, norm)
        return _ResNet18(shape[0], classes, norm)


def _norm(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(min(8, channels // 2), channels)


def _cnn(shape: Sequence[int], classes: int, norm: str) -> nn.Module:
    def block(wide_in: int, wide_out: int) -> list[nn.Module]:
        return [nn.Conv2d(wide_in, wide_out, 3, padding=1), _norm(norm, wide_out), nn.ReLU(), nn.MaxPool2d(2)]

    features = 32 * (shape[1] // 4) * (shape[2] // 4)
    return nn.Sequential(*block(shape[0], 16), *block(16, 32), nn.Flatten(), nn.Linear(features, classes))


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut, He et al. 2016."""

    def __init__(self, wide_in: int, wide_out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.norm1 = _norm(norm, wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.norm2 = _norm(norm, wide_out)
        same = stride == 1 and wide_in == wide_out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(wide_in, wide_out, 1, stride, bias=False), _norm(norm, wide_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class _ResNet18(nn.Module):
    def __init__(self, channels: int, classes: int, norm: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), _norm(norm, 64), nn.ReLU())
        widths = [64, 64, 128, 256, 512]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(_Block(a, b, 1 if a == b else 2, norm), _Block(b, b, 1, norm))
                for a, b in itertools.pairwise(widths)
            )
        )
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))
