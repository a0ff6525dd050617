"""Text sets, sentence vectors and sampled texts."""

import pytest
import torch

from shared.compendium.paths import cache_dir
from shared.zoo import describe, embed_texts, generate_texts, load_data, load_model, recipes
from shared.zoo._assets import AssetError
from tests.papers.hub import tiny_bert, tiny_llama


@pytest.mark.parametrize("name", ["snippets", "smollm2-outputs"])
def test_text_sets_have_the_cards_rows(name):
    data = load_data(name)
    assert len(data) == describe(name).measured("rows")
    assert min(map(len, data.texts)) > 0


def test_snippets_are_rated_and_from_three_domains():
    table = load_data("snippets").table
    assert set(table["domain"]) == {"film", "product", "tweet"}
    assert (table["rating"].abs() > 0.5).all()
    assert load_data("snippets-minilm").x.shape == (len(table), 96)


def test_outputs_hold_every_prompt():
    counts = load_data("smollm2-outputs").table["prompt"].value_counts()
    assert counts.to_dict() == {key: what["n"] for key, what in recipes.module("smollm2-outputs").PROMPTS.items()}


def test_wikipedia_articles_are_in_one_split_each():
    if not (cache_dir() / "wikipedia-leads").is_dir():
        pytest.skip("wikipedia-leads isn't fetched (make assets)")
    splits = {split: load_data("wikipedia-leads", split=split) for split in ("train", "validation", "test")}
    titles = [title for data in splits.values() for title in data.table["title"]]
    card = describe("wikipedia-leads")
    assert len(titles) == len(set(titles)) == card.measured("rows")
    for name, split in (("training", "train"), ("validation", "validation"), ("test", "test")):
        assert len(splits[split]) == card.measured(f"rows of the {name} split")
    for data in splits.values():
        assert list(data.table) == ["title", "text", "description", "topic"]
        assert not any("\n" in text or "  " in text for text in data.texts)
        assert min(map(len, data.texts)) > 20


def test_changed_archive_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"nothing")
    with pytest.raises(AssetError, match="sha256"):
        recipes.module("snippets").make(tmp_path / "out", archive=tmp_path / "a.tar.gz")
    assert not (tmp_path / "out").exists()


def test_sentence_vectors_do_not_depend_on_the_batch(tmp_path):
    tiny_bert(tmp_path / "m", "BertModel")
    encoder = load_model(str(tmp_path / "m"))
    texts = ["good film", "the old house by the river", "bad", "good film"]
    vectors = embed_texts(encoder, texts, batch_size=2)
    torch.testing.assert_close(vectors, embed_texts(encoder, texts, batch_size=4), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(vectors[0], vectors[3])
    encoder.tokenizer.model_max_length = 5
    embed_texts(encoder, texts)
    with pytest.raises(ValueError, match=r"texts\[1\] has 8 tokens; the encoder reads 5"):
        embed_texts(encoder, texts, truncate=False)


def test_sampling_depends_on_its_generator_only(tmp_path):
    tiny_llama(tmp_path / "m")
    loaded = load_model(str(tmp_path / "m"))

    def sample(generator):
        return generate_texts(loaded, "the old house", 3, generator=generator, max_new_tokens=8, batch_size=2)

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    first = sample(generator)
    assert len(first) == 3
    assert sample(generator) != first  # it moved on
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert sample(torch.Generator().manual_seed(1)) == first
    assert sample(torch.Generator().manual_seed(2)) != first
    assert torch.equal(torch.get_rng_state(), state)
