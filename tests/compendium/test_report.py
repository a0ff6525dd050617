"""The printed report, and when two of them say the same."""

import numpy as np
import pytest

from shared.compendium import parse_card
from shared.compendium.claims import Gate, Measurement, measurement
from shared.compendium.report import bare, read_report, report, same_table
from tests.checkout import CARD

SPREAD = np.array([-0.05, 0.0, 0.05, 0.025, -0.025])  # half-width of the interval 0.049
PARSED = parse_card(
    {
        **CARD,
        "gates": [{"id": "works", "statement": "It works.", "measures": "a share", "check": ">= 0.8"}],
        "claims": [
            {**CARD["claims"][0], "rival": "others"},
            {**CARD["claims"][0], "id": "ours", "kind": "own", "check": "> rival", "rival": "others"},
            {**CARD["claims"][0], "id": "later", "only_at_paper_scale": "needs a large model"},
        ],
    },
    where="here",
)
HIGH, OURS, LATER = (PARSED.claims[id] for id in ("high", "ours", "later"))


def made(value=0.9, null=0.1, rival=0.6, name="best", spread=1.0, null_spread=1.0):
    """A report of a gate, a claim, one that is due at paper scale, and a question of ours."""
    units = spread * SPREAD
    return report(
        [Gate(PARSED.gates["works"], tuple(0.95 + SPREAD))],
        [
            measurement(HIGH, value + units, null + null_spread * SPREAD),
            measurement(OURS, 0.9 + SPREAD, 0.1, {name: rival + SPREAD[::-1]}),
            Measurement(LATER, (), no_test="needs a large model"),
        ],
    )


STORED = made()


def test_prints_gates_claims_and_questions_apart():
    gates, claims, ours = (block.splitlines() for block in STORED.split("\n\n"))
    assert gates[0].split() == ["gate", "measured", "n", "check", "passes"]
    assert gates[2].split() == ["works", "0.950", "[0.901,", "0.999]", "5", ">=", "0.8", "yes"]
    assert claims[0].split() == ["claim", "reported", "measured", "n", "null", "rival", "check", "verdict"]
    assert claims[2].split()[:6] == ["high", "0.9", "0.900", "[0.851,", "0.949]", "5"]
    assert claims[2].endswith("held")
    assert claims[3].split()[:5] == ["later", "0.9", "–", "–", "–"]
    assert claims[3].endswith("no test here")
    assert "best 0.600, Δ 0.300 [" in ours[2]
    assert ours[2].endswith("yes")


def test_marks_are_explained_where_they_stand():
    assert "†" not in STORED
    assert "~" not in STORED
    changed = parse_card({**CARD, "claims": [{**CARD["claims"][0], "post_hoc": "the bound"}]}, where="here")
    text = report([], [measurement(changed.claims["high"], 0.553 + SPREAD, 0.1)])
    assert "~held †" in text
    assert text.splitlines()[-2].startswith("~ the deciding end")
    assert text.splitlines()[-1].startswith("† changed after")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-1e-12, "-1.0e-12"), (1234567.0, "1.2e+06"), (-0.0, "0"), (7e-9, "7.0e-09"), (0.5, "0.50")],
)
def test_a_single_number_is_short(value, text):
    assert f" {text} " in report([], [measurement(HIGH, value, 0.1)])


def test_the_decimals_follow_the_width_of_the_interval():
    text = report([], [measurement(HIGH, 12345 + 1000 * SPREAD, 0.1)])
    assert "12345 [12296, 12394]" in text
    assert "0.0 [-0.5, 0.5]" not in text


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"value": 0.92}, True),  # within the other's interval
        ({"value": 0.96}, False),
        ({"null": 0.12}, True),
        ({"null": 0.3}, False),
        ({"rival": 0.61}, True),
        ({"rival": 0.7}, False),
        ({"name": "level"}, True),  # two rivals may be level
        ({"spread": 1.2}, True),
        ({"spread": 2.5}, False),  # the same mean, another interval
        ({"null_spread": 2.5}, True),  # a null's may differ more
        ({"null_spread": 4.0}, False),
    ],
)
def test_reports_agree_by_their_intervals(changes, same):
    assert same_table(made(**changes), STORED) is same
    assert same_table(STORED, made(**changes)) is same


@pytest.mark.parametrize(
    ("word", "other"),
    [("held", "open"), ("> 0.5", "> 0.6"), ("high", "low"), ("yes", "no"), ("5 seeds", "6 seeds"), ("–", "0")],
)
def test_reports_differ_in_any_other_cell(word, other):
    assert not same_table(STORED.replace(word, other.ljust(len(word)), 1), STORED)


def test_a_neighbouring_verdict_is_accepted_where_it_is_marked_and_nowhere_else():
    near, other = made(value=0.552), made(value=0.548)
    assert "~held" in near
    assert "~open" in other
    assert same_table(near, other)
    assert same_table(near.replace("~held", "held "), other)
    assert not same_table(near.replace("~held", "held "), other.replace("~open", "open "))
    assert not same_table(near, other.replace("~open", "not reproduced"))


@pytest.mark.parametrize(("other", "same"), [("0.26", True), ("0.25", False)])
def test_single_numbers_may_differ_by_a_unit_as_printed(other, same):
    text = report([], [measurement(HIGH, 0.9 + SPREAD, 0.27)])
    assert same_table(text, text.replace("0.27", other, 1)) is same


def test_a_rival_may_move_as_far_as_its_difference_may():
    difference = 2 * SPREAD
    text, other, far = (
        report([], [measurement(OURS, 0.9 + SPREAD, 0.1, {"best": value + SPREAD - difference})])
        for value in (0.50, 0.54, 0.62)
    )
    assert "best 0.50, Δ 0.40 [0.30, 0.50]" in text
    assert "best 0.54, Δ 0.36 [0.26, 0.46]" in other
    assert same_table(text, other)
    assert not same_table(text, far)


def test_of_what_was_measured_in_seconds_the_verdict_alone_is_compared():
    timed = parse_card({**CARD, "claims": [{**CARD["claims"][0], "timed": True, "post_hoc": "units"}]}, where="here")
    text, other = (report([], [measurement(timed.claims["high"], value + SPREAD, 0.1)]) for value in (0.7, 0.9))
    assert "held † ‡" in text
    assert text.splitlines()[-1].startswith("‡ measured in seconds")
    assert bare("~held † ‡") == "held"
    assert same_table(text, other)
    assert not same_table(text, report([], [measurement(timed.claims["high"], 0.4 + SPREAD, 0.1)]))
    assert not same_table(text, other.replace(" ‡", "  "))


def test_only_reports_can_be_compared():
    with pytest.raises(ValueError, match="text must be a report of claims, got 'high'"):
        same_table("high", STORED)


def test_a_notebook_without_claims_says_so_and_agrees_with_none_but_its_like():
    assert read_report(report([], []) + "\n") == []
    assert same_table(report([], []), report([], []) + "\n")
    assert not same_table(report([], []), STORED)
