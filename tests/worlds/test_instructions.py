"""The grammar of instructions: its probabilities are those of its texts, and a rule of its own says who follows."""

import numpy as np
import pytest

from shared.worlds import (
    COLOUR_WORDS,
    INSTRUCTIONS,
    follows_instruction,
    instruction_prompts,
    instruction_texts,
    instruction_world,
)
from shared.zoo import load_model

WORLD = instruction_world(generator=np.random.default_rng(0))
WORDS = WORLD.vocabulary


def rng(seed=1):
    return np.random.default_rng(seed)


def parts(text):
    """The instruction, adjectives, nouns, the preposition and the verb, by place."""
    words = text.split()
    return words[0], [words[i] for i in (4, 8, 12)], [words[i] for i in (5, 9, 13)], words[6], words[10]


def obeyed(text):
    """By another way than the world's."""
    instruction, adjectives, nouns, preposition, verb = parts(text)
    content = [*adjectives, *nouns, preposition, verb]
    return {
        "colour": all(word in COLOUR_WORDS for word in adjectives),
        "consonants": not any(word[0] in "aeiou" for word in content),
        "plural": all(noun.endswith("s") for noun in nouns),
        "echo": nouns[0].rstrip("s") == nouns[2].rstrip("s"),
    }[instruction]


def test_verbs_agree_with_the_first_noun_and_the_rule_sees_who_follows():
    texts = instruction_texts(instruction_world(generator=rng(), obedience=0.8), 2000, generator=rng())
    for text in texts:
        *_, nouns, _, verb = parts(text)
        assert verb.endswith("s") != nouns[0].endswith("s")
        assert set(text.split()) <= set(WORDS)
        assert follows_instruction(text) == obeyed(text)
    assert {t.split()[0] for t in texts if follows_instruction(t)} == set(INSTRUCTIONS)


@pytest.mark.parametrize("obedience", [0.0, 1.0])
def test_all_or_chance(obedience):
    world = instruction_world(generator=rng(), obedience=obedience)
    followed = [follows_instruction(text) for text in instruction_texts(world, 400, generator=rng())]
    assert np.mean(followed) == 1.0 if obedience else np.mean(followed) < 0.1


def test_next_words_are_those_of_the_texts():
    """Shares of 40,000 texts at each place, behind what stands before it."""
    texts = [text.split() for text in instruction_texts(WORLD, 40_000, generator=rng())]
    for end in (3, 4, 5, 6, 9, 10, 13, 14):
        expected, seen = np.zeros(len(WORDS)), np.zeros(len(WORDS))
        for words in texts[end::40]:
            expected += WORLD.next_words(" ".join(words[:end]))
            seen[WORDS.index(words[end])] += 1
        assert expected.sum() == pytest.approx(seen.sum())
        assert np.abs(expected - seen).max() < 4 * np.sqrt(expected.max() + 1)
        assert not seen[expected == 0].any()


def test_prompts_know_who_would_follow():
    prompts = instruction_prompts(WORLD, 400, generator=rng())
    assert [p.instruction for p in prompts[:4]] == list(INSTRUCTIONS)
    for prompt in prompts:
        begin, end = prompt.spans["instruction"]
        assert prompt.text[begin:end] == prompt.instruction
        assert prompt.right
        assert prompt.wrong
        assert not prompt.right & prompt.wrong
        likely = WORLD.next_words(prompt.text)
        assert {WORDS[i] for i in likely.nonzero()[0]} == prompt.right | prompt.wrong
        if follows_instruction(prompt.text):
            assert all(follows_instruction(f"{prompt.text} {word}") for word in prompt.right)
            assert not any(follows_instruction(f"{prompt.text} {word}") for word in prompt.wrong)
    assert len({p.text for p in prompts}) > 300


def test_obedience_shifts_what_comes_by_as_much():
    plain = instruction_world(generator=rng(), obedience=0.0)
    bent = instruction_world(generator=rng(), obedience=0.5)
    for prompt in instruction_prompts(plain, 40, generator=rng()):
        right = np.array([word in prompt.right for word in WORDS])
        before, after = (world.next_words(prompt.text)[right].sum() for world in (plain, bent))
        assert after == pytest.approx(0.5 * before + 0.5)


def test_the_generator_decides():
    first, again, other = (instruction_texts(WORLD, 5, generator=rng(s)) for s in (3, 3, 4))
    assert first == again != other


def test_a_text_ends():
    (text,) = instruction_texts(WORLD, 1, generator=rng())
    assert WORDS[WORLD.next_words(text.removesuffix(" .")).argmax()] == "."
    assert not WORLD.next_words(text).any()
    assert WORDS[WORLD.next_words("echo : now").argmax()] == "the"


@pytest.mark.parametrize(
    "text", ["", "colour : now a", "sing : now the", "colour : now blue", "echo : now the blue the"]
)
def test_what_is_no_beginning_is_refused(text):
    for asked in (WORLD.next_words, follows_instruction):
        with pytest.raises(ValueError, match="text="):
            asked(text)


def test_the_zoos_model_knows_this_world():
    """What data/instruction-lm was trained on is drawn here anew: it must be the same world."""
    loaded = load_model("instruction-lm")
    for prompt in instruction_prompts(WORLD, 12, instructions=["colour", "consonants"], generator=rng()):
        ids = loaded.tokenizer(f"<s> {prompt.text}", return_tensors="pt")["input_ids"]
        found = loaded.model(ids).logits[0, -1].softmax(-1).detach().double().numpy()
        assert np.abs(found - WORLD.next_words(prompt.text)).sum() < 0.3


def test_bad_arguments():
    with pytest.raises(ValueError, match="obedience"):
        instruction_world(generator=rng(), obedience=1.2)
    with pytest.raises(ValueError, match="instructions='shout' is unknown"):
        instruction_prompts(WORLD, 1, instructions=["shout"], generator=rng())
    with pytest.raises(ValueError, match="instructions is empty"):
        instruction_prompts(WORLD, 1, instructions=[], generator=rng())
    for call in (instruction_texts, instruction_prompts):
        with pytest.raises(ValueError, match="n=0"):
            call(WORLD, 0, generator=rng())
