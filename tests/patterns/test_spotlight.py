"""Comparing two collections of texts, and changing texts in a known way."""

import numpy as np
import pytest

from shared.patterns import Spotlight, casualise, first_gender, swap_pronouns, tokenize_words


@pytest.fixture(scope="module")
def groups():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]

    def texts(extra, n=80):
        return [" ".join([*rng.choice(words, 12), *(extra if rng.random() < 0.6 else [])]) for _ in range(n)]

    return texts(["Ahoy", "matey"]), texts(["Good", "evening"])


def test_finds_what_was_added_to_each_group(groups):
    model = Spotlight(("pirate", "butler")).fit(*groups)
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


@pytest.mark.parametrize(
    ("text", "to", "want"),
    [
        ("He said his dog saw him.", "female", "She said her dog saw her."),
        ("She lost her keys; it upset her.", "male", "He lost his keys; it upset him."),
        ("The theatre is theirs, not hers.", "male", "The theatre is theirs, not his."),
        ("Nobody here.", "female", "Nobody here."),
    ],
)
def test_pronouns(text, to, want):
    got, log = swap_pronouns(text, to)
    assert got == want
    assert len(log) == sum(a != b for a, b in zip(text.split(), want.split()))
    assert all(old != new for old, new in log)


def test_first_gender():
    assert first_gender("There she is with him") == "female"
    assert first_gender("His day") == "male"
    assert first_gender("The heron") is None
    with pytest.raises(ValueError, match="to='other' is unknown"):
        swap_pronouns("he", "other")


EMAIL = "Dear Professor Li,\n\nI hope this email finds you well. I would like to ask, please. Best regards, Kim"


def test_casual_changes_are_logged_and_complete():
    text, log = casualise(EMAIL, np.random.default_rng(0), rate=1.0)
    old = {a for a, _ in log if a}
    assert old == {"Dear Professor", "I hope this email finds you well.", "would like to", "please", "Best regards,"}
    assert all(a not in text for a in old)
    assert all(b in text for _, b in log)
    assert casualise(EMAIL, np.random.default_rng(0), rate=0.0) == (EMAIL, [])


def test_casual_rate():
    rng = np.random.default_rng(1)
    greeted = np.mean(["Dear" not in casualise(EMAIL, rng)[0] for _ in range(400)])
    assert greeted == pytest.approx(0.3, abs=0.07)
    with pytest.raises(ValueError, match="rate=2 is out of range"):
        casualise(EMAIL, rng, rate=2)
    used = {new for _ in range(60) for old, new in casualise(EMAIL, rng, 1.0, variants=2)[1] if not old}
    assert used == {"😊", "😂"}
