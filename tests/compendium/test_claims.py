"""Conditions, verdicts and the table of claims."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.compendium import Check, Measurement, parse_card
from shared.compendium.claims import HELD, NOT_REPRODUCED, NOT_SHOWN, VOID, per_seed, same_table, table
from tests.checkout import CARD

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
CLAIM = parse_card(CARD, "here").claims["high"]  # > 0.5


@given(NUMBERS, NUMBERS)
def test_a_comparison_means_what_python_means(bound, value):
    assert Check.parse(f"< {bound}")(value) == (value < bound)
    assert Check.parse(f"<= {bound}")(value) == (value <= bound)
    assert Check.parse(f"> {bound!r}")(value) == (value > bound)
    assert Check.parse(f">={bound}")(value) == (value >= bound)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_an_interval_is_closed_and_must_not_be_empty(low, high, value):
    text = f"in [{low}, {high}]"
    if low <= high:
        check = Check.parse(text)
        assert check(value) == (low <= value <= high)
        assert check(low)
        assert check(high)
    else:
        with pytest.raises(ValueError, match="is no condition"):
            Check.parse(text)


@given(st.sampled_from(["< 1e9", "<= 1e9", "> -1e9", ">= -1e9", "in [-1e9, 1e9]"]))
def test_nan_never_passes(text):
    assert not Check.parse(text)(math.nan)


@given(st.text(max_size=12))
def test_any_text_is_a_condition_or_a_value_error(text):
    try:
        check = Check.parse(text)
    except ValueError:
        return
    assert check.text == text.strip()


@pytest.mark.parametrize("text", ["", "0.5", "= 1", "== 1", "> x", "> 1 2", "in (0, 1)", "in [1]", "> nan", "> inf"])
def test_refuses_what_is_no_condition(text):
    with pytest.raises(ValueError, match="is no condition"):
        Check.parse(text)


@pytest.mark.parametrize(
    ("values", "controls", "verdict"),
    [
        ((0.9,), (0.1,), HELD),
        ((0.9, 0.2), (0.1, 0.3), HELD),  # means 0.55 and 0.2
        ((0.9, 0.0), (0.1,), NOT_REPRODUCED),
        ((math.nan,), (0.1,), NOT_REPRODUCED),
        ((0.9, math.nan), (0.1,), NOT_REPRODUCED),
        ((0.9,), (0.8,), VOID),
        ((0.1,), (0.8,), VOID),
        ((), (), NOT_SHOWN),
    ],
)
def test_verdicts(values, controls, verdict):
    measured = Measurement(CLAIM, values, controls)
    assert measured.verdict == verdict
    assert measured.as_json()["verdict"] == verdict


def test_nan_is_null_in_json():
    content = Measurement(CLAIM, (math.nan, 1.0), (0.1,)).as_json()
    assert content["value"] is None
    assert content["values"] == [None, 1.0]


@pytest.mark.parametrize(
    "value",
    ["high", "0.9", None, [None, 1.0], {"a": 1}, object(), 1j, [[1.0], [1.0, 2.0]], torch.ones(2).requires_grad_()],
)
def test_a_value_must_be_a_number_or_numbers(value):
    with pytest.raises(TypeError, match="value must be a number"):
        per_seed("value", value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), [0.5], np.array([0.5])])
def test_numbers_of_any_library_are_read(value):
    assert per_seed("value", value) == (0.5,)


@pytest.mark.parametrize("value", [[], [[1.0, 2.0]]])
def test_values_must_be_flat_and_not_empty(value):
    with pytest.raises(ValueError, match="control must be a number or a flat sequence"):
        per_seed("control", value)


def test_the_table_rounds_to_the_claim_s_digits_and_has_no_minus_zero():
    rows = [Measurement(CLAIM, (0.98765,), (-0.0,)), Measurement(CLAIM, (), ())]
    lines = table(rows).splitlines()
    assert lines[0].split() == ["claim", "reported", "measured", "control", "check", "verdict"]
    assert lines[2].split() == ["high", "0.9", "0.99", "0", ">", "0.5", "held"]
    assert lines[3].split()[:4] == ["high", "0.9", "–", "–"]


STORED = table([Measurement(CLAIM, (0.9,), (0.1,)), Measurement(CLAIM, (), ())])


@pytest.mark.parametrize(
    ("value", "control", "same"),
    [
        (0.9, 0.1, True),
        (0.91, 0.11, True),  # within 2 % of the 0.8 that set them apart
        (0.93, 0.1, False),
        (0.9, 0.13, False),
        (-0.9, 0.1, False),
    ],
)
def test_tables_agree_up_to_rounding(value, control, same):
    assert same_table(table([Measurement(CLAIM, (value,), (control,)), Measurement(CLAIM, (), ())]), STORED) is same


def test_numbers_near_their_control_agree_up_to_the_last_digit_printed():
    one, unit, more = (table([Measurement(CLAIM, (value,), (0.3,))]) for value in (0.31, 0.32, 0.33))
    assert same_table(one, unit)
    assert same_table(unit, one)
    assert not same_table(one, more)


@pytest.mark.parametrize(
    ("word", "other"),
    [("held", NOT_REPRODUCED), ("> 0.5", "> 0.6"), ("high", "low"), ("–", "0"), ("  0.9  ", "  0.8  ")],
)
def test_tables_differ_in_any_other_cell(word, other):
    widened = STORED.replace("held   ", "held" + " " * 12)
    assert not same_table(widened.replace(word, other.ljust(len(word)), 1), STORED)


def test_only_tables_can_be_compared():
    with pytest.raises(ValueError, match="text must be a table of claims, got 'high'"):
        same_table("high", STORED)
