"""What the rooms' classes do under conditions their author may not have thought of (tests/conditions/objects.py)."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import warnings
from abc import ABC

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests import conventions
from tests.conditions import kinds, objects
from tests.test_conditions import broken

ROWS = {**objects.MODELS, **objects.TENSORS, **objects.ESTIMATORS}


def all_broken(key, conditions, make):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [broken(key, c, how, make) for c, how in conditions.items() if not known(key, c)]
    return [line for line in found if line]


def known(key, condition):
    return (key, condition) in objects.KNOWN or (key, "*") in objects.KNOWN


@pytest.mark.parametrize("key", objects.MODELS)
def test_any_class_of_models_under_any_condition(key):
    assert all_broken(key, kinds.MODEL, objects.MODELS[key]) == []


@pytest.mark.parametrize("key", objects.MODELS)
def test_a_class_leaves_the_model_as_it_was(key):
    arguments = objects.MODELS[key]()
    model, before = arguments["model"], kinds.state(arguments["model"])
    arguments.pop("call")(**arguments)
    assert kinds.state(model) == before


@pytest.mark.parametrize("key", objects.TENSORS)
def test_any_class_of_tensors_under_any_condition(key):
    assert all_broken(key, kinds.ON_ANY, objects.TENSORS[key]) == []


def table_of(arguments):
    return "X" if "X" in arguments else "H"


def of_table(change):
    return lambda arguments: {**arguments, table_of(arguments): change(arguments[table_of(arguments)])}


def frame(x):
    return pd.DataFrame(x, columns=[f"c{j}" for j in range(x.shape[1])])


CONTAINERS = {
    "list": kinds.Condition(of_table(lambda x: x.tolist())),
    "frame": kinds.Condition(of_table(frame)),
    "nullable": kinds.Condition(of_table(lambda x: frame(x).convert_dtypes())),
    "sparse": kinds.Condition(of_table(sp.csr_matrix)),
    "read-only": kinds.ON_ANY["read-only"],
}


@pytest.mark.parametrize("key", objects.ESTIMATORS)
def test_any_estimator_with_any_container(key):
    assert all_broken(key, CONTAINERS, objects.ESTIMATORS[key]) == []


def missing(x):
    holed = frame(x).convert_dtypes()
    holed.iloc[1, 2] = pd.NA
    return holed


DEGENERATE = {
    "missing": missing,
    "NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x.astype(float)),
    "constant": lambda x: x * 0 + 1,
    "duplicates": lambda x: np.concatenate([x[:12], x[:12]]),
    "tiny unit": lambda x: x * 1e-12,
    "huge unit": lambda x: x * 1e12,
}


@pytest.mark.parametrize("key", [key for key in objects.ESTIMATORS if key != "patterns.Premise"])
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_tables_give_numbers_or_a_named_error(key, case):
    """Missing values are never numbers; of the others none gives NaN."""
    arguments = of_table(DEGENERATE[case])(objects.ESTIMATORS[key]())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            got = arguments.pop("call")(**arguments)
        except ValueError as error:
            got = error
    if isinstance(got, ValueError):
        assert kinds.names(got, arguments, ("distances",)), got
        return
    assert case not in ("missing", "NaN")
    assert all(np.isfinite(leaf).all() for leaf in kinds.leaves(got))


@pytest.mark.parametrize("key", [key for key in objects.ESTIMATORS if "y" in objects.ESTIMATORS[key]()])
def test_one_row_is_a_named_error(key):
    arguments = {k: v[:1] if k in "XHy" else v for k, v in objects.ESTIMATORS[key]().items()}
    with pytest.raises(ValueError, match=r"\b[XHy]\b"):
        arguments.pop("call")(**arguments)


def needs_a_row(thing):
    """Whether a class does something: no protocol or abstract base, no record of values, no exception."""
    if getattr(thing, "_is_protocol", False) or inspect.isabstract(thing) or ABC in thing.__bases__:
        return False
    record = dataclasses.is_dataclass(thing) or issubclass(thing, tuple | Exception)
    return not record or any(inspect.isfunction(v) and not n.startswith("_") for n, v in vars(thing).items())


@pytest.mark.parametrize("room", conventions.rooms())
def test_every_class_has_a_row_or_a_reason(room):
    module = importlib.import_module(f"shared.{room}")
    public = {f"{room}.{name}": getattr(module, name) for name in module.__all__}
    asked = {key for key, thing in public.items() if inspect.isclass(thing) and needs_a_row(thing)}
    assert sorted(asked - ROWS.keys() - objects.WITHOUT.keys()) == []
    assert sorted(key for key in objects.WITHOUT if key in ROWS) == []
    assert sorted(key for key in [*ROWS, *objects.WITHOUT] if key.startswith(f"{room}.") and key not in public) == []
