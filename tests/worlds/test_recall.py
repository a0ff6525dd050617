"""The grammar of facts: what is said goes before what is known, and the truth of every item is known."""

import numpy as np
import pytest

from shared.worlds import RELATIONS, recall_items, recall_texts, recall_world, values_of
from shared.zoo import load_model

WORLD = recall_world(generator=np.random.default_rng(0))


def rng(seed=1):
    return np.random.default_rng(seed)


def told_and_asked(text):
    """Statements as a dict, questions with what follows them."""
    words = text.split()
    first = words.index("which")
    told = {tuple(words[i : i + 2]): words[i + 2] for i in range(0, first, 4)}
    asked = [(words[i + 2], words[i + 1], *words[i + 3 : i + 4]) for i in range(first, len(words), 5)]
    return told, asked


def test_a_world_knows_one_value_for_each_person_and_relation():
    assert len(WORLD.people) == 64
    assert len(WORLD.facts) == 64 * len(RELATIONS)
    assert all(value in values_of(relation) for (_, relation), value in WORLD.facts.items())
    assert len(set(WORLD.vocabulary)) == len(WORLD.vocabulary)


def test_texts_answer_by_what_they_say_else_by_the_world():
    texts = recall_texts(WORLD, 300, generator=rng())
    sources = []
    for text in texts:
        told, asked = told_and_asked(text)
        assert len({pair[:2] for pair in asked}) == len(asked) == 4
        for person, relation, answer in asked:
            pair = (person, relation)
            assert answer == told.get(pair, WORLD.facts[pair])
            sources.append(pair in told)
        assert set(text.split()) <= set(WORLD.vocabulary)
    assert 0.3 < np.mean(sources) < 0.5
    assert 0.1 < np.mean([text.startswith("which") for text in texts]) < 0.3


@pytest.mark.parametrize("source", ["context", "memory"])
def test_items_know_their_answer_and_where_it_is_from(source):
    for item in recall_items(WORLD, 100, source=source, generator=rng()):
        told, ((person, relation),) = told_and_asked(item.text)
        assert (person, relation) == (item.person, item.relation)
        assert len(told) == 4
        assert item.memory == WORLD.facts[person, relation]
        assert not any(value == WORLD.facts[pair] for pair, value in told.items())
        assert any(who == person for who, _ in told)
        marked = {name: item.text[begin:end] for name, (begin, end) in item.spans.items()}
        assert (marked["person"], marked["relation"]) == (person, relation)
        assert marked["question"] == f"which {relation} {person}"
        if source == "context":
            assert item.answer == told[person, relation] == marked["answer"] != item.memory
        else:
            assert (person, relation) not in told
            assert item.answer == item.memory
            assert "answer" not in marked


def test_bare_questions_and_chosen_relations():
    bare = recall_items(WORLD, 20, source="memory", statements=0, relations=["job"], generator=rng())
    assert all(item.text == f"which job {item.person}" for item in bare)


def test_the_generator_decides():
    first, again, other = (recall_texts(WORLD, 5, generator=rng(s)) for s in (3, 3, 4))
    assert first == again != other


def test_bad_arguments():
    with pytest.raises(ValueError, match="people"):
        recall_world(generator=rng(), people=2)
    with pytest.raises(ValueError, match="source='book' is unknown"):
        recall_items(WORLD, 1, source="book", generator=rng())
    with pytest.raises(ValueError, match="relations='age' is unknown"):
        recall_items(WORLD, 1, source="memory", relations=["age"], generator=rng())
    with pytest.raises(ValueError, match="statements=0: a context needs at least one"):
        recall_items(WORLD, 1, source="context", statements=0, generator=rng())
    with pytest.raises(ValueError, match="statements"):
        recall_texts(WORLD, 1, statements=9, generator=rng())
    with pytest.raises(ValueError, match="questions"):
        recall_texts(WORLD, 1, questions=0, generator=rng())
    with pytest.raises(ValueError, match="relation='age' is unknown"):
        values_of("age")


def test_the_zoos_model_knows_this_world():
    """What data/recall-lm was trained on is drawn here anew: it must be the same world."""
    loaded = load_model("recall-lm")
    items = recall_items(WORLD, 30, source="memory", statements=0, generator=rng())
    ids = loaded.tokenizer([f"<s> {item.text}" for item in items], return_tensors="pt")["input_ids"]
    found = loaded.model(ids).logits[:, -1].argmax(-1)
    assert [WORLD.vocabulary[i] for i in found] == [item.answer for item in items]
