"""Peaks of units over texts, and continuations under edits, by hand on a tiny model."""

import pytest
import torch

from shared import hooks
from shared.lm import Site, continue_texts, peak_activations, token_ids
from shared.zoo import load_model
from tests.papers.hub import tiny_llama

TEXTS = ["the king of the city", "river water", "a great and small old house near the river"]
LAYER = "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama(folder)
    return load_model(str(folder))


def test_peaks_are_those_of_each_text_alone_without_its_start(lm):
    sites = [Site(LAYER, "input"), Site("model.layers.0", units=lambda x: x[..., :3])]
    found = peak_activations(lm, sites, TEXTS, batch_size=2)
    for text, row in zip(TEXTS, found):
        ids = torch.tensor([token_ids(lm.tokenizer, text)])
        with hooks.capture(lm.model, LAYER, at="input") as a, hooks.capture(lm.model, "model.layers.0") as b:
            lm.model(ids)
        x = torch.cat([a[LAYER][0, 1:], b["model.layers.0"][0, 1:, :3]], 1)
        want = x[x.abs().argmax(0), torch.arange(x.shape[1])]
        assert torch.allclose(row, want, atol=1e-5)


def test_texts_are_cut_and_bad_ones_refused(lm):
    site = Site(LAYER, "input")
    longer = peak_activations(lm, site, ["the king of the city and"], longest=3)
    assert torch.allclose(longer, peak_activations(lm, site, ["the king of"]), atol=1e-6)
    with pytest.raises(ValueError, match="texts must be non-empty"):
        peak_activations(lm, site, ["the", ""])
    with pytest.raises(ValueError, match="the model's context is 512; give `longest`"):
        peak_activations(lm, site, ["the king " * 400])
    with pytest.raises(ValueError, match="at='middle' is unknown"):
        Site(LAYER, "middle")


def test_edits_of_one_batch_are_those_of_single_runs(lm):
    prompts = TEXTS[:2]
    edits = [lambda x: x, lambda x: x * 30, lambda x: x * 0]
    together = continue_texts(lm, LAYER, prompts, edits, new_tokens=4)
    alone = [text for change in edits for text in continue_texts(lm, LAYER, prompts, [change], new_tokens=4)]
    assert together == alone
    ids = torch.tensor([token_ids(lm.tokenizer, prompts[0])])
    plain = lm.model.generate(ids, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
    assert together[0] == lm.tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)
    with pytest.raises(ValueError, match="must not be empty"):
        continue_texts(lm, LAYER, [], edits, new_tokens=4)
