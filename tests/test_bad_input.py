"""What every public function of the rooms papers stand on does with NaN, emptiness and wrong shapes.

tests/bad_input/<room>.py holds one good call per function (GOOD); each of its tensors is spoilt in turn. A spoilt call
must raise one `ValueError` that names the spoilt argument. A function that takes tensors and
isn't listed fails the last test. ELSEWHERE: functions without a table entry, with the reason; ANY_RANK: arguments that
may have other axes; FEWER: those that may have one less; ANY_NUMBER: arguments in which NaN has a documented meaning.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor

ROOMS = tuple(sorted(path.stem for path in Path(__file__).with_name("bad_input").glob("*.py") if path.stem != "good"))
TABLES = {room: importlib.import_module(f"tests.bad_input.{room}") for room in ROOMS}
GOOD = {f"{room}.{name}": make for room, table in TABLES.items() for name, make in table.GOOD.items()}


def listed(room: str, table: str) -> Any:
    return getattr(TABLES[room], table, {})


def call(key: str, arguments: dict[str, Any]) -> None:
    """The function's call; a context manager is entered and its model run."""
    room, name = key.split(".")
    result = getattr(importlib.import_module(f"shared.{room}"), name)(**arguments)
    if hasattr(result, "__enter__"):
        with result:
            arguments["model"](torch.ones(2, 3, 2, 2))


def is_float(value: Tensor | np.ndarray) -> bool:
    return value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"


def spoilt(key: str) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Argument and value, for every way to spoil one tensor of the good call."""
    room, function = key.split(".")
    for name, value in GOOD[key]().items():
        if not isinstance(value, Tensor | np.ndarray):
            continue
        if is_float(value) and (function, name) not in listed(room, "ANY_NUMBER"):
            holed = value.clone() if isinstance(value, Tensor) else value.copy()
            holed.reshape(-1)[0] = float("nan")
            yield name, holed
        yield name, value[:0]
        if (function, name) not in listed(room, "ANY_RANK"):
            yield name, value[None, None, None]
            if (function, name) not in listed(room, "FEWER"):
                yield name, value[..., 0]


@pytest.mark.parametrize("key", GOOD)
def test_a_good_call_is_good(key):
    call(key, GOOD[key]())
    plt.close("all")


@pytest.mark.parametrize("key", GOOD)
def test_a_spoilt_tensor_is_refused_by_name(key):
    for name, bad in spoilt(key):
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            call(key, {**GOOD[key](), name: bad})
    plt.close("all")


NAMED = {
    key: [n for n, v in make().items() if isinstance(v, dict) and all(isinstance(k, str) for k in v)]
    for key, make in GOOD.items()
}


@pytest.mark.parametrize("key", [key for key, names in NAMED.items() if names])
def test_a_mapping_without_a_name_or_with_another_is_refused_or_fine(key):
    """Never a bare KeyError."""
    for name in NAMED[key]:
        first, *others = GOOD[key]()[name]
        for names in ([*others], ["nope", *others], ["nope", first, *others], []):
            arguments = GOOD[key]()
            arguments[name] = {k: arguments[name].get(k, arguments[name][first]) for k in names}
            with contextlib.suppress(ValueError):
                call(key, arguments)
    plt.close("all")


NO_COUNTS = {  # whole numbers of which negative ones have a meaning
    *("target", "channel_axis", "ddof", "first", "ignore", "sign", "layer", "index", "label", "marked_class"),
    *("position", "generator"),  # the latter a seed
}


def counts(key: str) -> list[str]:
    """Arguments that count something: whole numbers, given or by default."""
    room, name = key.split(".")
    arguments = GOOD[key]()
    parameters = inspect.signature(getattr(importlib.import_module(f"shared.{room}"), name)).parameters
    values = {name: arguments.get(name, parameter.default) for name, parameter in parameters.items()}
    return [n for n, v in values.items() if type(v) is int and n not in NO_COUNTS]


COUNTED = [(key, name) for key in GOOD if not key.startswith("zoo.") for name in counts(key)]


@pytest.mark.parametrize(("key", "name"), COUNTED)
def test_a_negative_count_is_refused_by_name(key, name):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        call(key, {**GOOD[key](), name: -1})
    plt.close("all")


def takes_tensors(thing: Callable) -> bool:
    kinds = [str(p.annotation) for p in inspect.signature(thing).parameters.values()]
    return any("Tensor" in kind or "ndarray" in kind for kind in kinds)


@pytest.mark.parametrize("room", ROOMS)
def test_every_function_that_takes_a_tensor_is_here(room):
    module = importlib.import_module(f"shared.{room}")
    public = {name: getattr(module, name) for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    here = TABLES[room].GOOD.keys() | listed(room, "ELSEWHERE").keys()
    assert {name for name, thing in public.items() if takes_tensors(thing)} <= here <= public.keys()
    assert not TABLES[room].GOOD.keys() & listed(room, "ELSEWHERE").keys()
