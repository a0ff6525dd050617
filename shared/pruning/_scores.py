"""What units are worth: by relevance, and by gradients and activations that stand beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range
from shared.hooks import (
    attention_modules,
    batches,
    count_rows,
    edit,
    edit_heads,
    find_module,
    graph_mode,
    refuse_training,
    run_model,
)
from shared.lrp import Composite, attribute, head_relevance
from shared.pruning._units import channel_axis, check_layers, is_head_layer, norms_after, unit_count

ABSOLUTES = ("sample", "position", "none")


def relevance_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Any = None,
    *,
    composite: Composite | None = None,
    absolute: str = "sample",
    init: str = "one",
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Relevance of units, `sum_i |sum_positions R(x_i)|` over the samples i (Yeom et al. 2021; Hatefi et al. 2024).

    The relevance is that of a layer's output, after its batch norm where it feeds one; a head's is that of what it
    gives at each query, which is the relevance of its row of the attention matrix up to a factor of all heads.

    Parameters
    ----------
    model : as for `lrp.attribute`.
    layers : convolutions, dense layers or, not mixed with these, attention modules; as `find_units` names them.
    x : as for `lrp.attribute`, B rows.
    target : as for `lrp.attribute`, one and not a list.
    composite : the rules.
    absolute : where the absolute value is taken: "sample", after the sum over positions (the authors' for filters);
        "position", at each pixel or token (the authors' for heads and neurons of tokens); "none", signed.
    init : relevance at the output, as for `lrp.attribute`; the authors' is 1.
    batch_size : rows in one pass.

    Returns
    -------
    Layer -> `(units,)`, float32 or wider.

    Raises
    ------
    ValueError
        Layers without units, heads beside other units, an unknown `absolute`, bad data.
    """
    check_choice("absolute", absolute, ABSOLUTES)
    names = check_layers(model, layers)
    count_rows(x)
    options = {"composite": composite, "init": init, "batch_size": batch_size}
    if _all_heads(model, names):
        heads = head_relevance(model, x, target, per_position=True, **options)  # (B, L, H, S)
        places = list(attention_modules(model))
        return {name: _total(heads[:, places.index(name)], 1, absolute) for name in names}
    sites = _sites(model, names)
    latent = attribute(model, x, target, record=list(sites.values()), **options).latent
    return {name: _total(latent[site], _axis(model, name), absolute) for name, site in sites.items()}


@graph_mode()
def gradient_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Tensor | int | None = None,
    *,
    times_activation: bool = True,
    steps: int = 1,
    absolute: str = "sample",
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Gradient × activation of units, or with `steps` integrated gradients at hidden layers.

    Parameters
    ----------
    model : any torch module in eval mode that gives logits.
    layers : as for `relevance_scores`.
    x : what the model takes, B rows; floating for `steps` > 1.
    target : class or classes `(B,)`; each row's largest logit without.
    times_activation : multiply the gradient with the activation at x. The authors' integrated gradients don't.
    steps : gradients are averaged over this many inputs on the line from 0 (left out) to x; 1 is the gradient at x.
    absolute : as for `relevance_scores`.
    batch_size : rows in one pass.

    Returns
    -------
    Layer -> `(units,)`.

    Raises
    ------
    ValueError
        As for `relevance_scores`; steps < 1; a target out of range.
    """
    check_choice("absolute", absolute, ABSOLUTES)
    check_range("steps", steps, 1)
    names = check_layers(model, layers)
    refuse_training(model)
    classes = _classes(target, count_rows(x))
    totals: dict[str, Tensor] = {}
    start = 0
    for part in batches(x, batch_size):
        rows = slice(start, start := start + count_rows(part))
        goal = None if classes is None else classes[rows]
        for name, values in _integrated(model, names, part, goal, steps, times_activation).items():
            total = _total(values, _axis(model, name), absolute)
            totals[name] = totals[name] + total if name in totals else total
    return totals


def _integrated(
    model: nn.Module, names: list[str], x: Any, target: Tensor | None, steps: int, times_activation: bool
) -> dict[str, Tensor]:
    if steps > 1 and not (isinstance(x, Tensor) and x.is_floating_point()):
        raise ValueError("steps > 1 needs x as a floating tensor")
    means: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for step in range(1, steps + 1):
        values, gradients = _gradients(model, names, x if steps == 1 else x * (step / steps), target)
        means = {name: g / steps + means.get(name, 0) for name, g in gradients.items()}
    return {name: mean * values[name] if times_activation else mean for name, mean in means.items()}


def _gradients(
    model: nn.Module, names: list[str], x: Any, target: Tensor | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What units give, and the gradients of the target logits at it."""
    with torch.enable_grad(), _watched(model, names) as seen:
        out = run_model(model, x)
        logits = out if isinstance(out, Tensor) else out.logits
        goal = logits.argmax(-1) if target is None else target.to(logits.device)
        if int(goal.max()) >= logits.shape[-1] or int(goal.min()) < 0:
            raise ValueError(f"target must be from 0 to {logits.shape[-1] - 1}; got {sorted(set(goal.tolist()))}")
        gradients = torch.autograd.grad(logits.gather(1, goal[:, None]).sum(), [seen[name] for name in names])
    return {name: seen[name].detach() for name in names}, dict(zip(names, gradients))


