"""Convolution, norm and activation as one block; a ResNet and a VGG for small images."""

from __future__ import annotations

from torch import Tensor, nn

from shared._checks import check_choice

PADDINGS = ("torch", "tensorflow")


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm and an activation, named `conv`, `norm`, `act`.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel, stride, groups : int
        Of the convolution; padded by half the kernel.
    act : type of nn.Module, or None for no activation
    eps : float
        Of the norm.
    same : "torch" or "tensorflow"
        The latter pads a strided convolution at the right and bottom, as TensorFlow's SAME does for even sizes, by an
        explicit `pad` module.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        act: type[nn.Module] | None = nn.ReLU,
        eps: float = 1e-5,
        same: str = "torch",
    ) -> None:
        super().__init__()
        check_choice("same", same, PADDINGS)
        padding = kernel // 2
        if same == "tensorflow" and stride == 2:
            self.pad = nn.ZeroPad2d((padding - 1, padding, padding - 1, padding))
            padding = 0
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=eps)
        if act is not None:
            self.act = act()


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a skip connection (He et al. 2016, basic block).

    Parameters
    ----------
    channels_in, channels_out, stride : int
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels_in, channels_out, stride=stride)
        self.conv2 = ConvNorm(channels_out, channels_out, act=None)
        same = stride == 1 and channels_in == channels_out
        projected = {"kernel": 1, "stride": stride, "act": None}
        self.shortcut = nn.Identity() if same else ConvNorm(channels_in, channels_out, **projected)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A ResNet with BatchNorm and ReLU: `stem`, `stages.0`…, global average pooling, `classifier`.

    Input (B, channels, H, W); output logits (B, n_classes). Each stage after the first halves the map.

    Parameters
    ----------
    channels, n_classes : int
    widths : tuple of int
        Channels of each stage.
    blocks : int
        Residual blocks in each stage.
    stem_stride : int
    """

    def __init__(
        self,
        channels: int,
        n_classes: int,
        *,
        widths: tuple[int, ...] = (16, 32, 64),
        blocks: int = 1,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, widths[0], stride=stem_stride)
        stages: list[nn.Module] = []
        before = widths[0]
        for i, width in enumerate(widths):
            first = ResidualBlock(before, width, 1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(ResidualBlock(width, width, 1) for _ in range(blocks - 1))))
            before = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(before, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Feature map before pooling.

        Parameters
        ----------
        x : Tensor, shape (B, channels, H, W)

        Returns
        -------
        Tensor, shape (B, widths[-1], h, w)
        """
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.features(x))))


class SmallVGG(nn.Module):
    """A VGG: `features` of 3×3 convolutions, ReLU and max-pooling after each pair, a hidden `classifier`; no BatchNorm.

    Input (B, channels, side, side); output logits (B, n_classes).

    Parameters
    ----------
    channels, n_classes, side : int
    widths : tuple of int
        Channels of each pair of convolutions.
    hidden : int
        Units of the classifier's hidden layer.
    """

    def __init__(
        self, channels: int, n_classes: int, side: int, *, widths: tuple[int, ...] = (16, 32, 64), hidden: int = 128
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
            side = side // 2
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        inputs = channels * side * side
        self.classifier = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.features(x)))


class SmallConv(nn.Module):
    """`features` of unpadded 3×3 convolutions and hidden layers with ReLU, a linear `classifier`; nothing is pooled.

    The defaults are DualXDA's network for MNIST. Input (B, channels, *side); output logits (B, n_classes).

    Parameters
    ----------
    channels, n_classes : int
    side : (int, int)
        Height and width of the input.
    widths, hidden : tuple of int
        Channels of each convolution, units of each hidden layer.
    """

    def __init__(
        self,
        channels: int,
        n_classes: int,
        side: tuple[int, int],
        *,
        widths: tuple[int, ...] = (5, 10, 5),
        hidden: tuple[int, ...] = (500, 100),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3), nn.ReLU()]
            channels = width
        layers.append(nn.Flatten())
        inputs = channels * (side[0] - 2 * len(widths)) * (side[1] - 2 * len(widths))
        for units in hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
