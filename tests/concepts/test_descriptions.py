"""FADE's scores by their definitions, scikit-learn, and what must not change them; judges that answer badly."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from shared.concepts import (
    ChatJudge,
    Judge,
    JudgeError,
    LexiconJudge,
    clarity,
    describe_by_tfidf,
    faithfulness,
    rated,
    ratings_by_similarity,
    responsiveness_purity,
    sample_by_activation,
    separation,
)

JUDGE = LexiconJudge({"dogs": ["dog", "puppy"]}, templates=["A {}.", "The {} ran."])


def drawn(n=80, k=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, k, generator=rng).round(decimals=1)  # with ties
    return x, torch.randint(0, 3, (n, k), generator=rng)


def test_both_measures_equal_scikit_learn():
    x, ratings = drawn()
    found = responsiveness_purity(x, ratings)
    for j in range(3):
        keep = ratings[:, j] != 1
        values, labels = x[keep, j].numpy(), (ratings[keep, j] == 2).numpy()
        area = roc_auc_score(labels, values)
        assert float(found.gini[j]) == pytest.approx(abs(2 * area - 1))
        want = average_precision_score(labels, values if area >= 0.5 else -values)
        assert float(found.precision[j]) == pytest.approx(want)


def test_sign_and_monotone_transforms_change_nothing_and_prevalence_only_precision():
    x, ratings = drawn()
    one = separation(x, ratings == 2)
    for other in (separation(-x, ratings == 2), separation(x.exp(), ratings == 2)):
        assert torch.allclose(one.gini, other.gini)
        assert torch.allclose(one.precision, other.precision)
    negatives = [x[ratings[:, j] != 2, j] for j in range(3)]
    for j, negative in enumerate(negatives):
        twice, labels = torch.cat([x[:, j], negative])[:, None], torch.zeros(len(x) + len(negative), 1, dtype=bool)
        labels[: len(x), 0] = ratings[:, j] == 2
        again = separation(twice, labels)
        assert float(again.gini) == pytest.approx(float(one.gini[j]))
        assert float(again.precision) < float(one.precision[j])


def test_clarity_is_of_all_natural_texts():
    natural, synthetic = torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([[5.0], [6.0]])
    assert float(clarity(natural, synthetic)) == pytest.approx(2 * 6 / 8 - 1)
    assert float(clarity(-natural, -synthetic)) == pytest.approx(0.5)


def test_missing_positives_or_negatives_give_no_score_and_unrated_texts_do_not_count():
    x, ratings = drawn()
    ratings[:, 0], ratings[:, 1] = 0, 2
    found = responsiveness_purity(x, ratings)
    assert found.gini.isnan().tolist() == found.precision.isnan().tolist() == [True, True, False]
    ratings[:10, 2] = -1
    assert torch.equal(responsiveness_purity(x, ratings).gini[2:], responsiveness_purity(x[10:], ratings[10:]).gini[2:])
    with pytest.raises(ValueError, match="ratings must be 0, 1 or 2"):
        responsiveness_purity(x, ratings + 2)


def test_the_sample_takes_112_of_each_stretch_and_the_strongest_52():
    x = torch.randperm(2000, generator=torch.Generator().manual_seed(0)).float()
    rows = sample_by_activation(x, 500, generator=np.random.default_rng(0))
    values = x[rows].numpy()
    assert len(set(rows.tolist())) == len(rows) <= 500
    low, middle, high = (((values >= a) & (values < b)).sum() for a, b in ((0, 1000), (1000, 1500), (1500, 1900)))
    assert (low, middle, high) == (112, 112, 112)
    assert set(range(1948, 2000)) <= set(values.astype(int).tolist())
    assert sample_by_activation(x[:500], 500, generator=np.random.default_rng(0)).tolist() == list(range(500))
    none_left = sample_by_activation(x, 400, top=0.0, generator=np.random.default_rng(0))
    assert len(none_left) == 400  # the authors' slice would add all texts here


@pytest.mark.parametrize(
    ("rates", "want"),
    [
        ({0: 0.2, 1: 0.2, 10: 0.6}, (0.5, 10.0)),
        ({0: 0.5, 10: 0.1}, (0.0, 0.0)),
        ({0: 0.0, -10: 1.0, 50: 0.3}, (1.0, -10.0)),
        ({0: 1.0, 10: 1.0}, (0.0, 0.0)),
    ],
)
def test_faithfulness_is_the_gain_over_the_feature_switched_off(rates, want):
    assert faithfulness(rates) == pytest.approx(want)


def test_faithfulness_needs_the_feature_switched_off():
    with pytest.raises(ValueError, match="rates lacks factor 0"):
        faithfulness({1: 0.2})
    with pytest.raises(ValueError, match=r"rates=1\.5 is out of range"):
        faithfulness({0: 1.5})


def test_words_of_the_strongest_texts_describe_a_feature():
    texts = ["river flows north", "river lake water", "river bank"] * 2 + ["film actor", "film music", "film star"] * 2
    fires = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
    assert describe_by_tfidf(fires, texts, n_top=6, n_words=1, min_texts=1) == ["river", "film"]


def test_a_lexicon_rates_whole_words_and_fills_templates():
    assert isinstance(JUDGE, Judge)
    assert JUDGE.rate("dogs", ["The Dog and a puppy", "a dog", "dogma"]) == [2, 1, 0]
    assert JUDGE.generate("dogs", 3) == ["A dog.", "The dog ran.", "A puppy."]
    with pytest.raises(ValueError, match="concept='cats' isn't in the lexicon"):
        JUDGE.rate("cats", ["a"])
    assert rated(JUDGE, "dogs", ["a dog"]).tolist() == [1]
    with pytest.raises(ValueError, match="concept is empty"):
        rated(JUDGE, " ", ["a dog"])


def test_a_chat_judge_reads_answers_asks_again_and_leaves_out_what_is_missing():
    answers = iter(["Sure!", '{"0": 2, "1": 0}', "```python\n{0: 1}\n```"])
    judge = ChatJudge(lambda system, user: next(answers), batch_size=2)
    assert judge.rate("dogs", ["a", "b", "c"]) == [2, 0, 1]
    assert rated(ChatJudge(lambda system, user: "{1: 2}"), "dogs", ["a", "b"]).tolist() == [-1, 2]
    texts = ChatJudge(lambda system, user: '["a dog", "a puppy", "a dog"]').generate("dogs", 5)
    assert texts == ["a dog", "a puppy"]


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("I think they are about dogs.", "returned prose"),
        ("", "returned nothing"),
        (None, "returned nothing"),
        ("{0: 3}", "rating 3"),
        ("{0: True}", "rating True"),
        ("[0, 1]", "returned list"),
        ("{'a': 1}", "key 'a'"),
    ],
)
def test_a_judge_that_returns_prose_or_nothing_is_named(answer, match):
    with pytest.raises(JudgeError, match=match):
        ChatJudge(lambda system, user: answer).rate("dogs", ["a"])


def test_other_judges_are_held_to_their_ratings():
    class Odd(LexiconJudge):
        def rate(self, concept, texts):
            return {"few": [0], "none": None, "five": [5] * len(texts)}[concept]

    judge = Odd({"dogs": ["dog"]})
    for concept, match in (("few", "1 ratings for 2 texts"), ("none", "returned nothing"), ("five", "rating 5")):
        with pytest.raises(JudgeError, match=match):
            rated(judge, concept, ["a", "b"])
    with pytest.raises(JudgeError, match="no list of texts"):
        ChatJudge(lambda system, user: "{}").generate("dogs", 2)


def test_ratings_by_cosine():
    texts = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    ratings = ratings_by_similarity(texts, torch.tensor([[3.0, 0.0]]), vague=0.5, clear=0.9)
    assert ratings[:, 0].tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match=r"clear=0\.2 is out of range"):
        ratings_by_similarity(texts, texts, vague=0.5, clear=0.2)
