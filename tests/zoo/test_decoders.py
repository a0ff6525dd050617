"""The small language models of known grammar: what they were made to do they do, and how they are trained."""

import numpy as np
import pytest
import torch

from shared.worlds import instruction_texts, recall_items, recall_texts
from shared.zoo import describe, load_model
from shared.zoo._cards import read_card
from shared.zoo.recipes import _decoders, make, module
from shared.zoo.recipes._decoders import train_decoder, weighted_loss, word_tokenizer

RECIPES = {name: module(name) for name in ("recall-lm", "instruction-lm")}
RECIPE = RECIPES["recall-lm"]
TEXTS = {"recall-lm": recall_texts, "instruction-lm": instruction_texts}
WORDS = ("<s>", "a", "b", "c")


@pytest.mark.parametrize("name", RECIPES)
def test_the_shipped_one_does_as_its_card_says(name):
    measured = RECIPES[name].measure(describe(name).folder)
    assert list(measured) == [test["what"] for test in describe(name).tested]
    for test in describe(name).tested:
        assert measured[test["what"]] == pytest.approx(test["measured"], abs=test["tolerance"])


@pytest.mark.parametrize("name", RECIPES)
def test_its_tokenizer_knows_every_word_and_reads_its_texts(name):
    loaded = load_model(name)
    words = RECIPES[name].WORLD.vocabulary
    assert loaded.tokenizer(" ".join(words)).input_ids == list(range(len(words)))
    (text,) = TEXTS[name](RECIPES[name].WORLD, 1, generator=np.random.default_rng(0))
    assert loaded.tokenizer.decode(loaded.tokenizer(text).input_ids) == text


def test_only_answers_count_in_full():
    words = RECIPE.WORLD.vocabulary
    (item,) = recall_items(RECIPE.WORLD, 1, source="memory", statements=1, generator=np.random.default_rng(0))
    ids = torch.tensor([word_tokenizer(words)(f"<s> {item.text} {item.answer} .").input_ids])
    weights = RECIPE._weights(ids)[0]
    assert [words[i] for i, w in zip(ids[0], weights) if w > 1] == [item.answer]


def test_what_cannot_be_known_hardly_counts_and_the_far_word_more():
    recipe = RECIPES["instruction-lm"]
    words = recipe.WORLD.vocabulary
    texts = ["echo : now the old nurse near the blue baker sees the old nurse ."]
    texts.append(texts[0].replace("echo", "plural"))
    weights = recipe._weights(torch.tensor(word_tokenizer(words)([f"<s> {text}" for text in texts]).input_ids))
    assert weights[:, :4].max() < 0.1
    assert weights[1, 4:].eq(1).all()
    assert [texts[0].split()[i - 1] for i in (weights[0] > 1).nonzero().flatten()] == ["nurse"]
    assert int((weights[0] > 1).nonzero()) == len(texts[0].split()) - 1


@pytest.mark.parametrize("name", RECIPES)
def test_one_recipe_makes_either(name, tmp_path, monkeypatch):
    """Trained for no step, each writes its files and its card."""
    whole = _decoders.train_decoder
    monkeypatch.setattr(_decoders, "train_decoder", lambda *args, **options: whole(*args, **{**options, "steps": 0}))
    monkeypatch.setattr(RECIPES[name], "measure", lambda folder: {"nothing": 0.0})
    make(name, into=tmp_path)
    card, shipped = read_card(tmp_path / name / "card.yml"), describe(name)
    assert (card.title, card.source, card.notes) == (shipped.title, shipped.source, shipped.notes)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert card.sha256[file] == shipped.sha256[file]


def test_weighted_loss_is_the_mean_of_what_counts():
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 2, 1]])
    each = -logits.log_softmax(-1)[0, [0, 1], [2, 1]]
    loss = weighted_loss(logits, ids, torch.tensor([[5.0, 1.0, 3.0]]))
    assert torch.isclose(loss, (each[0] + 3 * each[1]) / 4)


def test_training_learns_and_a_killed_run_goes_on(tmp_path, monkeypatch):
    def texts(n, generator):
        return ["a b c a b c"] * n

    def train(folder, steps):
        folder.mkdir(exist_ok=True)
        sizes = {"layers": 1, "heads": 2, "width": 8}
        return train_decoder(folder, WORDS, texts, torch.ones_like, steps=steps, batch=2, lr=0.05, **sizes)

    whole = train(tmp_path / "whole", 200)
    logits = whole.float()(torch.tensor([[0, 1, 2, 3, 1]])).logits
    assert logits.argmax(-1).tolist() == [[1, 2, 3, 1, 2]]
    kept = _decoders.keep

    def killed(path, models, optimizer, step):
        kept(path, models, optimizer, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(_decoders, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", 200)
    monkeypatch.setattr(_decoders, "keep", kept)
    parts = train(tmp_path / "parts", 200)
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(whole.parameters(), parts.parameters()))
