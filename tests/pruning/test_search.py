"""Search over categorical choices."""

from __future__ import annotations

import numpy as np
import pytest

from shared.pruning import search_choices

SPACE = {"low": ["a", "b", "c", "d"], "mid": ["a", "b", "c", "d"], "high": ["a", "b", "c", "d"], "sign": [0, 1]}


def additive(choice):
    points = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
    return points[choice["low"]] + 2 * points[choice["mid"]] - points[choice["high"]] + choice["sign"]


def test_the_process_finds_a_sum_of_choices_sooner_than_chance():
    guided = [search_choices(additive, SPACE, random_state=seed)["best"].iloc[-1] for seed in range(8)]
    chance = [
        search_choices(additive, SPACE, strategy="random", random_state=seed)["best"].iloc[-1] for seed in range(8)
    ]
    assert np.mean(guided) > np.mean(chance) + 0.5
    assert max(guided) == 10.0


def test_trials_are_distinct_and_start_alike():
    guided = search_choices(additive, SPACE, random_state=3)
    chance = search_choices(additive, SPACE, strategy="random", random_state=3)
    names = list(SPACE)
    assert not guided[names].duplicated().any()
    assert guided[:6].equals(chance[:6])
    assert (guided["best"] == guided["value"].cummax()).all()


def test_a_small_space_is_tried_whole_and_a_flat_one_is_no_error():
    assert len(search_choices(lambda c: 1.0, {"a": [1, 2, 3]}, trials=9, initial=1)) == 3


@pytest.mark.parametrize(
    ("bad", "named"),
    [({"space": {}}, "space"), ({"space": {"a": []}}, "space"), ({"trials": 0}, "trials"), ({"initial": 0}, "initial"),
     ({"strategy": "grid"}, "strategy"), ({"objective": lambda c: float("nan")}, "objective")],
)  # fmt: skip
def test_bad_calls_are_named(bad, named):
    with pytest.raises(ValueError, match=named):
        search_choices(**{"objective": additive, "space": SPACE, **bad})
