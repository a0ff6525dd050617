"""U-Net on the encoder of a classifier, plain or with the classifier's own output beside the segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared._checks import check_range


class PooledVGG(nn.Module):
    """`levels` of 3×3 convolutions and ReLU with max-pooling between them, the mean over positions, `classifier`.

    Input (B, channels, H, W) of any size; output logits (B, n_classes).

    Parameters
    ----------
    channels, n_classes : int
    widths : sequence of sequences of int
        Channels of the convolutions of each level.
    """

    def __init__(
        self, channels: int, n_classes: int, *, widths: Sequence[Sequence[int]] = ((12, 12), (24,), (48,))
    ) -> None:
        super().__init__()
        levels = []
        for i, level in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if i else []
            for width in level:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            levels.append(nn.Sequential(*layers))
        self.levels = nn.Sequential(*levels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, n_classes)

    def pyramid(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps from fine to coarse, and the logits.

        Parameters
        ----------
        x : Tensor, shape (B, channels, H, W)

        Returns
        -------
        list of Tensor, shape (B, c, h, w)
            The last of each level's.
        Tensor, shape (B, n_classes)
        """
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps, self.classifier(self.flatten(self.pool(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.pyramid(x)[1]


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015): a decoder as deep as the classifier that it takes as its encoder.

    At each level the coarser map is enlarged, joined with the encoder's of that level and convolved, twice 3×3 with
    ReLU. Input (B, C, H, W) of any size that the encoder takes; output segmentation logits (B, n_classes, H, W) and the
    classifier's own logits: training those too makes it the multi-task U-Net.

    Parameters
    ----------
    encoder : nn.Module
        A network with `pyramid(x)` that gives feature maps from fine to coarse and logits (`PooledVGG`), or a ResNet
        of transformers. It is used, not copied, and trained with the rest.
    n_classes : int
    channels : int
        Of the encoder's input.
    widest : int
        Most channels of a decoder level; as many as the encoder's level has, up to this.
    """

    def __init__(self, encoder: nn.Module, n_classes: int, *, channels: int = 3, widest: int = 512) -> None:
        super().__init__()
        check_range("n_classes", n_classes, 2)
        if not hasattr(encoder, "pyramid") and not hasattr(getattr(encoder, "config", None), "hidden_sizes"):
            raise ValueError(
                f"encoder is a {type(encoder).__name__}; expected one with pyramid(x), or a ResNet of transformers"
            )
        self.encoder = encoder
        sizes = self._sizes(channels)
        ups, before = [], sizes[-1]
        for skip in reversed(sizes[:-1]):
            width = min(skip, widest)
            ups.append(_double(before + skip, width))
            before = width
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(before, n_classes, 1)

    def _sizes(self, channels: int) -> list[int]:
        weight = next(self.encoder.parameters())
        mode = self.encoder.training
        with torch.no_grad():  # in eval mode: a batch norm shouldn't see the probe
            maps, _ = _pyramid(self.encoder.eval(), weight.new_zeros(1, channels, 64, 64))
        self.encoder.train(mode)
        return [x.shape[1] for x in maps]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps, logits = _pyramid(self.encoder, x)
        y = maps[-1]
        for up, skip in zip(self.ups, reversed(maps[:-1]), strict=True):
            y = up(torch.cat([F.interpolate(y, skip.shape[2:]), skip], 1))
        y = self.head(y)
        if y.shape[2:] != x.shape[2:]:
            y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
        return y, logits


def _double(channels_in: int, channels: int) -> nn.Sequential:
    first, second = nn.Conv2d(channels_in, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _pyramid(encoder: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    if hasattr(encoder, "pyramid"):
        return encoder.pyramid(x)
    found = encoder(x, output_hidden_states=True)  # a ResNet of transformers
    maps = list(found.hidden_states)
    if len(maps) > 1 and maps[0].shape[2:] == maps[1].shape[2:]:  # the stem's pooled map and the first stage's
        maps = maps[1:]
    return maps, found.logits
