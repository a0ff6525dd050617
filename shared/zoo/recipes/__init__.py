"""How what the repository ships was made: `data/<asset>/recipe.py`, deterministic, on one core.

A recipe is a function of the folder to write into, entered by `@recipe("<asset>")`; `python -m shared.zoo make <asset>`
runs it. What several recipes need lies here.
"""

from __future__ import annotations

import functools
import sys
from graphlib import TopologicalSorter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from shared._checks import check_choice
from shared.compendium.paths import data_dir
from shared.zoo._cards import all_cards
from shared.zoo._registry import recipe
from shared.zoo.recipes._ship import RECIPE

__all__ = ["make", "module", "recipe", "recipe_names"]


def recipe_names() -> list[str]:
    """The assets that have a recipe.

    Returns
    -------
    Names, each behind those of the assets that it is made from.
    """
    known = sorted(path.parent.name for path in data_dir().glob(f"*/{RECIPE}"))
    cards = all_cards()
    before = {name: [b for b in cards[name].made_from if b in known] if name in cards else [] for name in known}
    return list(TopologicalSorter(before).static_order())


@functools.cache
def module(name: str) -> ModuleType:
    """An asset's `recipe.py`, imported once, which registers the recipe.

    Parameters
    ----------
    name : one of `recipe_names()`.

    Returns
    -------
    The module.
    """
    path = data_dir() / check_choice("name", name, recipe_names()) / RECIPE
    spec = spec_from_file_location(f"{__name__}.{name.replace('-', '_')}", path)
    found = module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def make(name: str, *, into: Path | None = None) -> Path:
    """Make an asset anew.

    Parameters
    ----------
    name : one of `recipe_names()`.
    into : where its folder goes, if not to `data`, whose files then stay as they are.

    Returns
    -------
    The asset's folder.

    Raises
    ------
    UnknownNameError
        For an asset without recipe.
    """
    module(name)
    folder = (into or data_dir()) / name
    recipe[name](folder)
    return folder
