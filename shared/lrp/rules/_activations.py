"""Which activation modules are right as they are, and which need the identity rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from shared.lrp.rules._functions import IdentityActivation, SwishActivation, slope_at_zero

HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Identity)  # f(x) / x = f'(x): the gradient is the rule
IDENTITY = (
    nn.GELU,
    nn.SiLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Mish,
)
Activation = HOMOGENEOUS + IDENTITY
_SWISH = {"SiLU": 1.0, "SiLUActivation": 1.0, "QuickGELUActivation": 1.702}


def needs_identity(module: nn.Module) -> bool:
    """Whether the module is an elementwise activation whose gradient isn't `f(x) / x`."""
    from_transformers = type(module).__module__ == "transformers.activations"
    linear = type(module).__name__ == "LinearActivation"
    return isinstance(module, IDENTITY) or (from_transformers and not linear and not isinstance(module, HOMOGENEOUS))


def identity_forward(module: nn.Module, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The module's forward under the identity rule; `function` is its own forward."""
    scale = _SWISH.get(type(module).__name__)
    if scale is not None:
        return lambda x: SwishActivation.apply(x, function, scale)
    slope: list[float] = []
    return partial(_identity, function, slope)


def _identity(function: Callable[[Tensor], Tensor], slope: list[float], x: Tensor) -> Tensor:
    if not slope:
        slope.append(slope_at_zero(function, x))
    return IdentityActivation.apply(x, function, slope[0])
