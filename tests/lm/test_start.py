"""What a text starts with."""

import pytest

from shared.lm import agreement_batches, start_token, token_ids
from shared.worlds import AgreementSentence
from tests.papers.hub import tiny_tokenizer, tiny_wordpiece_tokenizer

KEYS = AgreementSentence("The keys near the cabinet", (4, 8), "are", "is")


@pytest.fixture
def llama(tmp_path):
    return tiny_tokenizer(tmp_path)


@pytest.fixture
def gpt2(tmp_path):
    return tiny_tokenizer(tmp_path, start=False)


def test_a_tokenizer_that_adds_a_token_keeps_its_own(llama, tmp_path):
    assert start_token(llama) == llama.bos_token_id
    assert token_ids(llama, "the keys") == llama("the keys").input_ids
    bert = tiny_wordpiece_tokenizer(tmp_path)
    assert start_token(bert) == bert.cls_token_id


def test_one_that_adds_none_gets_its_start_token(gpt2):
    assert token_ids(gpt2, "the keys") == [gpt2.bos_token_id, *gpt2("the keys").input_ids]


def test_the_separator_of_documents_comes_before_a_chat_token(gpt2):
    gpt2.add_special_tokens({"bos_token": "<|im_start|>", "additional_special_tokens": ["<|endoftext|>"]})
    assert start_token(gpt2) == gpt2.convert_tokens_to_ids("<|endoftext|>")
    assert start_token(gpt2, start="<|im_start|>") == gpt2.bos_token_id


def test_none_leaves_out_the_tokenizers_own_too(llama):
    assert start_token(llama, start=None) is None
    assert token_ids(llama, "the keys", start=None) == llama("the keys").input_ids[1:]


def test_the_start_is_never_ranked_and_never_the_subject(gpt2):
    (batch,) = agreement_batches(gpt2, [KEYS], start="Ġthe")  # an ordinary word
    assert batch.ids[0, 0] == gpt2.convert_tokens_to_ids("Ġthe")
    assert batch.words[0].tolist() == [False] + [True] * (batch.ids.shape[1] - 1)
    (bare,) = agreement_batches(gpt2, [KEYS], start=None)
    assert bare.words.all()
    assert batch.truth[0, 1:].equal(bare.truth[0])
    assert not batch.truth[0, 0]


def test_bad_start(gpt2):
    with pytest.raises(ValueError, match=r"start='<\|bos\|>' is no token of this tokenizer"):
        token_ids(gpt2, "the", start="<|bos|>")
    for name in ("bos_token", "eos_token"):
        setattr(gpt2, name, None)
    with pytest.raises(ValueError, match="start='auto'"):
        start_token(gpt2)
