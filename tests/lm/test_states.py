"""Mean hidden states of texts."""

from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from shared import lm, zoo
from shared.hooks import capture
from tests.papers.hub import tiny_llama


def test_mean_states_by_their_definition(tmp_path):
    tiny_llama(tmp_path / "m")
    loaded = zoo.load_model(str(tmp_path / "m"))
    texts = ["the old house", "a key", "good film by the river in the city", "key"]
    found = lm.mean_states(loaded, "model.layers.1", texts, batch_size=3)
    for text, row in zip(texts, found):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad(), capture(loaded.model, "model.layers.1") as seen:
            loaded.model(torch.tensor([[loaded.tokenizer.bos_token_id, *ids]]))
        torch.testing.assert_close(row, seen["model.layers.1"][0, 1:].mean(0), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="texts"):
        lm.mean_states(loaded, "model.layers.1", ["a", ""])


def tiny_encoder(folder):
    tokens = "[PAD] [UNK] [CLS] [SEP] [MASK] the old house a key good film by river in city".split()
    (folder / "vocab.txt").write_text("\n".join(tokens))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    return SimpleNamespace(model=BertModel(config).eval(), tokenizer=BertTokenizerFast(str(folder / "vocab.txt")))


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_pooled_states_by_their_definition(tmp_path, kind):
    if kind == "causal":
        tiny_llama(tmp_path / "m")
        loaded, layers = zoo.load_model(str(tmp_path / "m")), ["model.layers.0.mlp.down_proj", "model.layers.1"]
    else:
        loaded, layers = tiny_encoder(tmp_path), ["encoder.layer.0", "encoder.layer.1"]
    texts = ["the old house", "a key", "good film by the river in the city", "key"]
    found = lm.pooled_states(loaded, layers, texts, pool=("max", "mean"), max_tokens=4, batch_size=3)
    if kind == "causal":
        neurons = lm.pooled_states(loaded, layers[:1], texts, at="input")[layers[0], "max"]
        assert neurons.shape == (4, loaded.model.config.intermediate_size)
    for i, text in enumerate(texts):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"][:4]
        ends = ([2], [3]) if kind == "encoder" else ([loaded.tokenizer.bos_token_id], [])
        with torch.no_grad(), capture(loaded.model, layers) as seen:
            loaded.model(torch.tensor([[*ends[0], *ids, *ends[1]]]))
        for layer in layers:
            tokens = seen[layer][0, 1 : 1 + len(ids)]
            torch.testing.assert_close(found[layer, "max"][i], tokens.amax(0), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(found[layer, "mean"][i], tokens.mean(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("argument", "changed"),
    [
        ("pool", {"pool": "median"}),
        ("layers", {"layers": []}),
        ("layers", {"layers": "model.layers.1"}),
        ("texts", {"texts": ["a", ""]}),
        ("max_tokens", {"max_tokens": 0}),
        ("batch_size", {"batch_size": 0}),
    ],
)
def test_pooled_states_name_what_is_wrong(tmp_path, argument, changed):
    tiny_llama(tmp_path / "m")
    loaded = zoo.load_model(str(tmp_path / "m"))
    arguments = {"layers": ["model.layers.1"], "texts": ["the key"]} | changed
    with pytest.raises(ValueError, match=argument):
        lm.pooled_states(loaded, **arguments)
