"""First-order explanations of an ensemble's members and of their variance, of which second-order ones are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range, check_shape
from shared.attribution._ensemble import Ensemble
from shared.lrp import Composite, Convolution, Epsilon, Gamma, Linear, attribute
from shared.lrp.engine import check_ready, frozen, linear_op, output_tensor

FIRST_ORDER = ("lrp", "gi", "ig")
Members = Ensemble | Sequence[nn.Module]
Rules = Composite | Callable[[nn.Module], Composite] | None


def predictive_variance(outputs: Tensor, *, ddof: int = 0) -> Tensor:
    """Variance over members, summed over outputs.

    Parameters
    ----------
    outputs : `(M, B, K)`, M >= 2.
    ddof : the variance divides by M - ddof.

    Returns
    -------
    `(B,)`.

    Raises
    ------
    ValueError
        Bad input, fewer than two members.
    """
    check_shape("outputs", outputs, ("M", "B", "K"))
    check_finite("outputs", outputs)
    return (outputs - outputs.mean(0)).square().sum((0, 2)) / divisor(len(outputs), ddof)


def explain_members(
    members: Members,
    x: Tensor,
    *,
    method: str = "lrp",
    composite: Rules = None,
    steps: int = 50,
    baseline: float | Tensor = 0.0,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """First-order explanations of every member's outputs.

    Parameters
    ----------
    members : an `Ensemble`, explained in one pass per output, or any modules with outputs `(B, K)`, one by one.
    x : float `(B, *S)`; `(B, D)` for an `Ensemble`.
    method : "lrp", "gi" (gradient x input) or "ig" (integrated gradients: midpoints of the line from `baseline`).
    composite : rules of LRP, or a function that gives those of a model; default `gamma_except_last`.
    steps : midpoints of "ig", >= 1.
    baseline : where the line of "ig" starts, a number or a tensor that broadcasts to x.
    batch_size : rows in one pass, all by default; the numbers are the same for any.

    Returns
    -------
    Explanations `(M, B, K, *S)` and outputs `(M, B, K)`.

    Raises
    ------
    ValueError, TypeError
        Bad input.
    ValueError
        A model in training mode with dropout or batch norm.
    """
    check_choice("method", method, FIRST_ORDER)
    _check_call(members, x, steps)
    start = _start(baseline if method == "ig" else 0.0, x)
    if batch_size is not None:
        again = partial(explain_members, members, method=method, composite=composite, steps=steps)
        found = [again(rows, baseline=origin) for rows, origin in _batches(x, start, batch_size)]
        return torch.cat([maps for maps, _ in found], 1), torch.cat([outputs for _, outputs in found], 1)
    parts = []
    for model, spread, n_members in _units(members):
        leaf = spread(x)
        outputs = _outputs(model, leaf, n_members)
        weights = _one_output_each(outputs, leaf)
        if method == "lrp":
            relevance = _relevance(model, leaf, list(weights), composite)
        else:
            with frozen(model):
                call = partial(_call, model)
                relevance = _path(call, leaf, spread(start), steps if method == "ig" else 1, method == "ig", weights)
        parts.append((_members_first(relevance, n_members), outputs))
    return torch.cat([relevance for relevance, _ in parts]), torch.cat([outputs for _, outputs in parts])


def explain_variance(
    members: Members,
    x: Tensor,
    *,
    method: str = "lrp",
    ddof: int = 0,
    composite: Rules = None,
    steps: int = 50,
    baseline: float | Tensor = 0.0,
    batch_size: int | None = None,
) -> Tensor:
    """First-order explanation of the predictive variance itself: what the second-order one is held against.

    Parameters
    ----------
    members : as for `explain_members`.
    x : as for `explain_members`.
    method : "lrp" starts each member's backward pass with the relevance `(f_m - mean)^2 / M`; "gi" and "ig" take the
        variance's gradient; "sensitivity" is its square.
    ddof : the variance divides by M - ddof.
    composite : as for `explain_members`.
    steps : as for `explain_members`.
    baseline : as for `explain_members`.
    batch_size : as for `explain_members`.

    Returns
    -------
    `(B, *S)`.

    Raises
    ------
    ValueError, TypeError
        Bad input.
    ValueError
        A model in training mode with dropout or batch norm.
    """
    check_choice("method", method, (*FIRST_ORDER, "sensitivity"))
    _check_call(members, x, steps)
    start = _start(baseline if method == "ig" else 0.0, x)
    if batch_size is not None:
        again = partial(explain_variance, members, method=method, ddof=ddof, composite=composite, steps=steps)
        return torch.cat([again(rows, baseline=origin) for rows, origin in _batches(x, start, batch_size)])
    units = _units(members)
    if method == "lrp":
        outputs = torch.cat([_outputs(model, spread(x), n) for model, spread, n in units])
        relevance = (outputs - outputs.mean(0)).square() / divisor(len(outputs), ddof)
        weights = torch.where(outputs == 0, 0.0, relevance / outputs).transpose(0, 1)  # coefficients: R = output * c
        shares, first = torch.zeros_like(x), 0
        for model, spread, n in units:
            (found,) = _relevance(model, spread(x), [weights[:, first : first + n].flatten(1)], composite)
            shares = shares + (found.sum(1) if isinstance(model, Ensemble) else found)
            first += n
        return shares

    def variance(z: Tensor) -> Tensor:
        outputs = [_call(model, z).unflatten(1, (n, -1)).transpose(0, 1) for model, _, n in units]
        return predictive_variance(torch.cat(outputs), ddof=ddof)

    if method == "sensitivity":
        return _gradient(variance, x).square()
    return _path(variance, x, start, steps, method == "ig")


def gamma_except_last(model: nn.Module, *, gamma: float = 0.2) -> Composite:
    """The paper's rules: Gamma in dense layers, twice that in convolutions, LRP-0 (stabilised) in the last layer.

    Parameters
    ----------
    model : any torch module with a linear layer.
    gamma : of the dense layers, >= 0.

    Returns
    -------
    The composite.

    Raises
    ------
    ValueError
        There is no linear layer.
    """
    names = [name for name, module in model.named_modules() if linear_op(module) is not None]
    if not names:
        raise ValueError(f"{type(model).__name__} has no linear layer to give a rule to")
    rules = [(Convolution, Gamma(2 * gamma)), (Linear, Gamma(gamma))]
    return Composite(rules, name_map=[(names[-1:], Epsilon())])


def divisor(n: int, ddof: int) -> int:
    """What a variance over n members divides by."""
    if n < 2:
        raise ValueError(f"{n} member; a variance over members needs at least 2")
    check_range("ddof", ddof, 0, n - 1)
    return n - ddof


def _check_call(members: Any, x: Tensor, steps: int) -> None:
    models = [members] if isinstance(members, Ensemble) else list(members)
    if isinstance(members, nn.Module) and not isinstance(members, Ensemble):
        raise TypeError(f"members must be an Ensemble or a sequence of modules; got one {type(members).__name__}")
    divisor(members.n_members if isinstance(members, Ensemble) else len(models), 0)
    for model in models:
        check_ready(model)
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}; accepted: floating point")
    check_finite("x", x)
    if isinstance(members, Ensemble):
        check_shape("x", x, ("B", members.n_inputs))
    check_range("steps", steps, 1)


def _units(members: Any) -> list[tuple[nn.Module, Callable[[Tensor], Tensor], int]]:
    """Models to run, what turns x into their input, and how many members each holds."""
    if isinstance(members, Ensemble):
        n = members.n_members
        return [(members, lambda z: z[:, None].expand(-1, n, -1), n)]
    return [(model, lambda z: z, 1) for model in members]


def _flat(out: Any) -> Tensor:
    """Outputs `(B, M K)`, members first."""
    out = output_tensor(out, None)
    return out.flatten(1) if out.ndim > 1 else out[:, None]


def _call(model: nn.Module, x: Tensor) -> Tensor:
    return _flat(model(x))


def _outputs(model: nn.Module, x: Tensor, n_members: int) -> Tensor:
    """Outputs `(M, B, K)` without a graph."""
    with torch.no_grad():
        return _call(model, x).unflatten(1, (n_members, -1)).transpose(0, 1)


def _one_output_each(outputs: Tensor, leaf: Tensor) -> Tensor:
    """Weights `(K, B, M K)` that pick output k of every member at once; members don't meet, so none is mixed."""
    n_members, batch, n = outputs.shape
    eye = torch.eye(n, dtype=leaf.dtype, device=leaf.device)
    return eye.repeat(1, n_members)[:, None].expand(-1, batch, -1)


