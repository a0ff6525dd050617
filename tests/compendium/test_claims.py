"""Conditions, intervals and the verdicts that follow."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.compendium import Check, parse_card
from shared.compendium.claims import (
    HELD,
    NO_TEST,
    NOT_REPRODUCED,
    OPEN,
    VOID,
    Gate,
    Measurement,
    count_verdicts,
    estimate,
    measurement,
    per_unit,
)
from tests.checkout import CARD

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
TIGHT = np.array([-0.01, 0.0, 0.01, 0.005, -0.005])  # five units, half-width of their interval 0.0098


def claim(check="> 0.5", **changes):
    """A claim of a card."""
    stated = {**CARD["claims"][0], "check": check, "rival": "another method", **changes}
    gates = [{"id": "works", "statement": "It works.", "measures": "a share", "check": ">= 0.8"}]
    return parse_card({**CARD, "gates": gates, "claims": [stated]}, where="here").claims["high"]


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


@given(st.sampled_from(["< 0", "<= 0", "> 0", ">= 0", "in [-1, 1]"]), NUMBERS, NUMBERS)
def test_failing_throughout_is_failing_everywhere(text, a, b):
    check, low, high = Check.parse(text), min(a, b), max(a, b)
    inside = [check(x) for x in np.clip([low, high, (low + high) / 2, -1, 0, 1, 1e-30, -1e-30], low, high)]
    assert not (check.fails_throughout(low, high) and any(inside))
    assert check.fails_throughout(low, low) is not check(low)


@pytest.mark.parametrize(
    ("text", "low", "high", "strict"),
    [
        ("> rival", 0, math.inf, True),
        (">= rival + 0.05", 0.05, math.inf, False),
        ("< rival - .1", -math.inf, -0.1, True),
    ],
)
def test_a_check_against_the_rival(text, low, high, strict):
    check = Check.parse(text)
    assert (check.low, check.high, check.strict, check.against_rival) == (low, high, strict, True)
    assert not Check.parse("> 0").against_rival


@given(st.text(max_size=12))
def test_any_text_is_a_condition_or_a_value_error(text):
    try:
        check = Check.parse(text)
    except ValueError:
        return
    assert check.text == text.strip()


@pytest.mark.parametrize(
    "text", ["", "0.5", "= 1", "== 1", "> x", "> 1 2", "in (0, 1)", "in [1]", "> nan", "> inf", "rival", "> rival 1"]
)
def test_refuses_what_is_no_condition(text):
    with pytest.raises(ValueError, match="is no condition"):
        Check.parse(text)


@pytest.mark.parametrize(
    ("check", "values", "null", "verdict"),
    [
        ("> 0.5", 0.9 + TIGHT, 0.1, HELD),
        ("> 0.5", 0.9 + TIGHT, 0.1 + TIGHT[:3], HELD),  # another count of units: compared unpaired
        ("> 0.5", 0.4 + TIGHT, 0.1, NOT_REPRODUCED),
        ("> 0.5", 0.5 + TIGHT, 0.1, OPEN),  # the interval contains the bound
        ("> 0.5", [0.9], 0.1, OPEN),  # one number has no interval
        ("> 0.5", [0.2], 0.1, OPEN),
        ("> 0.5", [0.9, math.nan, 0.9], 0.1, OPEN),
        ("> 0.5", 0.9 + TIGHT, 0.8, VOID),
        ("> 0.5", 0.1 + TIGHT, 0.8 + TIGHT, VOID),
        ("> 0.5", 0.9 + TIGHT, 0.5 + 100 * TIGHT, OPEN),  # a null that scatters: not apart from it
        ("< 0.1", 0.05 + TIGHT, 0.3 + TIGHT, HELD),
        ("< 0.1", 0.3 + TIGHT, 0.4 + TIGHT, NOT_REPRODUCED),
        ("in [0.9, 1.1]", 1 + TIGHT, 2 + TIGHT, HELD),
        ("in [0.9, 1.1]", 2 + TIGHT, 0.5, NOT_REPRODUCED),
        ("> 0.5", [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], HELD),  # no spread at all
    ],
)
def test_verdicts(check, values, null, verdict):
    measured = measurement(claim(check), values, null)
    assert measured.verdict == verdict
    assert measured.as_json()["verdict"] == verdict
    assert bool(measured.why_open) == (verdict == OPEN)


def test_pairs_see_what_the_spread_of_units_hides():
    units = np.array([0.1, 0.5, 0.9, 1.3, 1.7])
    paired = measurement(claim("> 0"), units + 0.05 + TIGHT / 10, units - 0.45)
    assert paired.over_null.low > 0.48
    unpaired = measurement(claim("> 0"), units + 0.05, np.append(units, 0.9) - 0.45)
    others = measurement(claim("> 0"), units + 0.05 + TIGHT / 10, units - 0.45, paired=False)
    assert others.over_null.width > 5 * paired.over_null.width
    assert unpaired.over_null.low < 0


def test_the_best_rival_is_the_one_the_check_prefers():
    rivals = {"weak": 0.2 + TIGHT, "strong": 0.8 + TIGHT}
    ahead = measurement(claim("> rival"), 0.9 + TIGHT, 0.1, rivals)
    assert (ahead.best_rival, ahead.verdict) == ("strong", HELD)
    assert ahead.over_rival.mean == pytest.approx(0.1)
    assert measurement(claim("< rival"), 0.1 + TIGHT, 0.5, rivals).best_rival == "weak"
    assert measurement(claim("> rival"), 0.5 + TIGHT, 0.1, rivals).verdict == NOT_REPRODUCED
    assert measurement(claim("> rival"), 0.9 + TIGHT, 0.85 + TIGHT, rivals).verdict == VOID


def test_a_rival_must_be_given_where_the_check_names_one_and_only_where_the_card_does():
    with pytest.raises(ValueError, match="claim 'high' is checked against a rival"):
        measurement(claim("> rival"), TIGHT, 0.1)
    lonely = parse_card(CARD, where="here").claims["high"]
    with pytest.raises(ValueError, match="rival is given for claim 'high', whose card names none"):
        measurement(lonely, TIGHT, 0.1, TIGHT)


def test_our_own_claims_are_answered():
    for values, answer in ((0.9 + TIGHT, "yes"), (0.1 + TIGHT, "no"), (0.5 + TIGHT, "open")):
        assert measurement(claim(kind="own"), values, 0.0).answer == answer


@pytest.mark.parametrize(
    ("centre", "near"),
    [(0.9, False), (0.5105, True), (0.52, False), (0.4885, True), (0.45, False), (0.5, False)],
)
def test_a_verdict_near_its_bound_is_marked(centre, near):
    assert measurement(claim(), centre + TIGHT, 0.0).near is near


def test_a_null_as_good_as_the_method_makes_a_verdict_near():
    assert measurement(claim("> 0.5"), 0.9 + TIGHT, 0.4905 + 40 * TIGHT).near


def test_a_gate_passes_when_its_whole_interval_does():
    card = parse_card(
        {**CARD, "gates": [{"id": "works", "statement": "It works.", "measures": "a share", "check": ">= 0.8"}]},
        where="here",
    ).gates["works"]
    assert Gate(card, tuple(0.9 + TIGHT)).passes
    assert not Gate(card, tuple(0.8 + TIGHT)).passes
    assert not Gate(card, (math.nan, 0.9)).passes


def test_behind_a_closed_gate_there_is_no_test():
    measured = measurement(claim(), 0.9 + TIGHT, 0.8, no_test="gate works did not pass")
    assert measured.verdict == NO_TEST
    assert measured.as_json()["why"] == "gate works did not pass"


def test_nan_is_null_in_json():
    content = measurement(claim(), [math.nan, 1.0], 0.1).as_json()
    assert content["value"] is None
    assert content["values"] == [None, 1.0]


def test_papers_and_our_own_are_counted_apart():
    claims = [{"kind": "paper", "verdict": "held"}] * 2 + [{"kind": "own", "verdict": "no"}]
    assert count_verdicts(claims) == {"paper": {"held": 2}, "own": {"no": 1}}


@pytest.mark.parametrize(
    "value",
    ["high", "0.9", None, [None, 1.0], {"a": 1}, object(), 1j, [[1.0], [1.0, 2.0]], torch.ones(2).requires_grad_()],
)
def test_values_must_be_numbers(value):
    with pytest.raises(TypeError, match="value must be a number"):
        per_unit("value", value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), [0.5], np.array([0.5])])
def test_numbers_of_any_library_are_read(value):
    assert per_unit("value", value) == (0.5,)


@pytest.mark.parametrize("value", [[], [[1.0, 2.0]]])
def test_values_must_be_flat_and_not_empty(value):
    with pytest.raises(ValueError, match="null must be a number or a flat sequence"):
        per_unit("null", value)


def test_without_values_there_is_no_test():
    assert Measurement(claim(), ()).verdict == NO_TEST


def test_all_successes_leave_room_for_a_failure():
    """Wilson: of 10 successes in 10 the interval is [0.72, 1]; Student's t would say that failure can't happen."""
    found = estimate([True] * 10)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert abs(found.low - 10 / (10 + 1.959964**2)) < 1e-6
    assert measurement(claim("> 0.7"), [True] * 10, 0.5).verdict == HELD
    assert measurement(claim("> 0.7"), np.ones(5, bool), [False] * 5).verdict == OPEN


def answers(right, of=71):
    return np.arange(of) < right


@pytest.mark.parametrize("check", ["> rival", ">= rival"])
def test_one_answer_of_71_decides_nothing(check):
    """Resampling never sees a sign that it didn't draw: it gave [-0.042, 0], of which nothing exceeds zero."""
    for right in (39, 40, 41):
        found = measurement(claim(check), answers(right), [0.0], answers(40))
        assert found.verdict == OPEN
        assert found.over_rival.low < 0 < found.over_rival.high
    assert (
        measurement(claim(check), answers(46), [0.0], answers(40)).verdict == HELD
    )  # 6 against 0, as by the sign test
    assert measurement(claim(check), answers(45), [0.0], answers(40)).verdict == OPEN
    assert measurement(claim(check), answers(34), [0.0], answers(40)).verdict == NOT_REPRODUCED


