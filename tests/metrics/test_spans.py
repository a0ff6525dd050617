"""Span and page scores of foreign words."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from shared.metrics import page_scores, plain_words, span_scores

GOLD = [["arma virumque cano", "nostra est"], [], ["quantum meruit"]]


def test_truth_as_prediction_is_perfect():
    scores = span_scores(GOLD, GOLD)
    assert scores.f1[[0, 2]].tolist() == scores.recall[[0, 2]].tolist() == [1, 1]
    assert np.isnan(scores.f1[1])
    assert span_scores([[]] * 3, GOLD).f1[[0, 2]].tolist() == [0, 0]


def test_a_whole_page_has_full_recall_and_the_share_as_precision():
    page = ["he said nunc est bibendum and drank"]
    scores = span_scores([page], [["nunc est bibendum"]])
    assert (scores.recall[0], scores.precision[0]) == (1, 3 / 7)


@pytest.mark.parametrize(
    ("read", "printed", "fits"),
    [("noftra", "nostra", 1), ("eft", "est", 0), ("uirumq", "virumque", 0), ("virumqu", "virumque", 1), ("", "est", 0)],
)
def test_tolerance_grows_with_the_true_words_length(read, printed, fits):
    assert span_scores([[read]], [[printed]]).matched[0] == fits


def test_the_first_fit_may_lose_a_pair_that_the_best_pairing_finds():
    """'canus' takes 'canos', the only one that 'cantos' could have had."""
    predicted, gold = [["canus", "cantos"]], [["canos", "canis"]]
    assert span_scores(predicted, gold).matched[0] == 1
    assert span_scores(predicted, gold, optimal=True).matched[0] == 2


def test_exact_matching_needs_no_best_pairing():
    words = np.random.default_rng(0).choice(["est", "nostra", "virum", "cano"], size=(2, 30))
    one, other = ([[" ".join(row)]] for row in words)
    assert span_scores(one, other, theta=0).matched == span_scores(one, other, theta=0, optimal=True).matched


def test_matches_agree_with_a_plain_loop():
    """The equation, word by word, with a distance of its own."""

    def distance(a, b):
        if not a or not b:
            return len(a) + len(b)
        swap = distance(a[1:], b[1:]) + (a[0] != b[0])
        return min(swap, distance(a[1:], b) + 1, distance(a, b[1:]) + 1)

    rng = np.random.default_rng(1)
    predicted, gold = (["".join(rng.choice(list("abc"), size=rng.integers(3, 6))) for _ in range(12)] for _ in range(2))
    free, count = list(range(12)), 0
    for word in predicted:
        hit = next((j for j in free if distance(word, gold[j]) <= 0.4 * len(gold[j])), None)
        if hit is not None:
            free.remove(hit)
            count += 1
    assert span_scores([predicted], [gold], theta=0.4).matched[0] == count


def test_words_are_made_plain_as_the_benchmark_does():
    assert plain_words("Quò uſque, ŒDIPUS — & 1736 pe- ne") == ["quo", "usque", "oedipus", "—", "et", "pene"]


def test_page_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    said, is_so = rng.random((2, 40)) > 0.4
    scores = page_scores(said, is_so)
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(is_so, said))
    assert scores["macro_f1"] == pytest.approx(f1_score(is_so, said, average="macro"))
    assert page_scores([True, True], [True, False])["mcc"] == 0


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="predicted has 1 pages, truth has 2"):
        span_scores([[]], [[], []])
    with pytest.raises(ValueError, match=r"theta=1\.5"):
        span_scores([[]], [[]], theta=1.5)
    with pytest.raises(ValueError, match="predicted has 0 pages, truth has 0"):
        page_scores([], [])
