"""What every public signature and docstring of `shared` keeps to; `python -m tests.conventions ROOM` lists breaks.

Order *model, layer, data, target*; whatever has a default is keyword-only (but for a target, and the `y` of
scikit-learn's methods); chance is `generator` in functions and `random_state` in estimators; numpydoc sections that
name every parameter.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch import nn

INSTEAD = {
    "rng": "generator",
    "seed": "generator, or random_state in an estimator",
    "batch": "batch_size",
    "batchsize": "batch_size",
    "bs": "batch_size",
    "learning_rate": "lr",
    "verbose": "progress",
    "show_progress": "progress",
    "pooling": "pool",
}
ORDER = (("model", "network"), ("layer", "layers"), ("target", "targets"))
POSITIONAL = {"target", "targets", "y", "stream", "input_features"}  # may have a default and yet be given by position
SEEDING = {"seed_everything"}  # the one function that takes a seed
# tqdm, torch and scikit-learn decide what these look like
FOREIGN_METHODS = {"forward", "backward", "extra_repr", "get_params", "set_params", "setup_context"}


def rooms() -> list[str]:
    """Every room of `shared`, by name."""
    import shared

    return sorted(m.name for m in pkgutil.iter_modules(shared.__path__) if m.ispkg)


def public(room: str) -> Iterator[tuple[str, Any]]:
    """Dotted name and object of whatever the room and its public submodules export."""
    for module in _modules(room):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isroutine(thing) or inspect.isclass(thing):
                yield f"{module.__name__}.{name}", thing


def _modules(room: str) -> Iterator[ModuleType]:
    package = importlib.import_module(f"shared.{room}")
    yield package
    for found in pkgutil.iter_modules(package.__path__):
        if found.name.startswith("_"):
            continue
        try:
            module = importlib.import_module(f"shared.{room}.{found.name}")
        except ModuleNotFoundError as error:  # an optional package of an adapter
            if (error.name or "").startswith("shared"):
                raise
            continue
        if hasattr(module, "__all__"):
            yield module


def problems(room: str) -> list[str]:
    """What the room's public names break, one line each."""
    found = [] if ">>>" in (_package_doc(room)) else [f"shared.{room}: its docstring opens with no doctest example"]
    for name, thing in public(room):
        found += [f"{name}: {problem}" for problem in _of(thing)]
    return list(dict.fromkeys(found))


def _package_doc(room: str) -> str:
    return importlib.import_module(f"shared.{room}").__doc__ or ""


def _of(thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield from _function(thing, inspect.getdoc(thing) or "")
        return
    doc = inspect.getdoc(thing) or ""
    if not doc:
        yield "no docstring"
    if issubclass(thing, BaseException) or hasattr(thing, "__members__"):
        return
    if dataclasses.is_dataclass(thing) or hasattr(thing, "_fields"):
        names = [f.name for f in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else thing._fields
        yield from _undescribed([n for n in names if not n.startswith("_")], doc)
    elif "__init__" in vars(thing) and not getattr(thing, "_is_protocol", False):
        yield from _arguments(thing.__init__, doc)
    for name, method in vars(thing).items():
        inner = method.__func__ if isinstance(method, classmethod | staticmethod) else method
        if name.startswith("_") or name in FOREIGN_METHODS or not inspect.isfunction(inner):
            continue
        if isinstance(inner, property) or (issubclass(thing, nn.Module) and hasattr(nn.Module, name)):
            continue
        described = inspect.getdoc(getattr(thing, name)) or ""
        inherited = inner.__doc__ is None
        yield from (f"{name}: {p}" for p in _function(inner, described, check_doc=not inherited or not described))


def _function(function: Callable, doc: str, check_doc: bool = True) -> Iterator[str]:
    if not doc:
        yield "no docstring"
        return
    yield from _arguments(function, doc if check_doc else None)
    returns = inspect.signature(function).return_annotation
    gives = returns not in (inspect.Signature.empty, None, "None")
    if check_doc and gives and _named(function) and not re.search(r"^(Returns|Yields)\n-+$", doc, re.MULTILINE):
        yield "no Returns section"


def _named(function: Callable) -> list[inspect.Parameter]:
    skipped = {"self", "cls"}
    return [p for p in inspect.signature(function).parameters.values() if p.name not in skipped]


def _arguments(function: Callable, doc: str | None) -> Iterator[str]:
    given = _named(function)
    names = [p.name for p in given]
    for p in given:
        if p.name in INSTEAD and function.__name__ not in SEEDING:
            yield f"{p.name} should be {INSTEAD[p.name]}"
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty and p.name not in POSITIONAL:
            yield f"{p.name} has a default and must be keyword-only"
        if p.name == "progress" and p.default is not p.empty and not isinstance(p.default, bool):
            yield "progress must be a bool"
    places = [min((names.index(n) for n in group if n in names), default=None) for group in ORDER]
    found = [place for place in places if place is not None]
    if found != sorted(found):
        yield f"order is {', '.join(names)}; expected model, layer, data, target, options"
    if doc is not None:
        yield from _undescribed([n for n in names if not n.startswith("_")], doc)


def _undescribed(names: list[str], doc: str) -> Iterator[str]:
    if not names:
        return
    sections = re.findall(
        r"^(?:Parameters|Attributes|Other Parameters)\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)", doc, re.M | re.S
    )
    heads = re.findall(r"^(\S[^:\n]*?) ?(?::.*)?$", "\n".join(sections), re.MULTILINE)
    described = {part.strip(" *`") for head in heads for part in head.split(",")}
    if missing := [name for name in names if name not in described]:
        yield f"not described in a Parameters section: {', '.join(missing)}"


if __name__ == "__main__":
    for asked in sys.argv[1:] or rooms():
        print("\n".join(problems(asked)) or f"shared.{asked}: nothing")