def test_equal_answers_are_not_apart_from_their_null_nor_shown_equal():
    found = measurement(claim("> rival"), answers(40), answers(40), answers(40))
    assert (found.over_null.mean, found.verdict) == (0, OPEN)
    assert found.over_null.low < 0 < found.over_null.high
    fewer = measurement(claim("< 0.9"), answers(20), answers(40))
    assert fewer.over_null.mean == pytest.approx(20 / 71)
    assert fewer.over_null.low > 0


def test_answers_against_a_known_chance_keep_wilsons_width():
    for chance in (0.25, np.full(10, 0.25)):
        found = measurement(claim("> rival"), [True] * 10, [0.1], chance)
        assert found.over_rival.low == pytest.approx(estimate([True] * 10).low - 0.25)


def test_answers_of_other_units_are_not_paired():
    apart = measurement(claim("> rival"), answers(9, 12), [0.0], answers(3, 12), paired=False).over_rival
    assert apart.low == pytest.approx(10 / 14 - 4 / 14 - 1.959964 * math.sqrt(2 * (10 / 14) * (4 / 14) / 14), abs=1e-6)


def test_a_null_of_answers_is_void_only_beyond_its_interval():
    assert measurement(claim("> 0.5"), [True] * 30, answers(20, 30)).verdict != VOID
    assert measurement(claim("> 0.5"), [True] * 30, answers(26, 30)).verdict == VOID


@pytest.mark.parametrize(("text", "high"), [("> 0", 0.0), (">= 0", 0.0), ("< 0", 0.0)])
def test_an_interval_that_only_touches_its_bound_is_open(text, high):
    check = Check.parse(text)
    assert not check.fails_throughout(-1.0, high)
    assert check.fails_throughout(high, high) is (text != ">= 0")
