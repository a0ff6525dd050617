"""Every entry has a complete card, shipped files have its digests, and a broken card says where."""

import pytest

from shared import zoo
from shared.compendium.paths import DATA, sha256
from shared.zoo._cards import CARDS, CardError, all_cards, read_card


def test_every_entry_has_a_card():
    assert sorted(zoo.available_models() + zoo.available_data()) == sorted(all_cards())
    for name in all_cards():
        assert read_card(CARDS / f"{name}.yml") == zoo.describe(name)
        text = str(zoo.describe(name))
        assert "licence" in text
        assert "tested" in text


@pytest.mark.parametrize("name", [card.name for card in all_cards().values() if card.stored == "shipped"])
def test_shipped_files_have_the_cards_digests(name):
    folder = DATA / "models" / name if name in zoo.available_models() else DATA
    for file, digest in zoo.describe(name).sha256.items():
        assert sha256(folder / file) == digest


def test_nothing_ships_without_a_card():
    pinned = {digest for card in all_cards().values() for digest in card.sha256.values()}
    shipped = [
        path for path in DATA.rglob("*") if path.is_file() and "cache" not in path.parts and path.suffix != ".md"
    ]
    assert {path.name for path in shipped if sha256(path) not in pinned} == set()
    assert sum(path.stat().st_size for path in shipped) < 40e6
    assert max(path.stat().st_size for path in shipped) < 10e6


def test_unknown_names_list_what_exists():
    with pytest.raises(ValueError, match=r"name='smollm2' is unknown; did you mean 'smollm2-135m'\?.*minilm-l6"):
        zoo.load_model("smollm2")
    with pytest.raises(ValueError, match=r"name='fashionmnist' is unknown; did you mean 'fashion-mnist'"):
        zoo.load_data("fashionmnist")
    with pytest.raises(ValueError, match=r"name='nope' is unknown; known: .*wine"):
        zoo.describe("nope")
    with pytest.raises(ValueError, match=r"name='photos' is unknown; .*smollm2-135m"):
        zoo.load_model("photos")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (("licence: MIT\n", ""), r"bad.yml: top level: 'licence' is a required property"),
        (("seed: 0", "sede: 0"), r"bad.yml: top level: .*'sede' was unexpected"),
        (("stored: shipped", "stored: fetched"), r"bad.yml: top level: 'wheels' is a required property"),
        (("measured: 6000", "measurd: 6000"), r"bad.yml: tested.0"),
    ],
)
def test_broken_card_says_where(tmp_path, change, where):
    text = (CARDS / "fashion-mnist.yml").read_text("utf-8")
    assert change[0] in text
    (tmp_path / "bad.yml").write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(CardError, match=where):
        read_card(tmp_path / "bad.yml")


def test_measured_names_what_was_measured():
    assert zoo.describe("digits").measured("rows") == 1797
    with pytest.raises(ValueError, match="what='row'"):
        zoo.describe("digits").measured("row")
