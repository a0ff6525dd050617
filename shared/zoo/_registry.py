"""What cards name: decorators that enter functions under the names that cards give them.

No module names an asset but its own card and recipe, so what a notebook depends on can be read off the names in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Registry(dict[str, Callable[..., Any]]):
    """Functions by name; `@registry("name")` enters one, and a name has one function."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def __call__(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            if name in self:
                both = f"{_home(self[name])} and {_home(function)}"
                raise ValueError(f"{self.what} {name!r} is registered twice, by {both}")
            self[name] = function
            return function

        return enter


def _home(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


reader = Registry("reader")  # of a data set: (name, split, **options) -> Data
converter = Registry("converter")  # of a fetched asset: (wheels, folder) -> None
recipe = Registry("recipe")  # of a shipped asset, under the asset's name: (folder) -> None
