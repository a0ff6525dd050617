"""States and likelihoods of answers: those of whole texts, read one by one."""

import pytest
import torch

from shared import lm, zoo
from shared.hooks import capture
from tests.papers.hub import tiny_gpt2, tiny_llama

DIALOGUES = [("the old house", [" a key", " good film by the river", " in"]), ("good", [" the city of the key"])]


def whole(loaded, layer, prompt, answer):
    """Mean state over the answer's tokens, and their log-likelihood, from one pass over all of the text."""
    given, ids = (lm.token_ids(loaded.tokenizer, text) for text in (prompt, prompt + answer))
    with torch.no_grad(), capture(loaded.model, layer) as seen:
        p = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    behind = range(len(given), len(ids))
    return seen[layer][0, len(given) :].mean(0), sum(float(p[t - 1, ids[t]]) for t in behind), len(behind)


@pytest.mark.parametrize(("build", "layer"), [(tiny_llama, "model.layers.1"), (tiny_gpt2, "transformer.h.1")])
def test_answers_as_read_one_by_one(tmp_path, build, layer):
    build(tmp_path / "m")
    loaded = zoo.load_model(str(tmp_path / "m"))
    found = lm.answer_states(loaded, [layer], DIALOGUES, batch_size=2)
    for i, (prompt, answer) in enumerate((p, a) for p, answers in DIALOGUES for a in answers):
        state, likely, length = whole(loaded, layer, prompt, answer)
        torch.testing.assert_close(found.mean[layer][i], state, atol=1e-5, rtol=1e-4)
        assert float(found.log_likelihood[i]) == pytest.approx(likely, abs=1e-4)
        assert int(found.length[i]) == length


def test_a_probes_mean_over_tokens_is_its_value_at_the_mean(tmp_path):
    tiny_llama(tmp_path / "m")
    loaded = zoo.load_model(str(tmp_path / "m"))
    ids = lm.token_ids(loaded.tokenizer, "the old house a key")
    with torch.no_grad(), capture(loaded.model, "model.layers.1") as seen:
        loaded.model(torch.tensor([ids]))
    tokens = seen["model.layers.1"][0, len(lm.token_ids(loaded.tokenizer, "the old house")) :]
    found = lm.answer_states(loaded, ["model.layers.1"], [("the old house", [" a key"])]).mean["model.layers.1"]
    w = torch.randn(tokens.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found @ w + 0.3, (tokens @ w + 0.3).mean()[None], atol=1e-5, rtol=1e-4)


def test_what_cannot_be_read(tmp_path):
    tiny_llama(tmp_path / "m")
    loaded = zoo.load_model(str(tmp_path / "m"))
    for dialogues in ([], [("the", [])], [("the", [" a", ""])], [("the old ho", ["use"])]):
        with pytest.raises(ValueError, match="dialogues"):
            lm.answer_states(loaded, ["model.layers.1"], dialogues)


def test_a_chat_without_system_message_or_start(tmp_path):
    tiny_llama(tmp_path / "m")
    tokenizer = zoo.load_model(str(tmp_path / "m")).tokenizer
    tokenizer.chat_template = None
    assert lm.chat_prompt(tokenizer, "Go on.") == "Go on.\n"
    tokenizer.chat_template = (
        "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% for m in messages %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"
    )
    expected = "<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"
    assert lm.chat_prompt(tokenizer, "Go on.") == expected
