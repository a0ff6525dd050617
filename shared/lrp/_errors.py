"""The room's one exception."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class UnsupportedModule(NotImplementedError):
    """A module or operation without an LRP rule; the message names it and lists what is supported."""


def unsupported(what: str, module: nn.Module | None, name: str, known: Iterable[str]) -> UnsupportedModule:
    """The error to raise for something without a rule.

    Parameters
    ----------
    what : a norm, an activation, an operation.
    module : where it was met, if in a module.
    name : what the model calls that module.
    known : names of what is supported.

    Returns
    -------
    The exception.
    """
    where = f"{type(module).__name__} at {name!r}" if module is not None else name
    return UnsupportedModule(f"no LRP rule for {what} in {where}; supported: {', '.join(sorted(known))}")
