"""Which units or weights stay at a pruning rate, and the model without the others: nothing is copied or reloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range, wide
from shared.hooks import attention_modules, edit_heads, refuse_compiled
from shared.pruning._units import channel_axis, norms_after, parameter_of, unit_count

SCOPES = ("global", "layer", "row")


def prune_ranks(scores: Mapping[str, Tensor], *, scope: str = "global", most: bool = False) -> dict[str, Tensor]:
    """The order in which entries go, as a share of those they compete with.

    Parameters
    ----------
    scores : layer -> scores, one per unit `(n,)` or per weight (the weight's shape).
    scope : where scores compete: "global", over all layers; "layer"; or "row", along the last axis (as Wanda does).
    most : the highest scores go first instead of the lowest.

    Returns
    -------
    Layer -> `(rank + 1) / n`, float64 in the scores' shapes: an entry is pruned at every rate that reaches this. Of
    equal scores the earlier entry goes first.

    Raises
    ------
    ValueError
        No scores, an empty or non-finite one, an unknown scope.
    """
    check_choice("scope", scope, SCOPES)
    if not scores:
        raise ValueError("scores is empty; at least one layer is needed")
    for name, score in scores.items():
        check_finite(f"scores[{name!r}]", score)
    signed = {name: (-score if most else score).detach() for name, score in scores.items()}
    if scope == "row":
        return {name: _ranks(score) for name, score in signed.items()}
    if scope == "layer":
        return {name: _ranks(score.flatten()).view(score.shape) for name, score in signed.items()}
    device = next(iter(signed.values())).device
    together = _ranks(torch.cat([score.flatten().to(device) for score in signed.values()]))
    parts = together.split([score.numel() for score in signed.values()])
    return {name: part.view(score.shape).to(score.device) for (name, score), part in zip(signed.items(), parts)}


def _ranks(scores: Tensor) -> Tensor:
    """`(rank + 1) / n` along the last axis."""
    order = scores.argsort(dim=-1, stable=True)
    places = wide(torch.arange(1, scores.shape[-1] + 1, device=scores.device)) / scores.shape[-1]
    return torch.empty_like(scores, dtype=places.dtype).scatter_(-1, order, places.expand_as(order).contiguous())


def keep_masks(
    scores: Mapping[str, Tensor], rate: float, *, scope: str = "global", most: bool = False
) -> dict[str, Tensor]:
    """What stays when the `floor(rate n)` lowest of n competing scores go; nested over rates.

    Parameters
    ----------
    scores : as for `prune_ranks`.
    rate : share to prune, in [0, 1]; 1 prunes everything.
    scope : as for `prune_ranks`.
    most : as for `prune_ranks`.

    Returns
    -------
    Layer -> True where kept, in the scores' shapes.

    Raises
    ------
    ValueError
        As for `prune_ranks`; a rate outside [0, 1].
    """
    check_range("rate", rate, 0.0, 1.0)
    if check_choice("scope", scope, SCOPES) == "global" or not scores:
        return kept_at(prune_ranks(scores, scope=scope, most=most), rate)
    parts = ({name: score} for name, score in scores.items())  # ranks of one layer at a time: they are wide
    return {name: m for part in parts for name, m in kept_at(prune_ranks(part, scope=scope, most=most), rate).items()}


def kept_at(ranks: Mapping[str, Tensor], rate: float) -> dict[str, Tensor]:
    """The masks at one rate, of ranks made once."""
    return {name: rank > rate + 1e-9 for name, rank in ranks.items()}


def shuffled_within(scores: Mapping[str, Tensor], *, generator: torch.Generator) -> dict[str, Tensor]:
    """The layer-matched random null: each layer's scores on other units of that layer.

    At any rate and scope "global" or "layer" each layer loses as many entries as under the scores themselves.

    Parameters
    ----------
    scores : as for `prune_ranks`.
    generator : draws the permutations.

    Returns
    -------
    Layer -> the same scores in another order.
    """
    found = {}
    for name, score in scores.items():
        check_finite(f"scores[{name!r}]", score)
        order = torch.randperm(score.numel(), generator=generator, device=generator.device).to(score.device)
        found[name] = score.flatten()[order].view(score.shape)
    return found


@contextmanager
def masked(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The model without some of its units and weights; exactly itself again on exit, also after an exception.

    A pruned filter's or neuron's output is zero, and that of the batch norm it feeds; a pruned head gives zero to the
    output projection, as if its attention matrix were zero. These are factors on activations: no parameter changes,
    and gradients and relevance flow as through the smaller network. A pruned weight is zero in place of its value.

    Parameters
    ----------
    model : any torch module that isn't compiled.
    masks : layer -> True (or 1) where kept: `(units,)` for filters, neurons and heads, or the shape of the layer's
        weight ("layer.bias" for its bias). All True is the identity; all False leaves biases of later layers only.

    Yields
    ------
    The model. Weights must not be trained inside with weight masks: their values come back on exit.

    Raises
    ------
    ValueError
        An unknown layer, a mask of another shape, one that isn't of zeros and ones; weights that another layer shares,
        or that are computed in each pass; a compiled model.
    """
    modules, heads = dict(model.named_modules()), attention_modules(model)
    counts = {name: unit_count(model, _owner(modules, name)) for name in masks}
    units = [name for name, mask in masks.items() if _is_unit_mask(modules, name, mask, counts[name])]
    refuse_compiled(model)
    norms = norms_after(model) if len(heads) < len(units) else {}
    with ExitStack() as stack:
        edits = {name: _multiplier(masks[name], -2) for name in units if name in heads}
        stack.enter_context(edit_heads(model, edits) if edits else nullcontext())
        for name, mask in masks.items():
            if name not in units:
                _zero_weights(stack, model, getattr(*parameter_of(model, name)), name, mask)
            elif name not in heads:
                _gate_layer(stack, modules[name], modules.get(norms.get(name)), mask)
        yield model


def _owner(modules: Mapping[str, nn.Module], name: str) -> str:
    """The module a mask is for: `name` is its, or that of its weight or bias."""
    return name if name in modules else name.removesuffix(".weight").removesuffix(".bias")


def _is_unit_mask(modules: Mapping[str, nn.Module], name: str, mask: Tensor, count: int) -> bool:
    label = f"masks[{name!r}]"
    check_finite(label, mask)
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{label} must hold True and False, or 0 and 1")
    leaf = "weight" if name in modules else name.rpartition(".")[2]
    weight = getattr(modules[_owner(modules, name)], leaf, None)
    if weight is not None and mask.shape == weight.shape:
        return False
    if tuple(mask.shape) != (count,) or name not in modules:
        shape = "" if weight is None else f" for weights {tuple(weight.shape)}"
        raise ValueError(f"{label} has shape {tuple(mask.shape)}; expected ({count},) for units,{shape}")
    return True


def _zero_weights(stack: ExitStack, model: nn.Module, weight: Tensor, name: str, mask: Tensor) -> None:
    """Put a masked copy of one weight in its place until the stack closes."""
    users = [key for key, p in model.named_parameters(remove_duplicate=False) if p is weight]
    if not users:
        raise ValueError(
            f"masks[{name!r}]: this weight is computed anew in each pass (weight norm, another parametrisation), so a "
            "mask on it is lost; make it a parameter (torch.nn.utils.remove_weight_norm, "
            "parametrize.remove_parametrizations), or prune units"
        )
    if len(users) > 1:
        raise ValueError(f"masks[{name!r}]: this weight is shared by {', '.join(users)}; prune units instead")
    before = weight.data
    weight.data = before * mask.to(before)
    stack.callback(setattr, weight, "data", before)


def _gate_layer(stack: ExitStack, layer: nn.Module, follower: nn.Module | None, gate: Tensor) -> None:
    """Zero a layer's units, and those of the batch norm registered after it if that takes what the layer gave."""
    multiply = _multiplier(gate, channel_axis(layer))
    given: list[Tensor] = []  # what the layer handed on: its batch norm is gated if it takes just that

    def after_layer(_module: nn.Module, _args: Any, out: Tensor) -> Tensor:
        merged = follower is not None and "forward" in follower.__dict__  # by LRP, which checks that it follows
        given[:] = [out if merged else multiply(out)]
        return given[0]

    def after_norm(_module: nn.Module, args: Any, out: Tensor) -> Tensor | None:
        follows = bool(given) and args[0] is given[0]
        given.clear()
        return multiply(out) if follows else None

    stack.callback(layer.register_forward_hook(after_layer).remove)
    stack.callback(given.clear)
    if follower is not None:
        stack.callback(follower.register_forward_hook(after_norm).remove)


def _multiplier(gate: Tensor, axis: int) -> Callable[[Tensor], Tensor]:
    """Function that multiplies what a layer just made by the gates on `axis`, counted from the end."""

    def multiply(x: Tensor) -> Tensor:
        factor = gate.to(dtype=x.dtype, device=x.device).view(-1, *[1] * (-1 - axis))
        return x * factor if torch.is_grad_enabled() else x.mul_(factor)

    return multiply
