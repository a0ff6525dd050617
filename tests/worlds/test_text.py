"""Sentences say what they are labelled with."""

import itertools

import numpy as np
import pytest

from shared.worlds import (
    TEXT_CONCEPTS,
    agreement_sentences,
    concept_sentences,
    fact_prompts,
    linzen_rows,
    read_agreement,
)

PLURAL = {"are", "were"}
ALL = np.array(list(itertools.product((0, 1), repeat=len(TEXT_CONCEPTS))))


def seeded(seed=0):
    return np.random.default_rng(seed)


def test_sentences_differ_and_the_noun_between_has_the_other_number():
    sentences = agreement_sentences(201, generator=seeded())
    assert len({s.prefix for s in sentences}) == 201
    assert [s.kind for s in sentences].count("clause") == 100
    for s in sentences:
        subject, noun = s.prefix[slice(*s.subject)], s.prefix[slice(*s.attractor)]
        assert subject.endswith("s") == (s.verb in PLURAL) == (s.foil not in PLURAL) == (not noun.endswith("s"))
        assert s.prefix[: s.subject[0]].lower().endswith("the ")
        assert " the " + noun in s.prefix
    plural = [s.verb in PLURAL for s in sentences]
    assert 60 < sum(plural) < 140
    assert {s.verb for s in sentences} == {"is", "are", "was", "were"}


def test_sentences_share_no_subject_as_long_as_there_are_enough():
    sentences = agreement_sentences(80, generator=seeded())
    assert len({s.prefix[slice(*s.subject)].removesuffix("s") for s in sentences}) == 80
    assert len({s.subject[0] for s in sentences}) > 3, "the subject never moves"


def test_natural_sentences_get_their_subject_from_the_parsed_table():
    text = "the keys to the cabinet are here ."
    parsed = [
        {"orig_sentence": text, "subj_index": 2, "verb_index": 6},
        {"orig_sentence": "x", "subj_index": 1, "verb_index": 2},
    ]
    pairs = [(1, text, text.replace("are", "***mask***"), "are", "is"), (1, "not parsed", "", "are", "is")]
    (row,) = linzen_rows(parsed, pairs)
    (sentence,) = read_agreement([row])
    assert (sentence.prefix, sentence.suffix) == ("the keys to the cabinet", " here .")
    assert sentence.prefix[slice(*sentence.subject)] == "keys"
    assert (sentence.verb, sentence.foil) == ("are", "is")
    behind = [{"orig_sentence": text, "subj_index": 7, "verb_index": 6}]
    assert linzen_rows(behind, pairs) == []
    with pytest.raises(ValueError, match="no column subj_index"):
        linzen_rows([{"orig_sentence": text, "verb_index": 6}], pairs)


def test_same_generator_same_sentences():
    draws = [agreement_sentences(9, generator=seeded(3), kinds=["clause"]) for _ in range(2)]
    assert draws[0] == draws[1]


def test_table():
    row = {"prefix": "The big dog", "subject_start": 8, "subject_end": 11, "verb": "was", "foil": "were"}
    (sentence,) = read_agreement([row])
    assert sentence.prefix[slice(*sentence.subject)] == "dog"
    with pytest.raises(ValueError, match=r"row 0 has no foil"):
        read_agreement([{k: v for k, v in row.items() if k != "foil"}])
    with pytest.raises(ValueError, match="subject 8:99 is no range"):
        read_agreement([{**row, "subject_end": 99}])


def test_agreement_refuses_unknown_kinds_and_too_many():
    with pytest.raises(ValueError, match="did you mean 'clause'"):
        agreement_sentences(3, generator=seeded(), kinds=["clauses"])
    with pytest.raises(ValueError, match="n=50000 is out of range"):
        agreement_sentences(50000, generator=seeded())
    with pytest.raises(ValueError, match="kinds is empty"):
        agreement_sentences(3, generator=seeded(), kinds=[])


def test_every_combination_is_written_as_labelled():
    Y = np.repeat(ALL, 20, axis=0)
    texts = concept_sentences(Y, generator=seeded())
    words = [set(text.lower().strip(".?").split()) for text in texts]
    past, negated, plural, question, first, adjective = Y.T.astype(bool)
    assert [("not" in w) for w in words] == negated.tolist()
    assert [text.endswith("?") for text in texts] == question.tolist()
    assert [bool(w & {"i", "we"}) for w in words] == first.tolist()
    assert ["we" in w for w in words] == (first & plural).tolist()
    helped = negated | question
    assert [("did" in w) for w in words] == (past & helped).tolist()
    assert [("does" in w) for w in words] == (~past & helped & ~plural & ~first).tolist()
    lengths = {flag: {len(t.split(" the ")[-1]) for t, a in zip(texts, adjective) if a == flag} for flag in (0, 1)}
    assert len(lengths[0]) > 1 < len(lengths[1])
    assert all(text[0].isupper() and text[-1] in ".?" for text in texts)


def test_known_sentences():
    class Fixed:
        def choice(self, n, size):
            return np.zeros(size, dtype=int)

    rows = [[0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]
    assert concept_sentences(np.array(rows), generator=Fixed()) == [
        "The farmer sees the car.",
        "The farmers saw the red car.",
        "Did we not see the red car?",
        "The farmer does not see the car.",
        "Do I see the car?",
    ]


@pytest.mark.parametrize("Y", [np.zeros((2, 5)), np.zeros(6), np.full((2, 6), 2.0), np.full((1, 6), np.nan)])
def test_wrong_labels(Y):
    with pytest.raises(ValueError, match="Y has shape"):
        concept_sentences(Y, generator=seeded())


def test_the_evidence_of_a_fact_is_the_asked_persons_city():
    prompts = fact_prompts(50, generator=seeded())
    for p in prompts:
        person = p.text.split("Where does ")[1].split(" live")[0]
        assert p.text[slice(*p.evidence)] == p.answer
        assert p.text[: p.evidence[0]].endswith(f"{person} lives in ")
        assert p.text.endswith(f"{person} lives in")
        assert len({p.answer, *p.others}) == 3
        assert all(f"lives in {city}." in p.text for city in p.others)
    assert len({p.evidence[0] for p in prompts}) > 10
    assert fact_prompts(3, generator=seeded(1)) == fact_prompts(3, generator=seeded(1))
    with pytest.raises(ValueError, match="facts=14 is out of range"):
        fact_prompts(1, generator=seeded(), facts=14)