def activation_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    *,
    absolute: str = "position",
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Summed activation of units, before the nonlinearity and after a batch norm: where relevance is read too.

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : as for `relevance_scores`.
    x : what the model takes, B rows.
    absolute : as for `relevance_scores`.
    batch_size : rows in one pass.

    Returns
    -------
    Layer -> `(units,)`.

    Raises
    ------
    ValueError
        As for `relevance_scores`.
    """
    check_choice("absolute", absolute, ABSOLUTES)
    names = check_layers(model, layers)
    refuse_training(model)
    totals: dict[str, Tensor] = {}
    for part in batches(x, batch_size):
        with torch.no_grad(), _watched(model, names) as seen:
            run_model(model, part)
        for name in names:
            total = _total(seen[name], _axis(model, name), absolute)
            totals[name] = totals[name] + total if name in totals else total
    return totals


def random_scores(model: nn.Module, layers: Iterable[str] | str, *, generator: torch.Generator) -> dict[str, Tensor]:
    """Uniform scores of units.

    Parameters
    ----------
    model : any torch module.
    layers : as for `relevance_scores`.
    generator : draws them.

    Returns
    -------
    Layer -> `(units,)` in [0, 1).
    """
    names = check_layers(model, layers)
    return {name: torch.rand(unit_count(model, name), generator=generator, device=generator.device) for name in names}


def layer_shares(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scores divided by their layer's sum of absolute values, so that wide and narrow layers compete alike.

    Parameters
    ----------
    scores : layer -> scores.

    Returns
    -------
    Layer -> shares; a layer of zeros stays zero.
    """
    for name, score in scores.items():
        check_finite(f"scores[{name!r}]", score)
    return {name: score / score.abs().sum().clamp_min(torch.finfo(score.dtype).tiny) for name, score in scores.items()}


def _all_heads(model: nn.Module, names: list[str]) -> bool:
    heads = [is_head_layer(model, name) for name in names]
    if any(heads) and not all(heads):
        raise ValueError("layers mixes attention modules (heads) with others; score them one after the other")
    return all(heads)


def _sites(model: nn.Module, names: list[str]) -> dict[str, str]:
    """Where each layer's units are read: its batch norm's output if it has one, else its own."""
    norms = norms_after(model)
    return {name: norms.get(name, name) for name in names}


def _axis(model: nn.Module, name: str) -> int:
    """Axis of the units in what is read: heads are (B, S, H, d)."""
    return -2 if is_head_layer(model, name) else channel_axis(find_module(model, name))


def _total(values: Tensor, axis: int, absolute: str) -> Tensor:
    """`(units,)` from `(B, …, units, …)`. A head's channels are summed before any absolute value."""
    if axis == -2:
        values, axis = values.sum(-1), -1
    by_unit = values.movedim(axis, 1).flatten(2) if values.ndim > 2 else values[..., None]  # (B, units, positions)
    by_unit = by_unit.float() if by_unit.dtype in (torch.float16, torch.bfloat16) else by_unit
    if absolute == "position":
        return by_unit.abs().sum((0, 2))
    per_sample = by_unit.sum(2)
    return per_sample.abs().sum(0) if absolute == "sample" else per_sample.sum(0)


@contextmanager
def _watched(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """What units give, with its graph if there is one; a copy is handed on."""
    seen: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[Tensor], Tensor]:
        def keep(value: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not value.requires_grad:
                value = value.detach().requires_grad_()
            seen[name] = value
            return value.clone()

        return keep

    heads = {name: keeper(name) for name in names if is_head_layer(model, name)}
    with ExitStack() as stack:
        sites = _sites(model, [name for name in names if name not in heads])
        stack.enter_context(edit(model, {site: keeper(name) for name, site in sites.items()}))
        if heads:
            stack.enter_context(edit_heads(model, heads))
        yield seen


def _classes(target: Tensor | int | None, rows: int) -> Tensor | None:
    if target is None:
        return None
    classes = torch.full((rows,), target) if isinstance(target, int) else target
    if classes.shape != (rows,) or classes.is_floating_point():
        raise ValueError(f"target must be a class or int64 ({rows},); got {classes.dtype} {tuple(classes.shape)}")
    return classes
