"""Context managers over forward hooks: capture, edit, patch, steer.

All of them take module names as `model.named_modules()` spells them, act on the module's output (or, with `at="input"`,
on its input), undo themselves on exit also after an exception, and nest: an inner context sees what an outer one made.
Where a module returns or takes several tensors, the first one is meant and the others pass unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import UnknownNameError, check_choice

Edit = Callable[[Tensor], "Tensor | None"]
SITES = ("output", "input")


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The submodule called `name`; else `UnknownNameError` (a `ValueError`) with the closest names."""
    modules = dict(model.named_modules())
    if name in modules:
        return modules[name]
    close = difflib.get_close_matches(str(name), list(modules), n=5, cutoff=0.3)
    hint = f"closest: {', '.join(close)}" if close else "list(dict(model.named_modules())) shows the names"
    raise UnknownNameError(f"name={name!r} is no module of {type(model).__name__} ({len(modules)} modules); {hint}")


def first_tensor(value: Any) -> Tensor:
    """The first tensor of a module's output: the tensor itself, or the first one in a tuple, list or mapping."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise TypeError(f"a module's activation must hold a tensor; got {type(value).__name__} without one")


def _replace_first(value: Any, new: Tensor) -> Any:
    """`value` with its first tensor replaced by `new`; the container's type is kept."""
    if isinstance(value, Tensor):
        return new
    if isinstance(value, Mapping):
        key = next(k for k, part in value.items() if isinstance(part, Tensor))
        value[key] = new
        return value
    index = next(i for i, part in enumerate(value) if isinstance(part, Tensor))
    parts = [*value[:index], new, *value[index + 1 :]]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _edit_value(value: Any, function: Edit) -> Any:
    new = function(first_tensor(value))
    return value if new is None else _replace_first(value, new)


def _edit_inputs(args: tuple, kwargs: dict[str, Any], function: Edit) -> tuple[tuple, dict[str, Any]]:
    if any(isinstance(a, Tensor) for a in args):
        return tuple(_edit_value(args, function)), kwargs
    return args, _edit_value(dict(kwargs), function)


@contextmanager
def edit(model: nn.Module, edits: Mapping[str, Edit], *, at: str = "output") -> Iterator[nn.Module]:
    """Apply `edits[name]` to the activation of module `name` whenever it runs.

    Args:
        model: any torch module.
        edits: module name -> function from the activation to its replacement (any shape the next module takes);
            returning None leaves it as it is.
        at: "output" or "input" of the module.

    Raises:
        ValueError: an unknown module name (the closest names are listed) or site.
    """
    check_choice("at", at, SITES)
    modules = {name: find_module(model, name) for name in edits}
    with ExitStack() as stack:
        for name, function in edits.items():
            handle = _register(modules[name], function, at)
            stack.callback(handle.remove)
        yield model


def _register(module: nn.Module, function: Edit, at: str) -> Any:
    if at == "output":
        return module.register_forward_hook(lambda _m, _a, out: _edit_value(out, function))
    return module.register_forward_pre_hook(lambda _m, a, k: _edit_inputs(a, k, function), with_kwargs=True)


@contextmanager
def capture(
    model: nn.Module, names: Iterable[str] | str, *, at: str = "output", detach: bool = True, every_call: bool = False
) -> Iterator[dict[str, Any]]:
    """Collect the activations of the named modules while the context is open.

    Yields a dict, filled as the model runs: name -> tensor of the last call (with `every_call=True` a list, one tensor
    per call). With `detach=False` the tensors stay in the graph, so `torch.autograd.grad(y, acts[name])` works. Copies
    are made so that in-place operations further on can't change what was captured.
    """
    store: dict[str, Any] = {}

    def keeper(name: str) -> Edit:
        def keep(tensor: Tensor) -> Tensor | None:
            kept = tensor.detach().clone() if detach else tensor
            if every_call:
                store.setdefault(name, []).append(kept)
            else:
                store[name] = kept
            return None if detach else tensor.clone()

        return keep

    wanted = [names] if isinstance(names, str) else list(names)
    with edit(model, {name: keeper(name) for name in wanted}, at=at):
        yield store


@contextmanager
def patch(
    model: nn.Module, values: Mapping[str, Tensor], *, index: Any = ..., at: str = "output"
) -> Iterator[nn.Module]:
    """Replace `activation[index]` of each named module by the given tensor (broadcast; dtype and device adapted).

    `index` is anything that indexes the activation, for instance `(slice(None), -1)` for the last token of `(B, S, D)`;
    the default replaces all of it. This is activation patching: capture on one input, patch on another.
    """

    def patcher(value: Tensor) -> Edit:
        def put(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            new[index] = value.to(tensor)
            return new

        return put

    with edit(model, {name: patcher(value) for name, value in values.items()}, at=at):
        yield model


@contextmanager
def steer(
    model: nn.Module,
    directions: Mapping[str, Tensor],
    *,
    alpha: float = 1.0,
    index: Any = ...,
    at: str = "output",
) -> Iterator[nn.Module]:
    """Add `alpha * directions[name]` to `activation[index]` of each named module.

    A direction of shape `(D,)` is added along the last axis of `(B, S, D)`; for feature maps `(B, C, H, W)` give it as
    `(C, 1, 1)`.
    """

    def pusher(direction: Tensor) -> Edit:
        def push(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            new[index] = new[index] + alpha * direction.to(tensor)
            return new

        return push

    if not torch.isfinite(torch.as_tensor(alpha)).all():
        raise ValueError(f"alpha={alpha!r} must be finite")
    with edit(model, {name: pusher(direction) for name, direction in directions.items()}, at=at):
        yield model
