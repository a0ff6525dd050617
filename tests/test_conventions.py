"""One convention for all public signatures and docstrings, and a room's opening example that runs."""

import doctest
import importlib

import pytest

from tests.conventions import problems, rooms


@pytest.mark.parametrize("room", rooms())
def test_public_names_keep_the_convention(room):
    assert problems(room) == []


@pytest.mark.parametrize("room", rooms())
def test_the_opening_example_runs(room):
    module = importlib.import_module(f"shared.{room}")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed
