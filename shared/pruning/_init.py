"""Random networks to find tickets in: biases that scale as the layers before them do, and looks-linear pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_range

DISTRIBUTIONS = ("normal", "uniform")
DENSE = (nn.Linear, nn.Conv2d)
BETWEEN = (nn.ReLU, nn.Flatten, nn.Identity, nn.AvgPool2d)  # what leaves pairs `relu(u) - relu(-u)` linear


def scored_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Dense and convolutional layers by name, in the order of `model.modules()`."""
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, DENSE)}
    if not found:
        raise ValueError("model has no Linear and no Conv2d layer; at least one is needed")
    return found


def he_bias_(
    model: nn.Module,
    *,
    beta: float = 1.0,
    distribution: str = "normal",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """He's weights with biases of the size that the scaling symmetry asks for (Fischer et al. 2021), in place.

    A factor c on layer k multiplies all that follows, so biases shrink with the weights before them:
    `w_l ~ N(0, s_l^2)`, `s_l = sqrt(2 / fan_in)`, `b_l ~ N(0, (beta s_1 ... s_l)^2)`.

    Parameters
    ----------
    model : its `Linear` and `Conv2d` layers are drawn, in the order of `model.modules()`, which must be that of use.
    beta : factor on the biases; 0 leaves all at zero, the control.
    distribution : "normal", or "uniform" with the same variances.
    generator : draws; without it torch's own.

    Returns
    -------
    The model.

    Raises
    ------
    ValueError
        No such layer, one without biases, a negative beta, an unknown distribution.
    """
    layers = _with_biases(model)
    check_range("beta", beta, 0.0)
    check_choice("distribution", distribution, DISTRIBUTIONS)
    product = beta
    with torch.no_grad():
        for layer in layers:
            std = math.sqrt(2 / layer.weight[0].numel())
            product *= std
            for parameter, size in ((layer.weight, std), (layer.bias, product)):
                parameter.copy_(_draw(parameter, size, distribution, generator))
    return model


def looks_linear_(
    model: nn.Module,
    *,
    beta: float = 1.0,
    dependent: bool = False,
    match_he: bool = False,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Orthogonal weights in pairs of opposite sign, so that the dense ReLU network is affine, in place.

    With A orthogonal of half the size the first layer is `[A; -A]`, the hidden ones `[[A, -A], [-A, A]]`, the last
    `[A, -A]`; biases come as `(b, -b)`. As `relu(u) - relu(-u) = u` the network is the product of all A, and a
    constant (Fischer et al. 2021, after Balduzzi et al. 2017). Biases have the standard deviation `beta r_1 ... r_l`,
    r the root mean square of the layer's entries.

    Parameters
    ----------
    model : a chain of `Linear` or `Conv2d` layers with `ReLU` between them (flattening and average pools may stand
        there too), each hidden width even.
    beta : factor on the biases; 0 leaves all at zero, the control.
    dependent : in every second layer the bias is `(-A b, A b)` of the layer before, so that the two cancel in the
        dense network: exactly for `Linear`, within the borders for padded convolutions.
    match_he : scale the first layer's entries to He's, `sqrt(2 / fan_in)`. With few inputs an orthogonal layer has far
        smaller ones, and its biases with them.
    generator : draws; without it torch's own.

    Returns
    -------
    The model.

    Raises
    ------
    ValueError
        A module of another kind, an odd hidden width, fewer than two layers, layers without biases, a negative beta.
    """
    layers = _with_biases(model)
    _check_pairs(model, layers)
    check_range("beta", beta, 0.0)
    product, before = beta, None
    with torch.no_grad():
        for place, layer in enumerate(layers):
            first, last = place == 0, place == len(layers) - 1
            half = _orthogonal(layer.weight, rows=not last, columns=not first, generator=generator)
            if first and match_he:
                half *= math.sqrt(2 / layer.weight[0].numel()) / half.square().mean().sqrt()
            product *= half.square().mean().sqrt().item()
            if dependent and place % 2:
                bias = -half.flatten(2).sum(2) @ before if half.ndim > 2 else -half @ before
            else:
                bias = _draw(half[:, 0].flatten(1)[:, 0] if half.ndim > 2 else half[:, 0], product, "normal", generator)
            before = bias
            rows = half if last else torch.cat([half, -half])
            layer.weight.copy_(rows if first else torch.cat([rows, -rows], 1))
            layer.bias.copy_(bias if last else torch.cat([bias, -bias]))
    return model


def rescale_(model: nn.Module, factor: float) -> nn.Module:
    """Multiply a ReLU chain's output by a factor, shared out over its layers, in place (Fischer et al. 2021).

    Each of the L weights takes `factor^(1/L)`, the bias of layer l `factor^(l/L)`; the function is otherwise the same.

    Parameters
    ----------
    model : a chain whose modules between dense and convolutional layers are positively homogeneous, as ReLU is.
    factor : positive.

    Returns
    -------
    The model.

    Raises
    ------
    ValueError
        No dense or convolutional layer, a factor that isn't positive and finite.
    """
    layers = list(scored_layers(model).values())
    if not (factor > 0 and math.isfinite(factor)):
        raise ValueError(f"factor={factor!r} must be positive and finite")
    step = factor ** (1 / len(layers))
    with torch.no_grad():
        for place, layer in enumerate(layers, start=1):
            layer.weight *= step
            if layer.bias is not None:
                layer.bias *= step**place
    return model


def _with_biases(model: nn.Module) -> list[nn.Module]:
    layers = scored_layers(model)
    bare = [name for name, layer in layers.items() if layer.bias is None]
    if bare:
        raise ValueError(f"model: {', '.join(bare)} has no bias; build its layers with bias=True")
    return list(layers.values())


def _check_pairs(model: nn.Module, layers: list[nn.Module]) -> None:
    """Whether the identity of pairs holds: ReLU only between layers, and a partner for every hidden unit."""
    leaves = [m for m in model.modules() if not list(m.children())]
    if other := {type(m).__name__ for m in leaves if not isinstance(m, (*DENSE, *BETWEEN))}:
        raise ValueError(f"model holds {', '.join(sorted(other))}; pairs look linear through ReLU only")
    if len(layers) < 2:
        raise ValueError("model has one layer; pairs need at least two")
    for layer in layers:
        if layer is not layers[-1] and len(layer.weight) % 2:
            raise ValueError(f"model has an odd hidden width, {len(layer.weight)}; pairs need even ones")
        if (layer is not layers[0] and layer.weight.shape[1] % 2) or getattr(layer, "groups", 1) > 1:
            raise ValueError(f"model: {layer} can't hold pairs; its inputs must be even and its groups 1")


def _orthogonal(weight: Tensor, *, rows: bool, columns: bool, generator: torch.Generator | None) -> Tensor:
    """An orthogonal matrix for half the outputs (`rows`) and half the inputs (`columns`) of a layer."""
    shape = [len(weight) // (2 if rows else 1), weight.shape[1] // (2 if columns else 1), *weight.shape[2:]]
    half = torch.empty(shape, dtype=torch.float64 if weight.device.type != "mps" else torch.float32)
    return nn.init.orthogonal_(half, generator=generator).to(weight)


def _draw(like: Tensor, std: float, distribution: str, generator: torch.Generator | None) -> Tensor:
    empty = torch.empty(like.shape, dtype=torch.float32)  # on the generator's own device, the CPU
    if distribution == "uniform":
        bound = std * math.sqrt(3)
        return empty.uniform_(-bound, bound, generator=generator).to(like)
    return empty.normal_(0.0, std, generator=generator).to(like)
