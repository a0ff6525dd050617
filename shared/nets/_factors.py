"""Networks of the shapes world: a head per factor; dense features from a vision transformer's patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.nets._conv import ConvNorm


class PatchHead(nn.Module):
    """From a vision transformer's patches (B, H, W, width) to features (B, H, W, out).

    Patches are standardised by the buffers `mean` and `std`; a 3 × 3 convolution `spread`, GELU and a linear map
    `project` follow.

    Parameters
    ----------
    width, hidden, out : int
        Channels of the patches, of the hidden map and of the features.
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.spread = nn.Conv2d(width, hidden, 3, padding=1)
        self.act = nn.GELU()
        self.project = nn.Conv2d(hidden, out, 1)

    def forward(self, patches: Tensor) -> Tensor:
        maps = ((patches - self.mean) / self.std).movedim(-1, 1)
        return self.project(self.act(self.spread(maps))).movedim(1, -1)


class FactorCNN(nn.Module):
    """A small CNN with one head per factor: blocks `body`, `neck`, `heads.<factor>`.

    Input (B, 3, 32, 32) in [0, 1]; output logits (B, values) by factor.

    Parameters
    ----------
    factors : dict of str to list of str
        Names of the values of each factor.
    """

    def __init__(self, factors: dict[str, list[str]]) -> None:
        super().__init__()
        self.factors = {name: tuple(values) for name, values in factors.items()}
        channels = (3, 24, 32, 48, 64, 64)
        steps = zip(channels, channels[1:], (1, 2, 1, 2, 1))
        layers: list[nn.Module] = [ConvNorm(a, b, stride=stride) for a, b, stride in steps]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.neck = nn.Sequential(nn.Linear(16 * channels[-1], 96), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(96, len(values)) for name, values in self.factors.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.neck(self.body(x * 4 - 2))
        return {name: head(h) for name, head in self.heads.items()}
