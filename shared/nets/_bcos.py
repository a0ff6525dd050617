"""B-cos networks (Böhle et al. 2022, 2024): every layer a linear map that depends on its input, without a bias."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared._checks import check_array, check_range
from shared.nets._logits import logits_of, target_logit

EPS = 1e-6  # within the norm of a patch, and beside the cosine, as in the authors' code


class _Explained(nn.Module):
    """What can stand still: with `explaining` its factors that depend on the input count as constants in a gradient."""

    explaining = False


class _Bcos(_Explained):
    """y = |cos(w, x)|^(b-1) ŵᵀx with ŵ = w / ‖w‖; subclasses say how x meets w."""

    b: float
    weight: nn.Parameter

    def _unit(self) -> Tensor:
        """Weights of length one, row by row."""
        rows = self.weight.flatten(1)
        return (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).view_as(self.weight)

    def _scaled(self, linear: Tensor, squares: Tensor) -> Tensor:
        """The linear answer ŵᵀx times its cosine's power; `squares` is ‖x‖² at each place."""
        if self.b == 1:
            return linear
        norm = (squares + EPS).sqrt()
        size = linear.abs()
        if self.explaining:
            norm, size = norm.detach(), size.detach()
        cosine = size / norm
        return linear * (cosine if self.b == 2 else (cosine + EPS).pow(self.b - 1))


class BcosConv2d(_Bcos):
    """A B-cos convolution: |cos(w, x)|^(b-1) ŵᵀx of each patch x, ŵ = w / ‖w‖, no bias.

    Source: Böhle et al. 2022, B-cos networks, equation 3. The power is a factor that explanations hold fixed.

    Parameters
    ----------
    channels_in, channels_out, kernel : int
    stride, padding : int
    b : float
        At least 1; with 1 a convolution by unit vectors.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0, b: float = 2
    ) -> None:
        super().__init__()
        self.b, self.stride, self.padding = check_power(b), stride, padding
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        where = {"stride": self.stride, "padding": self.padding}
        linear = F.conv2d(x, self._unit(), **where)
        ones = x.new_ones(1, 1, *self.weight.shape[2:])
        return self._scaled(linear, F.conv2d(x.square().sum(1, keepdim=True), ones, **where))


class BcosLinear(_Bcos):
    """A B-cos layer of vectors: |cos(w, x)|^(b-1) ŵᵀx, ŵ = w / ‖w‖, no bias.

    Parameters
    ----------
    features_in, features_out : int
    b : float
        At least 1; with 1 a linear layer of unit vectors.
    """

    def __init__(self, features_in: int, features_out: int, *, b: float = 2) -> None:
        super().__init__()
        self.b = check_power(b)
        self.weight = nn.Parameter(torch.empty(features_out, features_in))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self._scaled(F.linear(x, self._unit()), x.square().sum(-1, keepdim=True))


class UncentredNorm(_Explained):
    """Batch norm that divides by the standard deviation and subtracts nothing: a linear map without a bias.

    Parameters
    ----------
    channels : int
    momentum : float
        Of the running variance.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance = self.running_var
        if self.training:
            variance = (x.detach() if self.explaining else x).var((0, 2, 3), unbiased=False)
            self.running_var.lerp_(variance.detach(), self.momentum)
        return x * (self.weight * (variance + 1e-5).rsqrt())[:, None, None]


class AddInverse(nn.Module):
    """Channels [x, 1 - x] of an image x in [0, 1]: dark pixels have something to multiply as well."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, 1 - x], dim=-3)


class SmallBcos(nn.Module):
    """A B-cos network for small images: `encode`, `features` of 3×3 convolutions with norms, `classifier`, mean, bias.

    Input (B, channels, H, W) in [0, 1], or already encoded (B, 2 · channels, H, W); output logits (B, n_classes), to be
    trained with binary cross-entropy. The logits' bias is fixed at -log(n_classes - 1), as the authors' for CIFAR-10.

    Parameters
    ----------
    channels, n_classes : int
    widths : tuple of int
        Channels of each convolution.
    strides : tuple of int
        Of each convolution.
    b : float
        Of every layer.
    gain : float
        Factor of the logits, fixed: cosines at every layer make small numbers.
    """

    def __init__(
        self,
        channels: int,
        n_classes: int,
        *,
        widths: tuple[int, ...] = (32, 48, 64, 64),
        strides: tuple[int, ...] = (2, 1, 2, 1),
        b: float = 2,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_range("n_classes", n_classes, 2)
        self.channels, self.gain = channels, gain
        self.encode = AddInverse()
        layers: list[nn.Module] = []
        before = 2 * channels
        for width, stride in zip(widths, strides, strict=True):
            block = [BcosConv2d(before, width, 3, stride=stride, padding=1, b=b), UncentredNorm(width)]
            layers.append(nn.Sequential(*block))
            before = width
        self.features = nn.Sequential(*layers)
        self.classifier = BcosConv2d(before, n_classes, 1, b=b)
        self.bias = -math.log(n_classes - 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (self.channels, 2 * self.channels):
            shape = f"(B, {self.channels}, H, W), or (B, {2 * self.channels}, H, W) encoded"
            raise ValueError(f"x has shape {tuple(x.shape)}; expected {shape}")
        encoded = x if x.shape[1] == 2 * self.channels else self.encode(x)
        return self.gain * self.classifier(self.features(encoded)).mean((2, 3)) + self.bias


def check_power(b: float) -> float:
    """The exponent of a B-cos layer, which must be a number of at least 1."""
    check_range("b", b, 1)
    return b


@contextmanager
def explanation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """While open, gradients are those of the linear map that a B-cos network is at its input.

    Cosines' powers and batches' statistics count as constants, so that input times gradient is exact. Outputs are the
    same. A network without B-cos layers has no such map.

    Parameters
    ----------
    model : nn.Module
        With layers of this file.

    Yields
    ------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        For a model without B-cos layers.
    """
    layers = [module for module in model.modules() if isinstance(module, _Explained)]
    if not any(isinstance(layer, _Bcos) for layer in layers):
        raise ValueError("model has no B-cos layer (BcosConv2d, BcosLinear); its gradient is no exact map")
    before = [layer.explaining for layer in layers]
    try:
        for layer in layers:
            layer.explaining = True
        yield model
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.explaining = was


def linear_map(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """W̃(x), the row of a B-cos network's linear map that gives the target's logit: ⟨W̃(x), x⟩ = logit - fixed bias.

    Source: Böhle et al. 2022, equations 10 and 13. One forward and one backward pass.

    Parameters
    ----------
    model : nn.Module
        A B-cos network in eval mode.
    x : Tensor
        Encoded images `(B, 2C, H, W)` (`AddInverse`), or whatever enters the first B-cos layer.
    target : Tensor
        Class of each row `(B,)`.

    Returns
    -------
    Tensor
        As x.

    Raises
    ------
    ValueError
        For no B-cos network, training mode, or x that isn't finite.
    """
    check_array("x", x, (None,) * x.ndim)
    if model.training:
        raise ValueError("model is in training mode, where a row's map depends on its batch; call model.eval()")
    with explanation_mode(model), torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        logits = target_logit(logits_of(model, leaf), target)
        return torch.autograd.grad(logits.sum(), leaf)[0]
