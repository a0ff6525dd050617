"""What single weights are worth to pruners at initialisation: chance, size, SNIP, GraSP, SynFlow, by one interface.

Scores are keyed by the layer's name and have its weight's shape; those of a bias, where asked for, by "layer.bias".
All take a `nets.StackedNet` too: its networks are scored each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrize

from shared._checks import check_choice, check_finite, check_range, check_shape
from shared.hooks import (
    count_rows,
    find_module,
    graph_mode,
    refuse_compiled,
    refuse_training,
    run_model,
    take_rows,
)
from shared.lrp import Convolution, Linear
from shared.nets import StackedNet
from shared.pruning._units import check_layers, parameter_of
from shared.pruning._weights import magnitude_scores

Loss = Callable[[Tensor, Tensor], Tensor]


def weight_layers(model: nn.Module) -> list[str]:
    """The layers with prunable weights: convolutions and dense layers.

    Parameters
    ----------
    model : any torch module.

    Returns
    -------
    Their names, in the order of registration.
    """
    return [name for name, module in model.named_modules() if isinstance(module, (*Convolution, *Linear))]


def _leaves(model: nn.Module, layers: Iterable[str] | str, biases: bool) -> dict[str, nn.Parameter]:
    """Key of scores -> the parameter itself; of a masked one (`train_masked`) that under the mask."""
    names = check_layers(model, layers)
    keys = [k for n in names for k in ([n, f"{n}.bias"] if biases and find_module(model, n).bias is not None else [n])]
    found = {}
    for key in keys:
        module, leaf = parameter_of(model, key)
        value = module._parameters.get(leaf)
        if parametrize.is_parametrized(module, leaf) and hasattr(module.parametrizations[leaf][0], "gone"):
            value = module.parametrizations[leaf].original
        if not isinstance(value, nn.Parameter):
            raise ValueError(f"layers has {key!r}, whose {leaf} is computed from others; no single weight to prune")
        found[key] = value
    return found


def random_weight_scores(
    model: nn.Module, layers: Iterable[str] | str, *, generator: torch.Generator, biases: bool = False
) -> dict[str, Tensor]:
    """Uniform scores: which weights stay is chance, across all layers.

    Parameters
    ----------
    model : any torch module.
    layers : convolutions or dense layers.
    generator : draws them.
    biases : score biases too.

    Returns
    -------
    Layer -> scores in [0, 1), in the weight's shape.
    """
    leaves = _leaves(model, layers, biases)
    return {key: torch.rand(p.shape, generator=generator, device=generator.device) for key, p in leaves.items()}


def _magnitude(model: nn.Module, layers: Any, biases: bool = False, **options: Any) -> dict[str, Tensor]:
    scores = magnitude_scores(model, layers, **options)
    leaves = _leaves(model, layers, biases) if biases else {}
    return {**scores, **{key: p.detach().abs() for key, p in leaves.items() if key not in scores}}


def snip_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Tensor,
    *,
    biases: bool = False,
    loss: Loss | None = None,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """SNIP: `|w ∂L/∂w|`, how much the loss changes by taking the weight away, to first order (Lee et al. 2019, eq. 6).

    Parameters
    ----------
    model : any torch module in eval mode.
    layers : convolutions or dense layers.
    x : what the model takes, B rows; for a `StackedNet` `(networks, B, …)`.
    target : classes `(B,)`, or what the model should give, `(B, …)`; for a `StackedNet` with the networks first.
    biases : score biases too.
    loss : outputs, target -> a number, the rows' mean; default cross-entropy for classes, else the squared error.
    batch_size : rows in one pass, all by default.

    Returns
    -------
    Layer -> scores in the weight's shape (not divided by their sum, which ranks alike).

    Raises
    ------
    ValueError
        A layer without weights of its own, training mode, bad data.
    """
    leaves = _leaves(model, layers, biases)
    grads = _gradients(model, leaves, x, target, loss, batch_size)
    return {key: g.mul_(p.detach()).abs_() for (key, p), g in zip(leaves.items(), grads)}


def grasp_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Tensor,
    *,
    biases: bool = False,
    loss: Loss | None = None,
    temperature: float = 200.0,
) -> dict[str, Tensor]:
    """GraSP: `w ⊙ Hg`, how much the gradient's norm falls without the weight (Wang et al. 2020, eq. 8; sign turned).

    Parameters
    ----------
    model : as for `snip_scores`.
    layers : as for `snip_scores`.
    x : as for `snip_scores`, one batch: the gradient is of all rows.
    target : as for `snip_scores`.
    biases : score biases too.
    loss : as for `snip_scores`.
    temperature : outputs are divided by it when they are classes' logits, as the authors do; 1 leaves them.

    Returns
    -------
    Layer -> scores in the weight's shape, of either sign; the largest stay.

    Raises
    ------
    ValueError
        As for `snip_scores`; a temperature that isn't positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature!r} must be positive")
    leaves = _leaves(model, layers, biases)
    _check_run(model, x, target)
    with _awake(leaves) as needs:
        value = _loss(model, x, target, loss, temperature)
        grads = torch.autograd.grad(value, needs, create_graph=True, materialize_grads=True)
        norm = sum((g * g.detach()).sum() for g in grads)
        curved = torch.autograd.grad(norm, needs, materialize_grads=True, allow_unused=True)
    return {key: p.detach() * h for (key, p), h in zip(leaves.items(), curved)}


