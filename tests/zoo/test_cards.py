"""Every asset has a complete card, loads, has a user and (if shipped) a recipe; nothing else lies under data/."""

import inspect
import json
import re
from pathlib import Path

import pytest

from shared import zoo
from shared.compendium.paths import ROOT, cache_dir, data_dir, sha256
from shared.zoo import recipes
from shared.zoo._cards import FILE, CardError, all_cards, read_card
from shared.zoo._dictionaries import dictionaries
from shared.zoo._registry import Registry, converter, reader, recipe
from shared.zoo.recipes._ship import asset_files

CARDS = all_cards()
SHIPPED = [card.name for card in CARDS.values() if card.stored == "shipped"]


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_complete(name):
    card = read_card(data_dir() / name / FILE)
    assert card == zoo.describe(name)
    assert "licence" in str(card)
    assert "tested" in str(card)
    assert set(card.made_from) <= set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_every_asset_loads(name):
    """By the function that its card names; a fetched one if it is here."""
    card = CARDS[name]
    if card.stored == "fetched" and not (cache_dir() / name).is_dir():
        pytest.skip(f"{name} isn't fetched (make assets)")
    load = getattr(zoo, card.loader)
    if card.kind == "data":
        for split in card.splits:
            data = load(name, split=split)
            assert len(data) > 0
            assert (type(data).__name__, data.split, data.card) == (KINDS[card.task, name], split, card)
    elif card.loader == "dictionary_folder":
        assert all((load(f"{name}/{one}") / "cfg.json").is_file() for one in dictionaries(card))
    elif card.loader == "load_pipeline":
        assert callable(load(name))
    else:
        loaded = load(name)
        assert type(loaded) is zoo.LoadedModel
        assert (loaded.info.name, loaded.info.licence) == (name, card.licence)
        assert not loaded.model.training
        reads_text = card.task in ("causal-lm", "text-encoder", "image-text")
        assert (loaded.tokenizer is not None) == reads_text


KINDS = {
    (card.task, name): {"arrays": "ArrayData", "table": "TableData", "text": "TextData", "images": "ImageData"}.get(
        card.task
    )
    for name, card in CARDS.items()
} | {("images", "photos"): "PhotoData"}


def test_names_are_registered():
    assert sorted(zoo.available_models() + zoo.available_data()) == sorted(CARDS)
    assert {card.reader for card in CARDS.values() if card.kind == "data"} == set(reader)
    assert {card.converter for card in CARDS.values() if card.stored == "fetched"} == set(converter)


@pytest.mark.parametrize("name", [card.name for card in CARDS.values() if card.kind == "data"])
def test_options_are_those_of_the_card(name):
    parameters = inspect.signature(reader[CARDS[name].reader]).parameters.values()
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == list(CARDS[name].options)
    with pytest.raises(TypeError, match=rf"{name} has no option nonsense; it has"):
        zoo.load_data(name, nonsense=1)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_asset_has_a_recipe(name):
    assert callable(recipes.module(name).make)
    assert recipe[name] is recipes.module(name).make


def test_recipes_come_behind_what_they_read():
    order = recipes.recipe_names()
    assert sorted(order) == sorted(SHIPPED)
    for name in order:
        assert all(order.index(before) < order.index(name) for before in CARDS[name].made_from if before in order)
        source = (CARDS[name].folder / "recipe.py").read_text("utf-8")
        assert set(re.findall(r"load_(?:data|model)\(\"([^\"]+)\"", source)) <= {*CARDS[name].made_from, name}


def test_registries_take_a_name_once():
    some = Registry("thing")
    some("a")(len)
    with pytest.raises(ValueError, match=r"thing 'a' is registered twice, by builtins.len and builtins.max"):
        some("a")(max)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_have_the_cards_digests(name):
    assert {file: sha256(CARDS[name].folder / file) for file in asset_files(CARDS[name].folder)} == CARDS[name].sha256


def test_nothing_else_lies_under_data():
    """Each file is an asset's card, recipe or one of those that the card lists; together they are small."""
    known = {data_dir() / "README.md"}
    for card in CARDS.values():
        own = [FILE, *(["recipe.py", *card.sha256] if card.stored == "shipped" else [])]
        known |= {card.folder / file for file in own}
    skipped = {"cache", "__pycache__"}
    there = {
        path for path in data_dir().rglob("*")
        if path.is_file() and not skipped & set(path.relative_to(data_dir()).parts)
    }  # fmt: skip
    assert there == known
    assert sum(path.stat().st_size for path in there) < 60e6
    assert max(path.stat().st_size for path in there) < 10e6


