"""A card is valid or refused with the place and the reason."""

import copy

import pytest
import yaml

from shared._checks import UnknownNameError
from shared.compendium import CardError, known_papers, load_card, parse_card
from tests.checkout import CARD


def changed(**changes):
    card = copy.deepcopy(CARD)
    claim = card["claims"][0]
    for path, value in changes.items():
        target = claim if path.startswith("claim_") else card
        key = path.removeprefix("claim_")
        if value is None:
            del target[key]
        else:
            target[key] = value
    return card


def test_reads_a_valid_card():
    card = parse_card(CARD, where="here")
    assert (card.slug, card.title, card.theme) == ("tiny", "A tiny paper", "LRP & attribution")
    claim = card.claims["high"]
    assert (claim.reported, claim.source, claim.check.text, claim.unit) == ("0.9", "table 1", "> 0.5", "seeds")
    assert (claim.kind, claim.null, claim.rival, claim.gates) == ("paper", "another number", "", ())
    assert claim.only_at_paper_scale == claim.post_hoc == ""
    assert card.methods == ("shared.hooks.capture",)


def test_our_own_claims_need_no_report():
    claim = parse_card(changed(claim_kind="own", claim_reported=None), where="here").claims["high"]
    assert (claim.reported, claim.source) == ("–", "–")


GATE = {"id": "works", "statement": "The model works.", "measures": "accuracy", "check": ">= 0.8"}


def test_a_claim_names_its_gates():
    card = parse_card(changed(gates=[GATE], claim_gate="works"), where="here")
    assert card.claims["high"].gates == ("works",)
    assert card.gates["works"].check.text == ">= 0.8"


@pytest.mark.parametrize(
    ("card", "where", "what"),
    [
        (changed(titel="x"), "top level", "unknown key 'titel'; did you mean 'title'? accepted: slug, title,"),
        (changed(title=None), "top level", "'title' is a required property"),
        (changed(theme="Cooking"), "theme", "'Cooking' is not one of"),
        (changed(slug="Tiny!"), "slug", "'Tiny!' does not match"),
        (changed(claims=[]), "claims", "[] should be non-empty"),
        (changed(budget={"core_seconds": 500, "memory_gb": 1}), "budget.core_seconds", "500 is greater than"),
        (changed(claim_zzz="x"), "claims.high", "unknown key 'zzz'; accepted: id, kind,"),
        (changed(claim_null_version=None), "claims.high", "'null_version' is a required property"),
        (changed(claim_null_version=""), "claims.high.null_version", "'' should be non-empty"),
        (changed(claim_unit=None), "claims.high", "'unit' is a required property"),
        (changed(claim_kind="theirs"), "claims.high.kind", "'theirs' is not one of"),
        (changed(claim_reported=None), "claims.high", "'reported' is a required property"),
        (changed(claim_check="> rival"), "claims.high.check", "'> rival' needs `rival`"),
        (changed(claim_notebook="more_x"), "claims.high.notebook", "'more_x' is not listed under `more`; listed: none"),
        (changed(claim_gate="works"), "claims.high.gate", "'works' is no gate of the card; known: none"),
        (changed(gates=[{**GATE, "check": "> rival"}]), "gates.works.check", "a gate has no rival"),
        (changed(gates=[GATE, GATE]), "gates", "the id 'works' stands there twice"),
        (changed(methods=["AttnLRP"]), "methods.0", "'AttnLRP' does not match"),
        (changed(claim_reported={"value": 1}), "claims.high.reported", "'source' is a required property"),
        (changed(claim_reported={"value": 1, "source": ""}), "claims.high.reported.source", "should be non-empty"),
        (changed(claim_check="about 3"), "claims.high.check", "'about 3' is no condition; accepted: '< x'"),
        (changed(claims=CARD["claims"] * 2), "claims", "the id 'high' stands there twice"),
        ("a string", "top level", "is not of type 'object'"),
        (None, "top level", "is not of type 'object'"),
    ],
)
def test_says_where_a_card_is_wrong(card, where, what):
    with pytest.raises(CardError) as raised:
        parse_card(card, where="papers/tiny/card.yml")
    message = str(raised.value)
    assert message.startswith(f"papers/tiny/card.yml: {where}: ")
    assert what in message
    assert "\n" not in message


def test_lists_every_fault():
    with pytest.raises(CardError) as raised:
        parse_card(changed(colour="red", claim_null_version=None), where="here")
    assert len(str(raised.value).splitlines()) == 2


def write(folder, slug, text):
    (folder / slug).mkdir()
    (folder / slug / "card.yml").write_text(text)


def test_loads_from_a_folder_and_lists_what_exists(tmp_path):
    write(tmp_path, "tiny", yaml.safe_dump(CARD))
    (tmp_path / "draft").mkdir()
    assert known_papers(folder=tmp_path) == ["tiny"]
    assert load_card("tiny", folder=tmp_path).slug == "tiny"
    with pytest.raises(UnknownNameError, match="paper='tin' is unknown; did you mean 'tiny'"):
        load_card("tin", folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (yaml.safe_dump({**CARD, "slug": "other"}), "slug: 'other' differs from its folder's name 'tiny'"),
        ("a: [1", "line 1, column 6: no valid YAML: expected ',' or ']', but got '<stream end>'"),
        (
            "slug: tiny\ntitle: A: b",
            "line 2, column 9: no valid YAML: mapping values are not allowed here; quote a text",
        ),
        ("a: \x07", "no valid YAML: "),
        ("", "is not of type 'object'"),
    ],
)
def test_refuses_a_file_that_is_no_card_of_its_folder(tmp_path, text, what):
    write(tmp_path, "tiny", text)
    with pytest.raises(CardError, match=r"papers/tiny/card\.yml") as raised:
        load_card("tiny", folder=tmp_path)
    assert what in str(raised.value)
    assert "\n" not in str(raised.value)
