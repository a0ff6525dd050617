"""Comparing two collections of texts, and changing texts in a known way."""

import numpy as np
import pytest

from shared.patterns import Spotlight, tokenize_words


@pytest.fixture(scope="module")
def groups():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]

    def texts(extra, n=80):
        return [" ".join([*rng.choice(words, 12), *(extra if rng.random() < 0.6 else [])]) for _ in range(n)]

    return texts(["Ahoy", "matey"]), texts(["Good", "evening"])


def test_finds_what_was_added_to_each_group(groups):
    model = Spotlight(names=("pirate", "butler")).fit(*groups)
    towards = {t: p.direction for t, p in zip(model.token_sets(), model.patterns_)}
    assert towards[frozenset({"Ahoy", "matey"})] == 0
    assert towards[frozenset({"Good", "evening"})] == 1
    frame = model.to_frame()
    assert {"pirate", "butler", "pattern", "p"} <= set(frame.columns)
    assert frame["towards"].isin(["pirate", "butler"]).all()


def test_swapping_the_groups_swaps_directions_and_nothing_else(groups):
    a, b = Spotlight().fit(*groups), Spotlight().fit(*groups[::-1])
    mirrored = {(s, p.support[::-1], 1 - p.direction) for s, p in zip(b.token_sets(), b.patterns_)}
    assert mirrored == {(s, p.support, p.direction) for s, p in zip(a.token_sets(), a.patterns_)}


def test_examples_hold_the_pattern(groups):
    model = Spotlight().fit(*groups)
    for index, tokens in enumerate(model.token_sets()):
        shown = model.examples(index)
        assert shown
        assert all(tokens <= set(tokenize_words(t)) for t in shown)


def test_identical_groups_differ_in_nothing(groups):
    model = Spotlight().fit(groups[0], groups[0])
    assert model.patterns_ == []
    assert model.saved_bits_ == 0


def test_bad_groups(groups):
    with pytest.raises(ValueError, match="first is empty"):
        Spotlight().fit([], groups[0])
    with pytest.raises(TypeError, match="second holds NoneType; expected strings"):
        Spotlight().fit(groups[0], ["a", None])
    with pytest.warns(UserWarning, match="second has only 2 texts"):
        Spotlight().fit(groups[0], ["a b", "c"])
