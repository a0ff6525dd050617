"""Edits of texts: the log says all that was changed."""

import numpy as np
import pytest

from shared.worlds import casualise, first_gender, swap_pronouns


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
    got, log = swap_pronouns(text, to=to)
    assert got == want
    assert len(log) == sum(a != b for a, b in zip(text.split(), want.split()))
    assert all(old != new for old, new in log)


def test_first_gender():
    assert first_gender("There she is with him") == "female"
    assert first_gender("His day") == "male"
    assert first_gender("The heron") is None
    with pytest.raises(ValueError, match="to='other' is unknown"):
        swap_pronouns("he", to="other")


EMAIL = "Dear Professor Li,\n\nI hope this email finds you well. I would like to ask, please. Best regards, Kim"


def test_casual_changes_are_logged_and_complete():
    text, log = casualise(EMAIL, generator=np.random.default_rng(0), rate=1.0)
    old = {a for a, _ in log if a}
    assert old == {"Dear Professor", "I hope this email finds you well.", "would like to", "please", "Best regards,"}
    assert all(a not in text for a in old)
    assert all(b in text for _, b in log)
    assert casualise(EMAIL, generator=np.random.default_rng(0), rate=0.0) == (EMAIL, [])


def test_casual_rate():
    rng = np.random.default_rng(1)
    greeted = np.mean(["Dear" not in casualise(EMAIL, generator=rng)[0] for _ in range(400)])
    assert greeted == pytest.approx(0.3, abs=0.07)
    with pytest.raises(ValueError, match="rate=2 is out of range"):
        casualise(EMAIL, generator=rng, rate=2)
    used = {new for _ in range(60) for old, new in casualise(EMAIL, generator=rng, rate=1.0, variants=2)[1] if not old}
    assert used == {"😊", "😂"}
