"""SepLang: the truth of every item, by a second reading of its text."""

import numpy as np
import pytest

from shared.worlds import SEP_PLACES, SEP_PROBES, SEP_VOCABULARY, sep_items


def rng(seed=1):
    return np.random.default_rng(seed)


def read(item):
    """What the prompt asks for, from its words alone."""
    (told, _), (given, _) = item.parts
    told, given = told.split()[1:], given.split()[1:-1]
    executed = [word.split("-")[1] for word in told if word.startswith("say-")]
    (task,) = [word for word in told if not word.startswith("say-")]
    letters = [word for word in given if not word.startswith("say-")]
    place = {"first": 0, "second": 1, "last": -1}
    found = letters[place[task]] if task in place else sorted(letters)[{"lowest": 0, "highest": -1}[task]]
    return " ".join([*executed, found, "."]), len(given) - len(letters)


@pytest.mark.parametrize("place", SEP_PLACES)
def test_answers_follow_the_instructions_only(place):
    for item in sep_items(200, generator=rng(), place=place):
        answer, quoted = read(item)
        assert item.answer == answer
        assert quoted == (place == "data")
        assert item.obedient == (f"{item.witness} {answer}" if place == "data" else answer)
        words = " ".join(text for text, _ in item.parts).split() + item.answer.split()
        assert set(words) <= set(SEP_VOCABULARY)
        assert [role for _, role in item.parts] == ["instruction", "data"]
    assert len(set(SEP_VOCABULARY)) == len(SEP_VOCABULARY)


def test_an_item_moves_its_probe_and_nothing_else():
    (item,) = sep_items(1, generator=rng(), place="data")
    moved = item.at("instruction", side="left")
    assert moved.parts[0][0] == f"instruction: {item.probe} {item.task}"
    assert moved.parts[1][0] == "data: " + " ".join(item.letters) + " response:"
    assert moved.at("data", side=item.side) == item
    assert sep_items(1, generator=rng(), place="none")[0] == item.at("none")
    few = sep_items(50, generator=rng(), probes=SEP_PROBES[:2])
    assert {i.probe for i in few} == {*SEP_PROBES[:2]}


def test_bad_input_is_refused():
    for spoilt, message in (
        ({"n": 0}, "n=0"),
        ({"place": "head"}, "place='head'"),
        ({"probes": ["say"]}, "probes='say'"),
        ({"probes": []}, "probes is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            sep_items(**{"n": 2, "generator": rng(), **spoilt})
    with pytest.raises(ValueError, match="side='top'"):
        sep_items(1, generator=rng())[0].at("data", side="top")
