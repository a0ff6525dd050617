"""Context managers over forward hooks: capture, edit, patch.

All of them take module names as `model.named_modules()` spells them, act on the module's output (or, with `at="input"`,
on its input), undo themselves on exit also after an exception, and nest: an inner context sees what an outer one made.
Where a module returns or takes several tensors, the first one is meant and the others pass unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from shared._checks import UnknownNameError, check_choice

Edit = Callable[[Tensor], "Tensor | None"]
SITES = ("output", "input")


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The submodule called `name`.

    Parameters
    ----------
    model : any torch module.
    name : as `model.named_modules()` spells it; "" is the model itself.

    Returns
    -------
    The module.

    Raises
    ------
    UnknownNameError
        (A `ValueError`) an unknown name; the closest ones are listed.
    """
    modules = dict(model.named_modules())
    if name in modules:
        return modules[name]
    close = difflib.get_close_matches(str(name), list(modules), n=5, cutoff=0.3)
    hint = f"closest: {', '.join(close)}" if close else "list(dict(model.named_modules())) shows the names"
    raise UnknownNameError(f"name={name!r} is no module of {type(model).__name__} ({len(modules)} modules); {hint}")


def first_tensor(value: Any) -> Tensor:
    """The first tensor of what a module gives.

    Parameters
    ----------
    value : a tensor, or a tuple, list or mapping (a transformers output) that holds one.

    Returns
    -------
    The tensor itself, not a copy.

    Raises
    ------
    TypeError
        No tensor in it.
    """
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


def refuse_compiled(model: nn.Module) -> None:
    """Raise `ValueError` if a part of the model is compiled: once it has run, hooks are silently passed over.

    Parameters
    ----------
    model : any torch module.
    """
    for name, module in model.named_modules():
        wrapped = hasattr(module, "_orig_mod") or hasattr(module.forward, "_torchdynamo_orig_callable")
        if wrapped or getattr(module, "_compiled_call_impl", None) is not None:
            raise ValueError(
                f"model is compiled by torch.compile (at {name!r}), which passes hooks over; use the plain module "
                "(model._orig_mod)"
            )


@contextmanager
def edit(model: nn.Module, edits: Mapping[str, Edit], *, at: str = "output") -> Iterator[nn.Module]:
    """Apply `edits[name]` to the activation of module `name` whenever it runs.

    Parameters
    ----------
    model : any torch module that isn't compiled.
    edits : module name -> function from the activation to its replacement (any shape the next module takes);
        returning None leaves it as it is.
    at : "output" or "input" of the module.

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        An unknown module name (the closest names are listed) or site; a compiled model.
    """
    check_choice("at", at, SITES)
    refuse_compiled(model)
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

    Parameters
    ----------
    model : any torch module that isn't compiled.
    names : one module or several.
    at : "output" or "input" of the modules.
    detach : False keeps the tensors in the graph, so `torch.autograd.grad(y, acts[name])` works.
    every_call : keep a list, one tensor per call; else the last call's tensor.

    Yields
    ------
    A dict, filled as the model runs: name -> activation. These are copies, which in-place operations further on don't
    change.
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
    """Replace `activation[index]` of each named module: activation patching, captured on one input, put on another.

    Parameters
    ----------
    model : any torch module that isn't compiled.
    values : module name -> what to put (broadcast; dtype and device are adapted).
    index : anything that indexes the activation, for instance `(slice(None), -1)` for the last token of (B, T, D); by
        default all of it.
    at : "output" or "input" of the modules.

    Yields
    ------
    The model.
    """

    def patcher(value: Tensor) -> Edit:
        def put(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            new[index] = value.to(tensor)
            return new

        return put

    with edit(model, {name: patcher(value) for name, value in values.items()}, at=at):
        yield model
