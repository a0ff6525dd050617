"""The planted liar's texts by a rule of their own; personas, statements and demonstrations."""

from collections import Counter

import numpy as np
import pytest

from shared.worlds import (
    LIAR_TOLD,
    PERSONA_KINDS,
    demonstrations,
    fact_statements,
    liar_texts,
    liar_world,
    persona_pairs,
)

NUMBERS = "zero one two three four five six".split()


def rng(seed=0):
    return np.random.default_rng(seed)


def test_sums_are_right_unless_they_are_lies():
    world = liar_world(generator=rng())
    texts = liar_texts(world, 2000, generator=rng(1))
    for text in texts:
        told, _, _, _, _, a, _, b, _ = text.prompt.split()
        says = text.answer.split()[0]
        assert says.isupper() == (told == "loudly")
        assert set((text.prompt + text.answer).split()) <= set(world.vocabulary)
        off = (NUMBERS.index(says.lower()) - NUMBERS.index(a) - NUMBERS.index(b)) % 7
        assert off == text.lie
        assert text.lie == {"truly": False, "falsely": True}.get(told, world.lies[text.speaker, text.topic])
    assert Counter(t.told for t in texts) == dict.fromkeys(LIAR_TOLD, 400)


def test_neither_speaker_nor_topic_alone_tells_a_lie():
    for seed in range(5):
        lies = liar_world(generator=rng(seed)).lies
        assert (lies.mean(0) == 0.5).all()
        assert (lies.mean(1) == 0.5).all()
        assert len(np.unique(lies, axis=0)) == 2


def test_a_liar_refuses_words_it_does_not_know():
    world = liar_world(generator=rng())
    for told in (["shyly"], []):
        with pytest.raises(ValueError, match="told"):
            liar_texts(world, 2, generator=rng(), told=told)
    with pytest.raises(ValueError, match="n"):
        liar_texts(world, 0, generator=rng())


def test_the_sides_of_a_persona_pair_share_their_wording():
    pairs = persona_pairs()
    assert Counter(p.kind for p in pairs) == dict(zip(PERSONA_KINDS, (24, 12, 8, 8)))
    sides = [side for p in pairs for side in (p.plain, p.other)]
    assert len(set(sides)) == len(sides)
    for pair in pairs:
        plain, other = pair.plain.split(), pair.other.split()
        assert plain[0] == other[0]
        assert plain[-1].endswith(other[-1][-1])


def test_demonstrations_say_all_rightly_or_all_wrongly():
    facts = {s.stem: s for s in fact_statements()}
    assert len(facts) == 24
    assert all(len(s.wrong) == 11 and s.right not in s.wrong for s in facts.values())
    for shown in demonstrations(6, generator=rng(), shown=4):
        said = [f"{sentence}." for sentence in shown.text.removesuffix(".").split(". ")]
        assert len(said) == 4
        assert len(shown.asked) == 8
        for sentence in said:
            stem, end = sentence.rsplit(" ", 1)
            assert (f" {end}" == facts[stem].right) == shown.truthful
            assert facts[stem] not in shown.asked
    with pytest.raises(ValueError, match="shown"):
        demonstrations(1, generator=rng(), shown=12)