@pytest.mark.parametrize("name", CARDS)
def test_every_asset_has_a_user(name):
    """A paper, another recipe, or a test or benchmark of another room names it."""
    quoted = re.compile(rf"[\"']{re.escape(name)}(/[^\"']*)?[\"']")
    assert any(quoted.search(text) for text in _users(name))


def _users(name):
    for path in (ROOT / "papers").glob("*/*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        yield "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    files = [*(ROOT / "tests").rglob("*.py"), *data_dir().glob("*/recipe.py"), *(ROOT / "shared").rglob("recipes/*.py")]
    for path in files:
        if "zoo" not in path.parts[-2:] and path.parent.name != name:
            yield path.read_text("utf-8")


def test_unknown_names_list_what_exists():
    with pytest.raises(ValueError, match=r"name='smollm2' is unknown; did you mean 'smollm2-135m'\?.*minilm-l6"):
        zoo.load_model("smollm2")
    with pytest.raises(ValueError, match=r"name='fashionmnist' is unknown; did you mean 'fashion-mnist'"):
        zoo.load_data("fashionmnist")
    with pytest.raises(ValueError, match=r"name='nope' is unknown; known: .*vit-shapes"):
        zoo.describe("nope")
    with pytest.raises(ValueError, match=r"name='photos' is unknown; .*smollm2-135m"):
        zoo.load_model("photos")
    with pytest.raises(ValueError, match=r"name='photo' is unknown; .*known: .*clip-shapes"):
        recipes.make("photo")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (("licence: MIT\n", ""), r"bad/card.yml: top level: 'licence' is a required property"),
        (("seed: 0", "sede: 0"), r"bad/card.yml: top level: .*'sede' was unexpected"),
        (
            ("stored: shipped", "stored: fetched"),
            r"bad/card.yml: top level: '(wheels|converter)' is a required property",
        ),
        (("seed: 0", "optional: true"), r"bad/card.yml: stored: 'fetched' was expected"),
        (("splits: [train, test]\n", ""), r"bad/card.yml: top level: 'splits' is a required property"),
        (("measured: 6000", "measurd: 6000"), r"bad/card.yml: tested.0"),
    ],
)
def test_broken_card_says_where(tmp_path, change, where):
    text = (data_dir() / "fashion-mnist" / FILE).read_text("utf-8")
    assert change[0] in text
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(CardError, match=where):
        read_card(tmp_path / "bad" / FILE)


def test_measured_names_what_was_measured():
    assert zoo.describe("digits").measured("rows") == 1797
    with pytest.raises(ValueError, match="what='row'"):
        zoo.describe("digits").measured("row")


def test_images_are_checked():
    import torch

    resnet = zoo.load_model("resnet-fashion")
    assert resnet.preprocess(torch.rand(1, 28, 28)).shape == (1, 28, 28)
    for bad in (
        torch.rand(2, 3, 28, 28),
        torch.rand(28, 28),
        torch.full((1, 28, 28), torch.nan),
        torch.rand(0, 1, 28, 28),
    ):
        with pytest.raises(ValueError, match=r"\bimages\b"):
            resnet.preprocess(bad)
    with pytest.raises(ValueError, match=r"images has dtype torch\.uint8; expected floating"):
        resnet.preprocess(torch.zeros(1, 28, 28, dtype=torch.uint8))
    with pytest.raises(ValueError, match="factors-shapes has no image normalisation"):
        zoo.load_model("factors-shapes").preprocess(torch.rand(3, 32, 32))


def test_made_into_another_folder_leaves_what_is_shipped(tmp_path, capsys, monkeypatch):
    from shared.zoo.__main__ import main

    monkeypatch.setitem(recipe, "digits", lambda folder: _write(folder / "digits.txt"))
    monkeypatch.setattr(recipes, "module", lambda name: None)
    monkeypatch.setattr(recipes, "recipe_names", lambda: ["digits"])
    assert main(["make", "digits", "--into", str(tmp_path)]) == 0
    assert (tmp_path / "digits" / "digits.txt").read_text() == "one"
    assert "digits.txt: sha256 7692c3ad" in capsys.readouterr().out
    assert not (data_dir() / "digits" / "digits.txt").exists()


def _write(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("one")