def synflow_scores(
    model: nn.Module, layers: Iterable[str] | str, x: Any, *, biases: bool = False, bias: str = "abs"
) -> dict[str, Tensor]:
    """SynFlow: `|w ∂R/∂w|` of the sum R of the outputs, all parameters made positive, for an input of ones.

    Tanaka et al. 2020, eq. 1 and algorithm 1. No data enter. With biases at zero every layer's scores have the same
    sum, that of R ("conservation").

    Parameters
    ----------
    model : as for `snip_scores`.
    layers : as for `snip_scores`.
    x : gives the input's shape only.
    biases : score biases too.
    bias : "abs", biases made positive as in the authors' code, or "zero", left out.

    Returns
    -------
    Layer -> scores in the weight's shape.

    Raises
    ------
    ValueError
        As for `snip_scores`; scores beyond the precision's range, as deep networks have.
    """
    check_choice("bias", bias, ("abs", "zero"))
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError("x must be a floating tensor; SynFlow's input is one row of ones of its shape")
    check_finite("x", x)
    leaves = _leaves(model, layers, biases)
    refuse_training(model)
    refuse_compiled(model)
    if isinstance(model, nn.DataParallel):
        raise ValueError("model is wrapped by DataParallel; give the plain module (model.module)")
    names = {id(p): name for name, p in model.named_parameters()}
    with graph_mode():
        named = [*model.named_parameters(), *model.named_buffers()]
        values = {name: t.detach().abs() for name, t in named if t.is_floating_point()}
        if bias == "zero":
            values = {k: torch.zeros_like(v) if "bias" in k.split(".") else v for k, v in values.items()}
        needs = [values[names[id(p)]].requires_grad_() for p in leaves.values()]
        out = functional_call(model, values, (torch.ones_like(x[:1, :1] if isinstance(model, StackedNet) else x[:1]),))
        flow = (out if isinstance(out, Tensor) else out.logits).sum()
        grads = torch.autograd.grad(flow, needs, materialize_grads=True, allow_unused=True)
    scores = {key: (w * g).detach() for (key, w), g in zip(zip(leaves, needs), grads)}
    for key, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise ValueError(f"model: SynFlow's product of all layers leaves {score.dtype} at {key!r}; use float64")
    return scores


def _check_run(model: nn.Module, x: Any, target: Tensor) -> None:
    refuse_training(model)
    refuse_compiled(model)
    if isinstance(x, Tensor):
        check_finite("x", x)
    check_finite("target", target)
    axes = 2 if isinstance(model, StackedNet) else 1
    rows = (model.size, x.shape[1]) if axes == 2 else (count_rows(x),)
    if tuple(target.shape[:axes]) != rows or (not target.is_floating_point() and target.ndim != axes):
        raise ValueError(f"target has shape {tuple(target.shape)}; expected {rows} classes, or values of these rows")


