"""Relevance of dense layers' weights, absolute at each token: nothing cancels, and no weight gradient is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import edit, find_module
from shared.lrp._attribute import explained_logits
from shared.lrp._inputs import Inputs, frozen
from shared.lrp._targets import seed
from shared.lrp.rules._composite import Composite


def token_absolute(
    model: nn.Module,
    names: Sequence[str],
    batches: Iterable[Any],
    target: Any,
    composite: Composite,
    init: str,
    position: int | Tensor | None,
) -> dict[str, Tensor]:
    """`weight_relevance` with `reduce="token_abs"`.

    Parameters
    ----------
    model : as for `weight_relevance`.
    names : dense layers, or their weights.
    batches : as for `weight_relevance`.
    target : as for `weight_relevance`.
    composite : the rules.
    init : as for `weight_relevance`.
    position : as for `weight_relevance`.

    Returns
    -------
    Name -> scores in the weight's shape.

    Raises
    ------
    ValueError
        A layer that isn't dense or that no relevance reaches, no batch.
    """
    layers = {name: name.removesuffix(".weight") for name in names}
    weights = {layer: _dense(model, layer) for layer in layers.values()}
    taps = _Taps()
    count = 0
    with frozen(model), composite.context(model), taps.on(model, weights):
        for batch in batches:
            x, goal = batch if isinstance(batch, tuple) else (batch, target)
            inputs = Inputs(model, x)
            logits = explained_logits(inputs, getattr(goal, "output", None), position)
            torch.autograd.grad(logits, inputs.leaf, seed(goal, logits.detach(), init))
            count += len(logits)
    if not count:
        raise ValueError("batches is empty; at least one input is needed")
    missing = [name for name, layer in layers.items() if layer not in taps.totals]
    if missing:
        raise ValueError(f"no relevance reaches {', '.join(missing)}")
    return {name: weights[layer].abs() * taps.totals[layer] / count for name, layer in layers.items()}


def _dense(model: nn.Module, name: str) -> Tensor:
    module = find_module(model, name)
    if not isinstance(module, nn.Linear):
        raise ValueError(f'names has {name!r}, a {type(module).__name__}; reduce="token_abs" is for dense layers')
    return module.weight.detach()


class _Taps:
    """Sums `|c_k| |x_j|` over tokens: inputs are kept in the forward pass, coefficients arrive in the backward pass."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.totals: dict[str, Tensor] = {}

    def on(self, model: nn.Module, names: Iterable[str]) -> ExitStack:
        """The taps on some layers, as a context."""
        chosen = list(names)
        stack = ExitStack()
        stack.enter_context(edit(model, {name: self._remember(name) for name in chosen}, at="input"))
        stack.enter_context(edit(model, {name: self._listen(name) for name in chosen}))
        return stack

    def _remember(self, name: str) -> Callable[[Tensor], None]:
        def keep(x: Tensor) -> None:
            self.inputs[name] = x.detach().abs().flatten(0, -2)

        return keep

    def _listen(self, name: str) -> Callable[[Tensor], Tensor | None]:
        def tap(z: Tensor) -> Tensor | None:
            if not z.requires_grad:
                return None
            out = z.clone()
            x = self.inputs.pop(name)  # of this call: a layer may run more than once
            out.register_hook(lambda c: self._add(name, c, x))
            return out

        return tap

    def _add(self, name: str, coefficient: Tensor, x: Tensor) -> None:
        new = coefficient.abs().flatten(0, -2).T @ x
        new = new.float() if new.dtype in (torch.float16, torch.bfloat16) else new
        self.totals[name] = self.totals[name] + new if name in self.totals else new
