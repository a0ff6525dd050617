"""EfficientNet-Lite0, with names that hooks and rules find."""

from __future__ import annotations

from torch import Tensor, nn

from shared.nets._conv import ConvNorm


class _MBConv(nn.Module):
    """Inverted bottleneck: expand 1×1, depthwise k×k, project 1×1; with a skip connection where shapes allow it."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        common = {"act": nn.ReLU6, "eps": 1e-3}
        if expansion != 1:
            self.expand = ConvNorm(channels_in, inner, kernel=1, **common)
        depthwise = {"kernel": kernel, "stride": stride, "groups": inner, "same": "tensorflow"}
        self.depthwise = ConvNorm(inner, inner, **depthwise, **common)
        self.project = ConvNorm(inner, channels_out, kernel=1, act=None, eps=1e-3)
        self.skip = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x) if hasattr(self, "expand") else x
        y = self.project(self.depthwise(y))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan & Le 2019 without squeeze-excitation and swish): blocks `stem`, `blocks.0`…`15`, `head`.

    Input (B, 3, H, W), H and W multiples of 32, pixels normalised by mean 0.498 and std 0.502; output logits.

    Parameters
    ----------
    n_classes : int
    """

    # (repeats, kernel, stride, expansion, channels) of each stage
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self, *, n_classes: int = 1000) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, stride=2, act=nn.ReLU6, eps=1e-3, same="tensorflow")
        blocks: list[nn.Module] = []
        channels = 32
        for repeats, kernel, stride, expansion, channels_out in self.STAGES:
            for i in range(repeats):
                blocks.append(_MBConv(channels, channels_out, expansion, kernel, stride if i == 0 else 1))
                channels = channels_out
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(channels, 1280, kernel=1, act=nn.ReLU6, eps=1e-3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(1280, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Feature map before pooling.

        Parameters
        ----------
        x : Tensor, shape (B, 3, H, W)
            H and W multiples of 32.

        Returns
        -------
        Tensor, shape (B, 1280, H/32, W/32)
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 32 or x.shape[3] % 32 or 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, 3, H, W) with H and W multiples of 32")
        return self.head(self.blocks(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.features(x))))
