"""Agreement sentences: templates, tokens of the subject, verbs of one token, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shared.lm import agreement_batches, single_token
from shared.worlds import agreement_sentences
from tests.papers.hub import WORDS, tiny_tokenizer, tiny_wordpiece_tokenizer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def bpe(tmp_path):
    return tiny_tokenizer(tmp_path)


def test_subject_tokens_also_when_the_word_is_split(bpe, rng):
    sentences = agreement_sentences(60, generator=rng)
    batches = agreement_batches(bpe, sentences)
    assert sum(len(b) for b in batches) == 60
    assert [b.ids.shape[1] for b in batches] == sorted({b.ids.shape[1] for b in batches})
    assert any((b.truth.sum(1) > 1).any() for b in batches), "no split subject among the sentences: nothing tested"
    for b in batches:
        for row, s in enumerate(b.sentences):
            assert bpe.decode(b.ids[row][b.truth[row]]).strip() == s.prefix[slice(*s.subject)]
            assert bpe.decode(b.ids[row][b.attractor[row]]).strip() == s.prefix[slice(*s.attractor)]
        assert not b.words[:, 0].any()
        assert b.words[:, 1:].all()
        assert (b.position == b.ids.shape[1] - 1).all()
        assert bpe.convert_ids_to_tokens(b.right) == ["Ġ" + s.verb for s in b.sentences]


def test_masked_sentences(tmp_path, rng):
    tokenizer = tiny_wordpiece_tokenizer(tmp_path)
    for b in agreement_batches(tokenizer, agreement_sentences(30, generator=rng), masked=True):
        at = b.ids.gather(1, b.position[:, None]).flatten()
        assert (at == tokenizer.mask_token_id).all()
        assert not b.words[torch.arange(len(b)), b.position].any()
        assert not b.words[:, 0].any()
        assert not b.words[:, -1].any()
        text = tokenizer.decode(b.ids[0][b.truth[0]]).replace(" ##", "")
        assert text == b.sentences[0].prefix[slice(*b.sentences[0].subject)]


def test_select_and_device(bpe, rng):
    batch = max(agreement_batches(bpe, agreement_sentences(40, generator=rng)), key=len).to("cpu")
    kept = torch.arange(len(batch)) % 2 == 0
    half = batch.select(kept)
    assert len(half) == int(kept.sum()) == len(half.ids)
    assert half.sentences == batch.sentences[::2]
    assert torch.equal(half.right, batch.right[::2])
    pieces = batch.split(len(batch) - 1)
    assert [len(piece) for piece in pieces] == [len(batch) - 1, 1]
    assert torch.equal(torch.cat([piece.ids for piece in pieces]), batch.ids)
    assert pieces[1].sentences == batch.sentences[-1:]
    with pytest.raises(ValueError, match="size=0 is out of range"):
        batch.split(0)
    with pytest.raises(ValueError, match="kept has shape"):
        batch.select(kept[:-1])


def test_bad_input(bpe, tmp_path, rng):
    with pytest.raises(ValueError, match=r"verb 'walks' is \d tokens .*must be one"):
        single_token(bpe, "walks")
    assert bpe.convert_ids_to_tokens(single_token(bpe, "are")) == "Ġare"
    sentence = agreement_sentences(1, generator=rng)[0]
    walk = type(sentence)(sentence.prefix, sentence.subject, "walks", "walk")
    with pytest.raises(ValueError, match="verb 'walks'"):
        agreement_batches(bpe, [walk])
    same = type(sentence)(sentence.prefix, sentence.subject, "is", "is")
    with pytest.raises(ValueError, match="same token"):
        agreement_batches(bpe, [same])
    with pytest.raises(ValueError, match="needs a tokenizer with a mask"):
        agreement_batches(bpe, [sentence], masked=True)
    with pytest.raises(ValueError, match="sentences is empty"):
        agreement_batches(bpe, [])
    with pytest.raises(TypeError, match="must be a fast one"):
        agreement_batches(object(), [sentence])
    assert "walks" not in WORDS
