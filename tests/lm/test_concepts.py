"""Sentences with set grammar, and mean hidden states."""

import itertools

import numpy as np
import pytest
import torch

from shared import lm, zoo
from shared.hooks import capture
from tests.papers.hub import tiny_llama

ALL = np.array(list(itertools.product((0, 1), repeat=len(lm.TEXT_CONCEPTS))))


def test_every_combination_is_written_as_labelled():
    Y = np.repeat(ALL, 20, axis=0)
    texts = lm.concept_sentences(Y, rng=np.random.default_rng(0))
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
    assert lm.concept_sentences(np.array(rows), rng=Fixed()) == [
        "The farmer sees the car.",
        "The farmers saw the red car.",
        "Did we not see the red car?",
        "The farmer does not see the car.",
        "Do I see the car?",
    ]


@pytest.mark.parametrize("Y", [np.zeros((2, 5)), np.zeros(6), np.full((2, 6), 2.0), np.full((1, 6), np.nan)])
def test_wrong_labels(Y):
    with pytest.raises(ValueError, match="Y has shape"):
        lm.concept_sentences(Y, rng=np.random.default_rng(0))


def test_mean_states_by_their_definition(tmp_path):
    tiny_llama(tmp_path / "m")
    loaded = zoo.load_model(str(tmp_path / "m"))
    texts = ["the old house", "a key", "good film by the river in the city", "key"]
    found = lm.mean_states(loaded, texts, "model.layers.1", batch_size=3)
    for text, row in zip(texts, found):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad(), capture(loaded.model, "model.layers.1") as seen:
            loaded.model(torch.tensor([[loaded.tokenizer.bos_token_id, *ids]]))
        torch.testing.assert_close(row, seen["model.layers.1"][0, 1:].mean(0), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="texts"):
        lm.mean_states(loaded, ["a", ""], "model.layers.1")
