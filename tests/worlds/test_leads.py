"""Minimal edits of Wikipedia's sentences: one value, of a known kind, from another article."""

import numpy as np
import pytest

from shared.compendium.paths import cache_dir
from shared.worlds import EDIT_KINDS, lead_choices, lead_edits, lead_sentences
from shared.zoo import load_data


def article(title, text, description="Thing", topic="Arts"):
    return {"title": title, "text": text, "description": description, "topic": topic}


ARTICLES = [
    article("Alpha", "Alpha is a 1925 film. It was made in France."),
    article("Beta", "Beta is a book of 1817."),
    article("Gamma", "Gamma is a town in Italy."),
    article("Delta", "Delta is a river in France, a French one."),
    article("Ada Fox", "Ada Fox was an English poet."),
    article("Bea", "Bea was an Italian singer and a friend of Ada Fox."),
    article("Cy Elk", "Cy Elk was a Danish poet who met Cy Owl."),
    article("France", "France is a country.", "Country in Europe", "Geography"),
    article("Italy", "Italy is a country.", "Country in Europe", "Geography"),
    article("Rome", "Rome is a city.", "Capital and largest city of Italy", "Geography"),
    article("Cy Owl", "Cy Owl was a bird.", "Bird", "People"),
]


def edits(kinds=EDIT_KINDS, seed=0, **options):
    return {e.title: e for e in lead_edits(ARTICLES, generator=np.random.default_rng(seed), kinds=kinds, **options)}


def test_one_value_becomes_anothers_and_nothing_else_changes():
    for seed in range(5):
        for edit in edits(seed=seed, sentences=2).values():
            start, end = edit.span
            assert edit.text[start:end] == edit.new != edit.old
            assert edit.original[start : start + len(edit.old)] == edit.old
            assert edit.text[:start] + edit.old + edit.text[end:] == edit.original
            source = next(a for a in ARTICLES if a["title"] == edit.source)
            assert edit.new in source["text"]
            assert edit.source != edit.title
            assert edit.new not in edit.original


def test_values_are_swapped_with_their_kind_only():
    assert {t: (e.old, e.new) for t, e in edits(["year"]).items()} == {
        "Alpha": ("1925", "1817"),
        "Beta": ("1817", "1925"),
    }
    places = edits(["place"])
    assert (places["Gamma"].old, places["Gamma"].new) == ("Italy", "France")
    assert (places["Delta"].old, places["Delta"].new) == ("France", "Italy")
    assert "Rome" not in {e.new for e in places.values()}  # a city never stands for a country


def test_the_word_before_still_fits():
    for seed in range(5):
        by_title = edits(["nationality"], seed=seed)
        assert by_title["Ada Fox"].new == "Italian"  # not "an Danish", nor "an French"
        assert by_title["Bea"].new == "English"


def test_titles_are_never_edited():
    assert "Cy Elk" not in edits(["name"])  # Cy is in the title too, and nobody else is named
    assert "France" not in edits(["place"])


def test_first_sentences():
    text = "J. Doe was born c. 1900 in St. Ives. He left. Then he returned."
    assert lead_sentences(text) == "J. Doe was born c. 1900 in St. Ives."
    assert lead_sentences(text, count=2) == "J. Doe was born c. 1900 in St. Ives. He left."
    assert lead_sentences(text, count=9) == text


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match=r"kinds='colour' is unknown"):
        edits(["colour"])
    with pytest.raises(ValueError, match="kinds is empty"):
        edits([])


def test_real_leads_give_hundreds_of_edits_of_each_kind():
    if not (cache_dir() / "wikipedia-leads").is_dir():
        pytest.skip("wikipedia-leads isn't fetched (make assets)")
    train, test = (load_data("wikipedia-leads", split=s).table.to_dict("records") for s in ("train", "test"))
    made = lead_edits(test, generator=np.random.default_rng(0), known=train + test)
    assert len(made) > 350
    assert len({e.title for e in made}) == len(made)
    assert {e.kind for e in made} == set(EDIT_KINDS)
    again = lead_edits(test, generator=np.random.default_rng(0), known=train + test)
    assert made == again
    assert all(e.text[: e.start] + e.old + e.text[e.span[1] :] == e.original for e in made)


def test_choices_end_where_the_value_stands():
    for seed in range(5):
        made = lead_choices(ARTICLES, generator=np.random.default_rng(seed), wrong=1, kinds=["nationality", "year"])
        by_title = {a["title"]: a["text"] for a in ARTICLES}
        assert {c.title for c in made} >= {"Alpha", "Beta"}
        for choice in made:
            text = by_title[choice.title]
            assert text.startswith(f"{choice.prompt} {choice.values[0]}")
            assert len(choice.values) == 2
            assert choice.values[1] not in text
            assert any(choice.values[1] in other for other in by_title.values())
    assert {c.values for c in made if c.kind == "year"} == {("1925", "1817"), ("1817", "1925")}


def test_choices_that_are_not_wanted_or_too_few():
    options = {"generator": np.random.default_rng(0), "kinds": ["nationality"]}
    assert not lead_choices(ARTICLES, **options, wrong=5)
    assert not lead_choices(ARTICLES, **options, wrong=1, accept=lambda value: value == "Danish")
    made = lead_choices(ARTICLES, **options, wrong=1, alike=lambda a, b: {a, b} == {"English", "Danish"})
    assert made
    assert all(set(c.values) != {"English", "Danish"} for c in made)
    with pytest.raises(ValueError, match="kinds='planet'"):
        lead_choices(ARTICLES, generator=np.random.default_rng(0), kinds=["planet"])
    with pytest.raises(ValueError, match="wrong=0"):
        lead_choices(ARTICLES, generator=np.random.default_rng(0), wrong=0)
