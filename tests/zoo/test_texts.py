"""Text sets, sentence vectors and sampled texts."""

import pytest
import torch

from shared.zoo import describe, embed_texts, generate_texts, load_data, load_model
from shared.zoo._assets import AssetError
from shared.zoo.recipes import _generations, _snippets
from tests.papers.hub import tiny_bert, tiny_llama


@pytest.mark.parametrize("name", ["snippets", "smollm2-outputs"])
def test_text_sets_have_the_cards_rows(name):
    data = load_data(name)
    assert len(data.x) == describe(name).measured("rows")
    assert data.x["text"].str.len().min() > 0


def test_snippets_are_rated_and_from_three_domains():
    table = load_data("snippets").x
    assert set(table["domain"]) == {"film", "product", "tweet"}
    assert (table["rating"].abs() > 0.5).all()
    assert load_data("snippets-minilm").x.shape == (len(table), 96)


def test_outputs_hold_every_prompt():
    counts = load_data("smollm2-outputs").x["prompt"].value_counts()
    assert counts.to_dict() == {key: what["n"] for key, what in _generations.PROMPTS.items()}


def test_changed_archive_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"nothing")
    with pytest.raises(AssetError, match="sha256"):
        _snippets.make_snippets(tmp_path / "a.tar.gz", tmp_path / "out.jsonl.gz")
    assert not (tmp_path / "out.jsonl.gz").exists()


def test_sentence_vectors_do_not_depend_on_the_batch(tmp_path):
    tiny_bert(tmp_path / "m", "BertModel")
    encoder = load_model(str(tmp_path / "m"))
    texts = ["good film", "the old house by the river", "bad", "good film"]
    vectors = embed_texts(encoder, texts, batch_size=2)
    torch.testing.assert_close(vectors, embed_texts(encoder, texts, batch_size=4), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(vectors[0], vectors[3])


def test_sampling_depends_on_its_seed_only(tmp_path):
    tiny_llama(tmp_path / "m")
    loaded = load_model(str(tmp_path / "m"))
    options = {"seed": 1, "max_new_tokens": 8, "batch_size": 2}
    torch.manual_seed(0)
    first = generate_texts(loaded, "the old house", 3, **options)
    torch.manual_seed(5)
    assert generate_texts(loaded, "the old house", 3, **options) == first
    assert generate_texts(loaded, "the old house", 3, **{**options, "seed": 2}) != first
    assert len(first) == 3
