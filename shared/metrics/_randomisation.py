"""Sanity checks: an explanation must change when the network's parameters, or the class it explains, do.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps" (arXiv 1810.03292); Sixt, Granz and Landgraf 2020, "When
Explanations Lie" (arXiv 1912.09818). Maps are (B, ...), one per row; scores are float64, (B,).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range, check_shape

LAYER_ORDERS = ("top_down", "bottom_up", "independent")


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of the maps, row by row (B,); ties share their mean rank, a constant map gives 0."""
    check_shape("second", second, tuple(first.shape))
    if first.ndim < 2:
        raise ValueError(f"first has shape {tuple(first.shape)}; expected (B, ...), one map per row")
    check_finite("first", first)
    check_finite("second", second)
    a, b = (_mean_ranks(maps.detach().flatten(1).double()) for maps in (first, second))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    size = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(size > 0, (a * b).sum(1) / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)


def randomised_models(
    model: nn.Module, order: str = "top_down", generator: torch.Generator | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Name of the layer drawn anew, and a copy of the model with its parameters from its own initialisation.

    order : "top_down" goes from the output to the input and "bottom_up" the other way, each keeping what it has
        randomised; "independent" randomises one layer at a time. Layers are the modules with `reset_parameters`, in the
        order of their registration. The model itself and torch's global generator stay as they are; each copy that is
        yielded is changed by the next step.
    """
    check_choice("order", order, LAYER_ORDERS)
    changed = copy.deepcopy(model)
    layers = [(name, module) for name, module in changed.named_modules() if hasattr(module, "reset_parameters")]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer with reset_parameters, so none can be randomised")
    seeds = torch.randint(2**62, (len(layers),), generator=generator).tolist()
    for (name, layer), seed in zip(layers[::-1] if order == "top_down" else layers, seeds):
        if order == "independent":
            changed.load_state_dict(model.state_dict())
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            layer.reset_parameters()
        yield name, changed


def parameter_randomisation(
    explain: Callable[[nn.Module], Tensor],
    model: nn.Module,
    *,
    order: str = "top_down",
    generator: torch.Generator | None = None,
    absolute: bool = True,
    similarity: Callable[[Tensor, Tensor], Tensor] = rank_correlation,
) -> dict[str, Tensor]:
    """Similarity (B,) of the maps to those of the model with randomised layers, by layer; lower is better (MPRT).

    explain : model -> maps (B, ...); called once for the model and once per layer.
    absolute : compare magnitudes, as in the paper's default.
    """

    def maps_of(net: nn.Module) -> Tensor:
        maps = explain(net).detach()
        return maps.abs() if absolute else maps

    original = maps_of(model)
    return {name: similarity(original, maps_of(net)) for name, net in randomised_models(model, order, generator)}


def random_logit(
    explain: Callable[[Tensor], Tensor],
    target: Tensor,
    n_classes: int,
    *,
    generator: torch.Generator | None = None,
    similarity: Callable[[Tensor, Tensor], Tensor] = rank_correlation,
) -> Tensor:
    """Similarity (B,) of the target's maps to those of another class, drawn at random per row; lower is better.

    explain : classes (B,) -> maps (B, ...); called twice.
    """
    check_shape("target", target, ("B",))
    check_range("n_classes", n_classes, 2)
    if target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= n_classes:
        raise ValueError(
            f"target must hold integers from 0 to {n_classes - 1}; got {target.dtype} {target.tolist()[:8]}"
        )
    shift = torch.randint(1, n_classes, target.shape, generator=generator).to(target.device)
    return similarity(explain(target), explain((target + shift) % n_classes))


def _mean_ranks(values: Tensor) -> Tensor:
    """Ranks from 0 of each row's values (B, F), tied ones at their mean: half of (# below + # not above - 1)."""
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto - 1).double() / 2
