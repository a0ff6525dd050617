"""Relevance of single weights, and the balance sheet of an attribution layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from shared._checks import UnknownNameError, check_choice
from shared.hooks import edit, find_module, graph_mode
from shared.lrp._attribute import attribute_parts, default_composite, explained_logits
from shared.lrp._inputs import Inputs, frozen
from shared.lrp._probes import times
from shared.lrp._targets import seed
from shared.lrp._token_weights import token_absolute
from shared.lrp.rules._composite import Composite
from shared.lrp.rules._ops import leaves

REDUCTIONS = ("mean", "mean_abs", "abs_mean", "token_abs")


@graph_mode()
def weight_relevance(
    model: nn.Module,
    names: Sequence[str] | str,
    batches: Iterable[Any],
    target: Any = None,
    *,
    composite: Composite | None = None,
    reduce: str = "mean",
    init: str = "logit",
    position: int | Tensor | None = None,
) -> dict[str, Tensor]:
    """Relevance of parameters: `R_w = w * dL/dw` on the graph with LRP rules, averaged over samples.

    For `z_k = sum_j w_kj x_j` this is the message `x_j w_kj c_k` summed over positions, so a bias-free layer's weights
    carry the relevance of its output.

    Parameters
    ----------
    model : as for `attribute`.
    names : parameters, or modules (their `weight` is meant). The layer needs a rule that keeps weight gradients: none
        (LRP-0) or Epsilon.
    batches : inputs as for `attribute`, or pairs `(x, target)` where the target changes from batch to batch.
    target : as for `attribute`, `answer` for a sum of several positions' logits; ignored for pairs.
    composite : as for `attribute`.
    reduce : "mean" over samples; "abs_mean", its absolute value; "mean_abs", the mean of absolute values (one backward
        pass of the whole batch per sample: batches of one row are cheapest); "token_abs", absolute values at each
        token or position before the sum over them, `|w_kj| sum_t |x_tj| |c_tk|`, for dense layers (one backward pass
        without weight gradients).
    init : as for `attribute`.
    position : as for `attribute`.

    Returns
    -------
    Name -> tensor of the parameter's shape, float32 or wider.

    Raises
    ------
    ValueError
        An unknown name, no batch, or a layer that no relevance reaches.
    """
    check_choice("reduce", reduce, REDUCTIONS)
    composite = composite if composite is not None else default_composite(model)
    names = [names] if isinstance(names, str) else list(names)
    if reduce == "token_abs":
        return token_absolute(model, names, batches, target, composite, init, position)
    wanted = _parameters(model, names)
    totals = {name: torch.zeros_like(p, dtype=_wide(p)) for name, p in wanted.items()}
    count = 0
    with _only(model, wanted.values()), composite.context(model):
        for batch in batches:
            x, goal = batch if isinstance(batch, tuple) else (batch, target)
            for gradients, size in _gradients(model, x, goal, wanted, reduce == "mean_abs", init, position):
                count += size
                for (name, p), g in zip(wanted.items(), gradients):
                    r = times(p.detach(), g)
                    totals[name] += r.abs() if reduce == "mean_abs" else r
    if not count:
        raise ValueError("batches is empty; at least one input is needed")
    means = {name: total / count for name, total in totals.items()}
    return {name: m.abs() for name, m in means.items()} if reduce == "abs_mean" else means


def _wide(p: Tensor) -> torch.dtype:
    return torch.float32 if p.dtype in (torch.float16, torch.bfloat16) else p.dtype


def _parameters(model: nn.Module, names: list[str]) -> dict[str, nn.Parameter]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for name in names:
        key = name if name in parameters else f"{name}.weight"
        if key not in parameters:
            of = tuple(f"{_parametrised(weight)}." for weight in (name, key))
            made = [p for p in parameters if p.startswith(of)]
            if made:
                raise UnknownNameError(
                    f"names: {name!r} is computed from {', '.join(made)}; give these, or make it a parameter again by "
                    "torch.nn.utils.parametrize.remove_parametrizations"
                )
            if made := [f"{weight}_v" for weight in (name, key) if f"{weight}_v" in parameters]:
                raise UnknownNameError(
                    f"names: {name!r} is computed from {made[0]} and its norm; make it a parameter again by "
                    "torch.nn.utils.remove_weight_norm"
                )
            find_module(model, name)
            raise UnknownNameError(f"names: {name!r} is neither a parameter nor a module with a weight")
        found[name] = parameters[key]
    return found


def _parametrised(weight: str) -> str:
    """Where torch keeps what a parametrised weight is computed from."""
    layer, _, attribute = weight.rpartition(".")
    return f"{layer}.parametrizations.{attribute}".removeprefix(".")


@contextmanager
def _only(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Of all parameters, only these require grad inside."""
    chosen = list(parameters)
    before = [p.requires_grad for p in chosen]
    with frozen(model):
        for p in chosen:
            p.requires_grad_(True)
        try:
            yield
        finally:
            for p, flag in zip(chosen, before):
                p.requires_grad_(flag)


