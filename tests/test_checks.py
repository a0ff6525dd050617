"""The argument checks: what passes, and the one message for what doesn't."""

import numpy as np
import pytest
import torch

from shared._checks import (
    UnknownNameError,
    check_array,
    check_choice,
    check_finite,
    check_keys,
    check_range,
    check_shape,
    wide,
)


def test_choice_returns_the_value_and_lists_what_exists():
    assert check_choice("model", "a", ["a", "b"]) == "a"
    with pytest.raises(
        UnknownNameError, match=r"model='resnet' is unknown; did you mean 'resnet18'\? known: resnet18, vit"
    ):
        check_choice("model", "resnet", ["resnet18", "vit"])
    with pytest.raises(ValueError, match="known: none"):
        check_choice("model", "x", [])


def test_keys_names_what_is_missing_and_the_closest():
    check_keys("masks", {"fc1": 1, "fc2": 2}, ["fc2"])
    with pytest.raises(UnknownNameError, match=r"masks lacks 'fc3' \(closest: 'fc[12]'\); it has: fc1, fc2"):
        check_keys("masks", {"fc1": 1, "fc2": 2}, ["fc1", "fc3"])
    with pytest.raises(ValueError, match="masks lacks 'fc1'; it has: nothing"):
        check_keys("masks", {}, ["fc1"])


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_finite(make):
    check_finite("x", make([1.0, 2.0]))
    check_finite("x", make([1, 2]))
    check_finite("x", make([3e38, 3e38]))  # the sum overflows, the values don't
    check_finite("labels", np.array(["a", "b"]))
    with pytest.raises(ValueError, match="x has 2 NaN or infinite values of 3"):
        check_finite("x", make([1.0, float("nan"), float("-inf")]))
    with pytest.raises(ValueError, match=r"x is empty \(shape \(0,\)\)"):
        check_finite("x", make([]))


def test_shape_takes_letters_for_any_length():
    check_shape("x", torch.zeros(2, 3), ("B", 3))
    check_shape("x", np.zeros((2, 3)), (None, "F"))
    for bad in (("B",), ("B", 4), ("B", 3, 1)):
        with pytest.raises(ValueError, match=r"x has shape \(2, 3\); expected"):
            check_shape("x", torch.zeros(2, 3), bad)


def test_array_is_shape_first_then_numbers():
    check_array("x", torch.zeros(2, 3), ("n", 3))
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\); expected \(n\)"):
        check_array("x", torch.full((2, 3), torch.nan), ("n",))
    with pytest.raises(ValueError, match="x has 6 NaN or infinite values of 6"):
        check_array("x", np.full((2, 3), np.nan), ("n", 3))
    with pytest.raises(ValueError, match=r"x is empty \(shape \(0, 3\)\)"):
        check_array("x", np.zeros((0, 3)), ("n", 3))


def test_range_refuses_nan_and_names_the_bounds():
    check_range("p", 0.0, 0, 1)
    check_range("p", 5, low=0)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"p=.* accepted: \[0, 1\]"):
            check_range("p", bad, 0, 1)
    with pytest.raises(ValueError, match=r"\[0, inf\]"):
        check_range("p", float("nan"), low=0)


def test_doubles_are_made_in_one_place():
    """Apple's MPS has no float64: `wide` knows, and nothing else asks for it by `.double()`."""
    import re

    from shared.compendium.paths import ROOT

    files = [p for p in (ROOT / "shared").rglob("*.py") if "recipes" not in p.parts and p.name != "_checks.py"]
    assert [str(p) for p in files if re.search(r"\.double\(\)", p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("mps", torch.float32)])
def test_wide_is_the_widest_type_of_the_device(device, dtype):
    class Somewhere:
        device = torch.device("cpu")

        def to(self, dtype):
            return dtype

    Somewhere.device = torch.device(device)
    assert wide(Somewhere()) == dtype
