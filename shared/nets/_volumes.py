"""A small CNN for volumes: that of the Graz group's studies of brain images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from shared._checks import check_range


def graz_net(
    shape: Sequence[int], *, kernels: int = 8, stages: int = 4, hidden: int = 16, classes: int = 2, stride: int = 1
) -> nn.Sequential:
    """Stages of two 3³ convolutions, of which the second halves the volume; two dense layers (Tinauer et al. 2022).

    Every layer but the last has a ReLU behind it; there is no norm. Weights are He-uniform and biases 0, which the
    authors' training holds at or below 0.

    Parameters
    ----------
    shape : `(D, H, W)` of the volumes; they have one channel.
    kernels : channels of every convolution.
    stages : at least 1.
    hidden : units of the first dense layer.
    classes : logits.
    stride : of the very first convolution; 2 halves the volume once more and saves most of the time.

    Returns
    -------
    nn.Sequential, whose last convolution is `[4 * stages - 2]`.

    Raises
    ------
    ValueError
        A shape that isn't three sizes, sizes below 1.
    """
    if len(shape) != 3:
        raise ValueError(f"shape must be (D, H, W); got {tuple(shape)}")
    for name, value in {"kernels": kernels, "stages": stages, "hidden": hidden, "classes": classes}.items():
        check_range(name, value, 1)
    check_range("stride", stride, 1, 2)
    layers: list[nn.Module] = []
    size = [-(-int(side) // stride) for side in shape]
    for stage in range(stages):
        first = nn.Conv3d(kernels if stage else 1, kernels, 3, 1 if stage else stride, 1)
        layers += [first, nn.ReLU(), nn.Conv3d(kernels, kernels, 3, 2, 1), nn.ReLU()]
        size = [-(-side // 2) for side in size]
    flat = kernels * size[0] * size[1] * size[2]
    layers += [nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, classes)]
    net = nn.Sequential(*layers)
    for module in net:
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return net