def _gradients(
    model: nn.Module, x: Any, target: Any, wanted: Mapping[str, Tensor], per_sample: bool, init: str, position: Any
) -> Iterator[tuple[tuple[Tensor, ...], int]]:
    """Weight gradients of the batch's explained amount, summed over samples or one by one."""
    logits = explained_logits(Inputs(model, x), getattr(target, "output", None), position)
    start = seed(target, logits.detach(), init)
    size = len(logits)
    for n in range(size if per_sample else 1):
        row = _row(start, n) if per_sample else start
        keep = per_sample and n + 1 < size
        gradients = torch.autograd.grad(logits, list(wanted.values()), row, retain_graph=keep, allow_unused=True)
        missing = [name for name, g in zip(wanted, gradients) if g is None]
        if missing:
            raise ValueError(f"no relevance reaches {', '.join(missing)}: the layer must run, under no rule or Epsilon")
        yield gradients, 1 if per_sample else size


def _row(start: Tensor, n: int) -> Tensor:
    """The seed of sample n alone."""
    row = torch.zeros_like(start)
    row[n] = start[n]
    return row


def conservation_report(
    model: nn.Module, x: Any, target: Any = None, *, composite: Composite | None = None, **options: Any
) -> pd.DataFrame:
    """What every leaf module's output carries: where relevance is kept, lost or gained.

    Parameters
    ----------
    model : as for `attribute`.
    x : as for `attribute`.
    target : as for `attribute`.
    composite : as for `attribute`.
    options : further arguments of `attribute`.

    Returns
    -------
    One row per call of a leaf module in forward order, first the input: `module`, `kind`, `relevance` (summed over the
    output and averaged over the batch), `share` of the explained amount. On a path with a parallel branch a single row
    isn't the whole; bias terms absorb their share.
    """
    parts = {name: module for name, module in leaves(model).items() if name}
    taps = _SumTaps()
    totals: dict[tuple[str, int], float] = {}
    batch, explained = 0, 0.0
    with taps.watching(model, [name for name, leaf in parts.items() if not isinstance(leaf, nn.Embedding)]):
        for result in attribute_parts(model, x, target, composite=composite, **options):
            batch += len(result.output)
            explained += times(result.output, result.seed).sum().item()
            seen = {("input", 0): result.relevance.sum().item(), **{key: sum(v) for key, v in taps.sums.items()}}
            totals = {key: totals.get(key, 0.0) + value for key, value in seen.items()}
    kinds = {"input": "Tensor", **{name: type(leaf).__name__ for name, leaf in parts.items()}}
    rows = [(name, kinds[name], value / batch) for (name, _), value in totals.items()]
    frame = pd.DataFrame(rows, columns=["module", "kind", "relevance"])
    return frame.assign(share=frame["relevance"] / (explained / batch))


class _SumTaps:
    """Sums the relevance of modules' outputs, by module and its how-manieth call in the last forward pass."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int], list[float]] = {}

    @contextmanager
    def watching(self, model: nn.Module, names: Iterable[str]) -> Iterator[None]:
        with ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(lambda *_: self.sums.clear()).remove)
            stack.enter_context(edit(model, {name: partial(self._watch, name) for name in names}))
            yield

    def _watch(self, name: str, activation: Tensor) -> Tensor | None:
        if not activation.requires_grad:
            return None
        key = name, sum(known == name for known, _ in self.sums)
        self.sums[key] = []
        value, out = activation.detach(), activation.clone()
        out.register_hook(lambda c: self.sums[key].append(times(value, c).sum().item()))
        return out
