"""Mean hidden states of texts."""

import pytest
import torch

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
