"""What single weights are worth without relevance (`lrp.weight_relevance` gives that), and rows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_finite
from shared.hooks import batches, edit, find_module, refuse_training, run_model
from shared.pruning._units import check_layers, is_head_layer, norms_after


def magnitude_scores(model: nn.Module, layers: Iterable[str] | str, *, merge_norm: bool = False) -> dict[str, Tensor]:
    """Absolute weights.

    Parameters
    ----------
    model : any torch module.
    layers : convolutions or dense layers.
    merge_norm : scale a filter's weights by its batch norm, as if that were merged into it.

    Returns
    -------
    Layer -> |w| in the weight's shape.

    Raises
    ------
    ValueError
        A layer without weights, or heads.
    """
    norms = norms_after(model) if merge_norm else {}
    return {name: (_weight(model, name) * _scale(model, name, norms)).abs() for name in check_layers(model, layers)}


def _scale(model: nn.Module, name: str, norms: Mapping[str, str]) -> Tensor | float:
    if name not in norms:
        return 1.0
    norm, weight = find_module(model, norms[name]), _weight(model, name)
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1.0 if norm.weight is None else norm.weight.detach())
    return scale.view(-1, *[1] * (weight.ndim - 1))


def wanda_scores(model: nn.Module, layers: Iterable[str] | str, x: Any, *, batch_size: int = 64) -> dict[str, Tensor]:
    """`|w_kj| ||x_j||` with the norm of the weight's input over samples and positions (Sun et al. 2024, eq. 1).

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : dense layers or two-dimensional convolutions.
    x : what the model takes, B rows.
    batch_size : rows in one pass.

    Returns
    -------
    Layer -> scores in the weight's shape; the authors compare them along rows (scope "row").

    Raises
    ------
    ValueError
        Other layers, bad data.
    """
    names = check_layers(model, layers)
    refuse_training(model)
    squares: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def add(value: Tensor) -> None:
            new = _squares(find_module(model, name), name, value.detach())
            squares[name] = squares[name] + new if name in squares else new

        return add

    weights = {name: _weight(model, name).abs() for name in names}
    with torch.no_grad(), edit(model, {name: watch(name) for name in names}, at="input"):
        for part in batches(x, batch_size):
            run_model(model, part)
    return {name: weight * squares[name].sqrt() for name, weight in weights.items()}


def _squares(module: nn.Module, name: str, x: Tensor) -> Tensor:
    """Squared norm of each weight's input, broadcastable to the weight."""
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
        out = module._conv_forward(x[:, : module.in_channels], module.weight, None).shape
        shape = (1, x.shape[1], *module.kernel_size)
        ones = torch.ones(out[0], 1, *out[2:], dtype=x.dtype, device=x.device)
        sums = torch.nn.grad.conv2d_weight(x**2, shape, ones, module.stride, module.padding, module.dilation)
        per_group = sums.view(module.groups, x.shape[1] // module.groups, *module.kernel_size)
        return per_group.repeat_interleave(module.out_channels // module.groups, 0)
    if isinstance(module, nn.Linear) or hasattr(module, "nf"):
        sums = (x**2).flatten(0, -2).sum(0)
        return sums[:, None] if hasattr(module, "nf") else sums  # GPT-2's weights are (in, out)
    raise ValueError(f"layers has {name!r}, a {type(module).__name__}; expected dense layers or Conv2d")


def _weight(model: nn.Module, name: str) -> Tensor:
    if is_head_layer(model, name):
        raise ValueError(f"layers has the heads of {name!r}, which have no weight of their own")
    return find_module(model, name).weight.detach()


def unit_sums(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scores of units from those of their weights: sums over each row (filter).

    Parameters
    ----------
    scores : layer -> scores in the weight's shape, outputs first.

    Returns
    -------
    Layer -> `(units,)`.
    """
    for name, score in scores.items():
        check_finite(f"scores[{name!r}]", score)
    return {name: score.flatten(1).sum(1) if score.ndim > 1 else score for name, score in scores.items()}
