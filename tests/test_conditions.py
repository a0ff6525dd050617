"""What every public function of the rooms does under conditions its author may not have thought of.

tests/conditions/kinds.py holds the conditions. Three tables per room, in tests/conditions/<room>.py:
`MODELS`, calls that run a model, tried under all of `kinds.MODEL`; `SCALES`, arguments whose unit may be tiny or huge,
with the power of it that the answer takes; `VALUES`, degenerate data with the right value or the argument its error
names. The good calls of tests/bad_input are tried under all of `kinds.ON_ANY` without being named here; `CALLS` are
others, or the same made exact. `KNOWN` says where a room differs, and why; `WITHOUT`, which functions of
tensors or models have no row, and why (as `ELSEWHERE` of tests/bad_input does). No condition may be silent.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tests import conventions
from tests.conditions import kinds
from tests.test_bad_input import GOOD
from tests.test_bad_input import TABLES as BAD_INPUT

NOT_ROOMS = ("kinds", "objects")  # the latter's are tried by test_class_conditions.py
ROOMS = tuple(sorted(p.stem for p in Path(__file__).with_name("conditions").glob("*.py") if p.stem not in NOT_ROOMS))
TABLES = {room: importlib.import_module(f"tests.conditions.{room}") for room in ROOMS}
KINDS = ("MODELS", "SCALES", "VALUES")


def rows(table: str) -> dict[str, Any]:
    """All rooms' rows of one table, by `room.function`."""
    return {f"{r}.{name}": row for r, t in TABLES.items() for name, row in getattr(t, table, {}).items()}


CALLS = {**GOOD, **rows("CALLS")}


def known(key: str, condition: str) -> bool:
    """Whether the room's table says that the function differs under this condition."""
    room, name = key.split(".", 1)
    said = getattr(TABLES.get(room), "KNOWN", {})
    return (name, condition) in said or (name, "*") in said


def call(key: str, arguments: dict[str, Any]) -> Any:
    """The function's answer; a row may bring its own `call`. A context manager is entered and its model run."""
    room, name = key.split(".", 1)
    arguments = dict(arguments)
    if "call" in arguments:
        return arguments.pop("call")(**arguments)
    result = getattr(importlib.import_module(f"shared.{room}"), name)(**arguments)
    if hasattr(result, "__enter__"):
        with result as held, torch.no_grad():
            like = next(arguments["model"].parameters())
            return arguments["model"](torch.ones(2, 3, 2, 2).to(like)), held
    return list(itertools.islice(result, 3)) if inspect.isgenerator(result) else result  # some never end


def made(make: Any) -> dict[str, Any]:
    """A row's arguments, the same ones each time."""
    torch.manual_seed(0)
    return make()


def broken(key: str, condition: str, how: kinds.Condition, make: Any) -> str:
    """What is wrong with the call under a condition, "" if nothing."""
    plain, spoilt = how.plain(made(make)), how.spoil(made(make))
    if plain.keys() != spoilt.keys():
        raise AssertionError(f"{key}: {condition} changes the arguments' names")
    want = call(key, plain)
    try:
        with how.around():
            got = call(key, spoilt)
    except Exception as error:
        if kinds.names(error, spoilt):
            return ""
        return f"{condition}: {type(error).__name__}: {str(error)[:200]}"
    wrong = kinds.differs(got, want, how.tolerance)
    return f"{condition}: {wrong}" if wrong else ""


def all_broken(key: str, conditions: dict[str, kinds.Condition], make: Any) -> list[str]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [broken(key, c, how, make) for c, how in conditions.items() if not known(key, c)]
    plt.close("all")
    return [line for line in found if line]


@pytest.mark.parametrize("key", [key for key in CALLS if key not in rows("MODELS")])
def test_any_call_under_any_condition(key):
    assert all_broken(key, kinds.ON_ANY, CALLS[key]) == []


@pytest.mark.parametrize("key", rows("MODELS"))
def test_any_model_under_any_condition(key):
    assert all_broken(key, kinds.MODEL, rows("MODELS")[key]) == []


@pytest.mark.parametrize("key", rows("MODELS"))
def test_a_call_leaves_the_model_as_it_was(key):
    if known(key, "model"):
        return
    arguments = rows("MODELS")[key]()
    before = kinds.state(arguments["model"])
    call(key, arguments)
    assert kinds.state(arguments["model"]) == before


@pytest.mark.parametrize("key", GOOD)
def test_a_call_leaves_its_arguments_as_they_were(key):
    arguments = GOOD[key]()
    tensors = {n: v for n, v in arguments.items() if isinstance(v, torch.Tensor | np.ndarray)}
    kept = {n: v.detach().clone() if isinstance(v, torch.Tensor) else copy.deepcopy(v) for n, v in tensors.items()}
    call(key, arguments)
    plt.close("all")
    assert [
        n for n, v in tensors.items() if not np.array_equal(np.asarray(v.tolist()), np.asarray(kept[n].tolist()))
    ] == []


@pytest.mark.parametrize("key", rows("SCALES"))
@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_the_unit_of_the_data_does_not_matter(key, unit):
    for group, power in rows("SCALES")[key].items():
        together = (group,) if isinstance(group, str) else group
        want = [leaf * unit**p for leaf, p in _powers(kinds.leaves(call(key, GOOD[key]())), power)]
        arguments = GOOD[key]()
        got = call(key, {**arguments, **{name: arguments[name] * unit for name in together}})
        assert kinds.differs(list(kinds.leaves(got)), want, 1e-4) == "", group


def _powers(leaves: Any, power: int | tuple[int, ...]) -> list[tuple[np.ndarray, int]]:
    found = list(leaves)
    return list(zip(found, power if isinstance(power, tuple) else (power,) * len(found), strict=True))


@pytest.mark.parametrize(("key", "case"), [(key, case) for key, cases in rows("VALUES").items() for case in cases])
def test_degenerate_data_has_its_value_or_a_named_error(key, case):
    arguments, want = rows("VALUES")[key][case]
    if isinstance(want, str):
        with pytest.raises(ValueError, match=rf"\b{want}\b"):
            call(key, arguments())
        return
    with np.errstate(all="ignore"):
        got = call(key, arguments())
    if callable(want):
        assert want(got)
    else:
        assert kinds.differs(list(kinds.leaves(got)), list(kinds.leaves(want)), 1e-5) == ""


def needs_a_row(thing: Any) -> bool:
    """Whether a function is handed tensors, arrays or a model."""
    kinds = [str(p.annotation) for p in inspect.signature(thing).parameters.values()]
    return any(word in kind for kind in kinds for word in ("Tensor", "ndarray", "Module"))


@pytest.mark.parametrize("room", conventions.rooms())
def test_every_function_of_tensors_or_models_has_a_row_or_a_reason(room):
    module = importlib.import_module(f"shared.{room}")
    public = {name: getattr(module, name) for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    reasons = set(getattr(TABLES.get(room), "WITHOUT", {}))
    elsewhere = set(getattr(BAD_INPUT.get(room), "ELSEWHERE", {}))
    here = {
        key.split(".", 1)[1] for key in [*CALLS, *(k for t in KINDS for k in rows(t))] if key.startswith(f"{room}.")
    }
    asked = {name for name, thing in public.items() if needs_a_row(thing)}
    assert sorted(asked - here - reasons - elsewhere) == []
    assert sorted(reasons & (here | elsewhere)) == [], "has a row, or its reason stands in tests/bad_input"
    assert sorted(reasons - asked) == [], "needs no reason"
