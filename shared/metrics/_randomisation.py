"""Sanity checks: an explanation must change when the network's parameters, or the class it explains, do.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps" (arXiv 1810.03292); Sixt, Granz and Landgraf 2020, "When
Explanations Lie" (arXiv 1912.09818).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range, check_shape, copied
from shared.metrics._batches import at_once
from shared.stats import rank_correlation

LAYER_ORDERS = ("top_down", "bottom_up", "independent")
Similarity = Callable[[Tensor, Tensor], Tensor]
_SMALL = 0.02  # deviation of what was all zero: the usual one of class tokens and position embeddings


def _map_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation (B,) over all entries of each map (B, ...); NaN where one is constant."""
    return rank_correlation(first.flatten(1), second.flatten(1))


def randomised_models(
    model: nn.Module, *, order: str = "top_down", generator: torch.Generator | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Draw the network anew, layer by layer: the name of the layer, and a copy of the model with it at random.

    A layer is any module with parameters of its own, in the order of registration. It is drawn by its own
    `reset_parameters` or `_reset_parameters` (attention's packed projection), else by the model's `_init_weights`
    (transformers, timm). What these leave, such as class tokens, is normal with the mean square it had.

    Parameters
    ----------
    model : nn.Module
        Stays as it is, like torch's global generators.
    order : "top_down", "bottom_up" or "independent"
        From the output to the input or the other way, keeping what is random already; or one layer at a time.
    generator : torch.Generator, optional
        torch's own by default.

    Yields
    ------
    (str, nn.Module)
        "(model)" names what the model itself owns. The copy is changed by the next step.

    Raises
    ------
    ValueError
        For a model without parameters, or with some that are not floating-point.
    """
    check_choice("order", order, LAYER_ORDERS)
    changed = copied("model", model)
    layers = [(name, module) for name, module in changed.named_modules() if list(module.parameters(recurse=False))]
    if not layers:
        raise ValueError(f"model: {type(model).__name__} has no parameters, so none can be randomised")
    for name, parameter in changed.named_parameters():
        if not parameter.is_floating_point():
            raise ValueError(f"model's {name} is {parameter.dtype}; only floating-point parameters can be randomised")
    seeds = torch.randint(2**62, (len(layers),), generator=generator).tolist()
    for (name, layer), seed in zip(layers[::-1] if order == "top_down" else layers, seeds):
        if order == "independent":
            changed.load_state_dict(model.state_dict())
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            _draw(layer, changed)
        yield name or "(model)", changed


def parameter_randomisation(
    explain: Callable[[nn.Module, Tensor, Tensor], Tensor],
    model: nn.Module,
    inputs: Tensor,
    target: Tensor,
    *,
    order: str = "top_down",
    generator: torch.Generator | None = None,
    absolute: bool = True,
    similarity: Similarity = _map_correlation,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """Similarity of the maps to those of the model with random layers (MPRT); lower is better.

    Parameters
    ----------
    explain : (model, inputs, target) -> maps (b, ...)
        Called for the model and for each layer, once per batch.
    model : nn.Module
        Every parameter of it is drawn anew, see `randomised_models`.
    inputs : (B, ...)
        What is explained.
    target : (B,) int64
        Explained classes.
    order, generator
        As in `randomised_models`.
    absolute : bool
        Compare magnitudes, the paper's default.
    similarity : (maps, maps) -> (B,)
        Row by row; by default Spearman's correlation over a map's entries, which is NaN for a constant map.
    batch_size : int, optional
        Rows explained at once; all by default. The random networks don't depend on it.

    Returns
    -------
    dict of (B,) Tensors
        By layer, in the order of `randomised_models`.

    Raises
    ------
    ValueError
        As `randomised_models`, and for inputs and target that don't fit or aren't finite.
    """
    check_finite("inputs", inputs)
    check_shape("target", target, (len(inputs),))
    size = at_once(batch_size, len(inputs))

    def maps_of(net: nn.Module) -> Tensor:
        parts = [explain(net, x, t).detach() for x, t in zip(inputs.split(size), target.split(size))]
        maps = torch.cat(parts)
        return maps.abs() if absolute else maps

    original = maps_of(model)
    networks = randomised_models(model, order=order, generator=generator)
    return {name: similarity(original, maps_of(net)) for name, net in networks}


def random_logit(
    explain: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    target: Tensor,
    n_classes: int,
    *,
    generator: torch.Generator | None = None,
    similarity: Similarity = _map_correlation,
    batch_size: int | None = None,
) -> Tensor:
    """Similarity of the target's maps to those of another class, drawn at random per row; lower is better.

    Parameters
    ----------
    explain : (inputs, target) -> maps (b, ...)
        Called twice per batch.
    inputs : (B, ...)
        What is explained.
    target : (B,) int64
        Explained classes, from 0 to n_classes − 1.
    n_classes : int
        At least 2.
    generator : torch.Generator, optional
        Of the other classes; torch's own by default.
    similarity : (maps, maps) -> (B,)
        Row by row; by default Spearman's correlation over a map's entries, which is NaN for a constant map.
    batch_size : int, optional
        Rows explained at once; all by default. The classes drawn don't depend on it.

    Returns
    -------
    (B,) Tensor
        What `similarity` gives.

    Raises
    ------
    ValueError
        For inputs and target that don't fit, and classes out of range.
    """
    check_finite("inputs", inputs)
    check_shape("target", target, (len(inputs),))
    check_range("n_classes", n_classes, 2)
    if target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= n_classes:
        raise ValueError(
            f"target must hold integers from 0 to {n_classes - 1}; got {target.dtype} {target.tolist()[:8]}"
        )
    size = at_once(batch_size, len(inputs))
    shift = torch.randint(1, n_classes, target.shape, generator=generator).to(target.device)
    other = (target + shift) % n_classes
    maps = [torch.cat([explain(x, t) for x, t in zip(inputs.split(size), to.split(size))]) for to in (target, other)]
    return similarity(*maps)


def _draw(layer: nn.Module, model: nn.Module) -> None:
    """Every parameter that the layer owns, at random; NaN marks those not drawn yet."""
    own = list(layer.parameters(recurse=False))
    mine = {id(parameter) for parameter in own}
    others = [(p, p.clone()) for p in layer.parameters() if id(p) not in mine]  # some resets reach further
    sizes = [parameter.square().mean().sqrt().item() or _SMALL for parameter in own]
    for parameter in own:
        parameter.fill_(torch.nan)
    for reset in ("reset_parameters", "_reset_parameters"):
        if callable(getattr(layer, reset, None)):
            getattr(layer, reset)()
            break
    else:
        if callable(getattr(model, "_init_weights", None)):
            model._init_weights(layer)
    for parameter, size in zip(own, sizes):
        if parameter.isnan().any():
            parameter.normal_(0, size)
    for parameter, value in others:
        parameter.copy_(value)