def _relevance(model: nn.Module, leaf: Tensor, targets: list[Tensor], composite: Any) -> Tensor:
    rules = composite if isinstance(composite, Composite) else (composite or gamma_except_last)(model)
    return attribute(model, leaf, targets, composite=rules, output=_flat).relevance


def _start(baseline: float | Tensor, x: Tensor) -> Tensor:
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
    try:
        return start.expand(x.shape)
    except RuntimeError:
        raise ValueError(f"baseline of shape {tuple(start.shape)} doesn't broadcast to x {tuple(x.shape)}") from None


def _batches(x: Tensor, start: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    check_range("batch_size", batch_size, 1)
    return zip(x.split(batch_size), start.split(batch_size))


def _path(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    start: Tensor,
    steps: int,
    integrate: bool,
    weights: Tensor | None = None,
) -> Tensor:
    """`(x - start)` times the mean gradient at the midpoints of `steps` pieces of the line, or the gradient at x."""
    reach = x - start
    positions = [(i + 0.5) / steps for i in range(steps)] if integrate else [1.0]
    total = sum(_gradient(function, start + position * reach, weights) for position in positions)
    return reach * total / len(positions)


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Gradient of the function's sum, or of each of K weighted sums in one batched backward pass `(K, *x)`."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        out = function(leaf)
    seeds = torch.ones_like(out) if weights is None else weights
    return torch.autograd.grad(out, leaf, seeds, is_grads_batched=weights is not None)[0]


def _members_first(relevance: Tensor, n_members: int) -> Tensor:
    """`(K, B, M, D)` of a stack or `(K, B, *S)` of one member -> `(M, B, K, *S)`."""
    if n_members == 1:
        return relevance.transpose(0, 1)[None]
    return relevance.permute(2, 1, 0, *range(3, relevance.ndim))
