"""Linear operators behind modules: what a rule needs to know of a Linear or convolution layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn

from shared.lrp.rules._activations import identity_forward
from shared.lrp.rules._functions import IdentityActivation

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Linear = (nn.Linear,)
BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
AvgPool = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
AnyLinear = Convolution + Linear


def is_hf_conv1d(module: nn.Module) -> bool:
    """Whether this is the transposed Linear of GPT-2 (`transformers.pytorch_utils.Conv1D`)."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"


def is_plain(module: nn.Module) -> bool:
    """Whether a linear layer computes what its class does; a subclass with a forward of its own may not."""
    return is_hf_conv1d(module) or type(module).forward in {base.forward for base in (*AnyLinear, StackedLinear)}


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module for those without parts, but for what computes their weights (`torch.nn.utils.parametrize`)."""
    return {
        name: module
        for name, module in model.named_modules()
        if "parametrizations" not in name.split(".")
        and all(part == "parametrizations" for part, _ in module.named_children())
    }


class LinearOp:
    """`apply(x, W, b)`, its transposed product `vjp(W, s, shape)` and the bias broadcast to the output."""

    out_axis = 0  # of the weight: the axis of output channels (used by batch-norm merging)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def vjp(self, weight: Tensor, s: Tensor, shape: Size) -> Tensor:
        return s @ weight

    def broadcast(self, bias: Tensor, output: Tensor) -> Tensor:
        return bias

    def identity(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """`apply` under the identity rule."""
        return IdentityActivation.apply(x, lambda v: self.apply(v, weight, bias), 0.0)


class ModuleOp(LinearOp):
    """Any module without weights of its own in a rule: activations, pooling."""

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        self.forward, self._identity = forward, identity_forward(module, forward)

    def apply(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return self.forward(x)

    def identity(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return self._identity(x)


class TransposedLinearOp(LinearOp):
    """`x @ W + b` with W `(in, out)`: the Conv1D of transformers."""

    out_axis = 1

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight.t(), bias)

    def vjp(self, weight: Tensor, s: Tensor, shape: Size) -> Tensor:
        return s @ weight.t()


class StackedLinearOp(LinearOp):
    """M dense layers at once: W `(M, out, in)`, b `(M, out)`, x `(B, M, in)`."""

    out_axis = 1

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        z = torch.bmm(x.transpose(0, 1).expand(len(weight), -1, -1), weight.transpose(1, 2)).transpose(0, 1)
        return z if bias is None else z + bias

    def vjp(self, weight: Tensor, s: Tensor, shape: Size) -> Tensor:
        return torch.bmm(s.transpose(0, 1), weight).transpose(0, 1)


class StackedLinear(nn.Linear):
    """The dense layers of M networks side by side: `(B, M, in)` -> `(B, M, out)`.

    Parameters
    ----------
    layers : of one shape; their parameters are copied.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layers[0].in_features, layers[0].out_features
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        biases = [layer.bias for layer in layers]
        self.bias = None if biases[0] is None else nn.Parameter(torch.stack([b.detach() for b in biases]))

    def forward(self, x: Tensor) -> Tensor:
        return StackedLinearOp().apply(x, self.weight, self.bias)


@dataclass
class ConvOp(LinearOp):
    """Any torch convolution, with its padding made explicit when it isn't plain symmetric zeros."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int

    def __post_init__(self) -> None:
        self.out_axis = 1 if self.transposed else 0

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(
            x,
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    def vjp(self, weight: Tensor, s: Tensor, shape: Size) -> Tensor:
        like = s.new_empty(1).expand(shape)  # only its shape is read
        return torch.ops.aten.convolution_backward(
            s,
            like,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            [True, False, False],
        )[0]

    def broadcast(self, bias: Tensor, output: Tensor) -> Tensor:
        return bias.view(-1, *([1] * (output.ndim - 2)))


def linear_op(module: nn.Module) -> LinearOp | None:
    """The linear operator behind a module.

    Parameters
    ----------
    module : any torch module.

    Returns
    -------
    That of a Linear, Conv1D (transformers) or convolution module; None for any other.
    """
    if isinstance(module, StackedLinear):
        return StackedLinearOp()
    if isinstance(module, nn.Linear):
        return LinearOp()
    if is_hf_conv1d(module):
        return TransposedLinearOp()
    if isinstance(module, Convolution):
        return _conv_op(module)
    return None


def _conv_op(module: Any) -> ConvOp:
    explicit = isinstance(module.padding, str) or module.padding_mode != "zeros"
    padding = (0,) * len(module.kernel_size) if explicit else module.padding
    return ConvOp(module.stride, padding, module.dilation, module.transposed, module.output_padding, module.groups)


def pad_input(module: nn.Module, x: Tensor) -> Tensor:
    """Apply what `ConvOp` leaves out: `padding="same"` and padding modes other than zeros."""
    if not isinstance(module, Convolution) or (not isinstance(module.padding, str) and module.padding_mode == "zeros"):
        return x
    if module.padding == "valid":
        return x
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