@contextmanager
def _awake(leaves: dict[str, nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Gradients reach the parameters inside, whatever the caller stands in, and frozen ones too."""
    frozen = [p for p in leaves.values() if not p.requires_grad]
    try:
        with graph_mode():
            yield [p.requires_grad_() for p in leaves.values()]
    finally:
        for p in frozen:
            p.requires_grad_(False)


def _loss(model: nn.Module, x: Any, target: Tensor, loss: Loss | None, temperature: float = 1.0) -> Tensor:
    """Of stacked networks the sum."""
    out = run_model(model, x)
    out = out if isinstance(out, Tensor) else out.logits
    target = target.to(out.device)
    if loss is not None:
        return loss(out, target)
    count = model.size if isinstance(model, StackedNet) else 1
    if target.is_floating_point():
        check_shape("target", target, out.shape)
        return F.mse_loss(out, target.to(out.dtype)) * count
    classes = out.shape[-1]
    if int(target.min()) < 0 or int(target.max()) >= classes:
        raise ValueError(f"target must be from 0 to {classes - 1}; got {sorted(set(target.flatten().tolist()))}")
    return F.cross_entropy(out.reshape(-1, classes) / temperature, target.flatten()) * count


def _gradients(
    model: nn.Module,
    leaves: dict[str, nn.Parameter],
    x: Any,
    target: Tensor,
    loss: Loss | None,
    batch_size: int | None,
) -> list[Tensor]:
    """Of the loss's mean over all rows, in passes of `batch_size`."""
    _check_run(model, x, target)
    rows = target.shape[1] if isinstance(model, StackedNet) else len(target)
    size = rows if batch_size is None else batch_size
    check_range("batch_size", size, 1)
    total: list[Tensor] = []
    with _awake(leaves) as needs:
        for start in range(0, rows, size):
            part, goal = _rows(model, x, target, slice(start, start + size))
            value = _loss(model, part, goal, loss) * (min(size, rows - start) / rows)
            grads = torch.autograd.grad(value, needs, materialize_grads=True, allow_unused=True)
            total = [a + b for a, b in zip(total, grads)] if total else list(grads)
    return total


def _rows(model: nn.Module, x: Any, target: Tensor, rows: slice) -> tuple[Any, Tensor]:
    if isinstance(model, StackedNet):
        return x[:, rows], target[:, rows]
    return take_rows(x, rows), target[rows]


def _random(model: nn.Module, layers: Any, x: Any, target: Any, **options: Any) -> dict[str, Tensor]:
    return random_weight_scores(model, layers, **options)


WEIGHT_METHODS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "random": _random,
    "magnitude": lambda model, layers, x, target, **options: _magnitude(model, layers, **options),
    "snip": snip_scores,
    "grasp": grasp_scores,
    "synflow": lambda model, layers, x, target, **options: synflow_scores(model, layers, x, **options),
}


def weight_scores(
    model: nn.Module,
    layers: Iterable[str] | str,
    x: Any,
    target: Any,
    *,
    method: str = "magnitude",
    biases: bool = False,
    **options: Any,
) -> dict[str, Tensor]:
    """Scores of weights by one of the room's pruners; the highest stay (`weight_masks`).

    Parameters
    ----------
    model : any torch module in eval mode, or a `nets.StackedNet`.
    layers : convolutions or dense layers (`weight_layers`).
    x : as for `snip_scores`; "random" and "magnitude" don't read it, "synflow" only its shape.
    target : as for `snip_scores`; only "snip" and "grasp" read it.
    method : "random", "magnitude", "snip", "grasp" or "synflow".
    biases : score biases too.
    options : the method's own (`generator`, `loss`, `batch_size`, `temperature`, `bias`, `merge_norm`).

    Returns
    -------
    Layer -> scores in the weight's shape, and "layer.bias" -> those of its bias.

    Raises
    ------
    ValueError
        An unknown method, and what the method refuses.
    """
    check_choice("method", method, WEIGHT_METHODS)
    return WEIGHT_METHODS[method](model, layers, x, target, biases=biases, **options)
