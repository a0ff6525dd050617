"""Network definitions of the zoo: plain modules with named blocks, so that hooks and rules find their layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm and (unless `act` is None) an activation, named `conv`, `norm`, `act`.

    `same="tensorflow"` pads a strided convolution at the right and bottom as TensorFlow's SAME does for even sizes, by
    an explicit `pad` module.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        act: type[nn.Module] | None = nn.ReLU,
        eps: float = 1e-5,
        same: str = "torch",
    ) -> None:
        super().__init__()
        padding = kernel // 2
        if same == "tensorflow" and stride == 2:
            self.pad = nn.ZeroPad2d((padding - 1, padding, padding - 1, padding))
            padding = 0
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=eps)
        if act is not None:
            self.act = act()


class _MBConv(nn.Module):
    """Inverted bottleneck: expand 1×1, depthwise k×k, project 1×1; with a skip connection where shapes allow it."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        common = {"act": nn.ReLU6, "eps": 1e-3}
        if expansion != 1:
            self.expand = ConvNorm(channels_in, inner, 1, **common)
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner, same="tensorflow", **common)
        self.project = ConvNorm(inner, channels_out, 1, act=None, eps=1e-3)
        self.skip = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x) if hasattr(self, "expand") else x
        y = self.project(self.depthwise(y))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan & Le 2019 without squeeze-excitation and swish): blocks `stem`, `blocks.0`…`15`, `head`.

    Input (B, 3, H, W), H and W multiples of 32, pixels normalised by mean 0.498 and std 0.502; output logits (B, 1000).
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

    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2, act=nn.ReLU6, eps=1e-3, same="tensorflow")
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, channels_out in self.STAGES:
            for i in range(repeats):
                blocks.append(_MBConv(channels, channels_out, expansion, kernel, stride if i == 0 else 1))
                channels = channels_out
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(channels, 1280, 1, act=nn.ReLU6, eps=1e-3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(1280, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Feature map before pooling, (B, 1280, H/32, W/32)."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 32 or x.shape[3] % 32 or 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, 3, H, W) with H and W multiples of 32")
        return self.head(self.blocks(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.features(x))))


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a skip connection (He et al. 2016, basic block)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels_in, channels_out, 3, stride)
        self.conv2 = ConvNorm(channels_out, channels_out, 3, act=None)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else ConvNorm(channels_in, channels_out, 1, stride, act=None)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A ResNet with BatchNorm and ReLU: `stem`, `stages.0`…, global average pooling, `classifier`.

    Input (B, channels, H, W); output logits (B, n_classes). Each stage after the first halves the map.
    """

    def __init__(
        self,
        channels: int,
        n_classes: int,
        widths: tuple[int, ...] = (16, 32, 64),
        blocks: int = 1,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, widths[0], 3, stem_stride)
        stages, before = [], widths[0]
        for i, width in enumerate(widths):
            first = _ResidualBlock(before, width, 1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(_ResidualBlock(width, width, 1) for _ in range(blocks - 1))))
            before = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(before, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Feature map before pooling, (B, widths[-1], h, w)."""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.features(x))))


class SmallVGG(nn.Module):
    """A VGG: `features` of 3×3 convolutions, ReLU and max-pooling after each pair, a hidden `classifier`; no BatchNorm.

    Input (B, channels, side, side); output logits (B, n_classes).
    """

    def __init__(
        self, channels: int, n_classes: int, side: int, widths: tuple[int, ...] = (16, 32, 64), hidden: int = 128
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.features(x)))


# name in config.json: (constructor, what its input is unless the config says otherwise)
class PatchHead(nn.Module):
    """From a vision transformer's patches (B, H, W, width) to features (B, H, W, out): standardised by the buffers
    `mean` and `std`, a 3 × 3 convolution `spread`, GELU, a linear map `project`."""

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

    factors : value names by factor. Input (B, 3, 32, 32) in [0, 1]; output logits (B, values) by factor.
    """

    def __init__(self, factors: dict[str, list[str]]) -> None:
        super().__init__()
        self.factors = {name: tuple(values) for name, values in factors.items()}
        channels, strides = (3, 24, 32, 48, 64, 64), (1, 2, 1, 2, 1)
        layers: list[nn.Module] = [ConvNorm(a, b, 3, s) for a, b, s in zip(channels, channels[1:], strides)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.neck = nn.Sequential(nn.Linear(16 * channels[-1], 96), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(96, len(values)) for name, values in self.factors.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.neck(self.body(x * 4 - 2))
        return {name: head(h) for name, head in self.heads.items()}


class ConceptJudge(nn.Sequential):
    """A small CNN with a logit per concept: (B, 3, 32, 32) in [0, 1] -> (B, concepts)."""

    def __init__(self, concepts: int) -> None:
        layers = [ConvNorm(a, b, 3, 2) for a, b in ((3, 16), (16, 32), (32, 48))]
        super().__init__(*layers, nn.Flatten(), nn.Linear(16 * 48, concepts))


class ConceptAutoencoder(nn.Module):
    """Convolutional autoencoder of 32-pixel images; `shifts` (concepts, code) insert concepts when added to a code.

    Input and output (B, 3, 32, 32) in [0, 1]; codes (B, code), each dimension of unit variance. `judge` gives a logit
    for each concept of an image.
    """

    def __init__(self, code: int, concepts: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(ConvNorm(a, b, 3, 2) for a, b in ((3, 24), (24, 48), (48, 64))),
            nn.Flatten(),
            nn.Linear(1024, code),
            nn.BatchNorm1d(code, affine=False),
        )
        up = [nn.Sequential(nn.Upsample(scale_factor=2), ConvNorm(a, b)) for a, b in ((64, 64), (64, 48))]
        self.decoder = nn.Sequential(
            nn.Linear(code, 1024),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ReLU(),
            *up,
            nn.Conv2d(48, 12, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )
        self.shifts = nn.Parameter(0.1 * torch.randn(concepts, code))
        self.judge = ConceptJudge(concepts)

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, code)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 3, 32, 32)."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


ARCHITECTURES = {
    "efficientnet-lite0": (EfficientNetLite0, {"input_size": (3, 224, 224), "mean": (0.498,) * 3, "std": (0.502,) * 3}),
    "small-resnet": (SmallResNet, {}),
    "small-vgg": (SmallVGG, {}),
    "patch-head": (PatchHead, {}),
    "concept-autoencoder": (ConceptAutoencoder, {}),
    "factor-cnn": (FactorCNN, {}),
}
