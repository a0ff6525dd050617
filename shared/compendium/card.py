"""A paper's card: citation, claims and budget, validated against a JSON schema."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from shared._checks import check_choice
from shared.compendium.claims import Check
from shared.compendium.paths import PAPERS, known_papers

_SCHEMA = json.loads((Path(__file__).parent / "card.schema.json").read_text(encoding="utf-8"))

THEMES: tuple[str, ...] = tuple(_SCHEMA["properties"]["theme"]["enum"])


class CardError(ValueError):
    """A card.yml that breaks the schema; the message says in which file, where, and what is accepted."""


@dataclass(frozen=True)
class ClaimCard:
    """One claim as the card states it, before anything is measured."""

    id: str
    statement: str
    reported: str
    source: str
    measures: str
    check: Check
    control: str
    digits: int = 2
    only_at_paper_scale: str | None = None


@dataclass(frozen=True)
class Card:
    """What `card.yml` says of a paper. `raw` keeps the whole mapping for the gallery."""

    slug: str
    title: str
    theme: str
    claims: dict[str, ClaimCard]
    raw: dict[str, Any] = field(repr=False)


def load_card(slug: str, folder: Path = PAPERS) -> Card:
    """Read and validate `papers/<slug>/card.yml`.

    Raises `UnknownNameError` for a slug without a card (listing those that exist) and `CardError` for a card that
    breaks the schema.
    """
    check_choice("paper", slug, known_papers(folder))
    path = folder / slug / "card.yml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CardError(f"papers/{slug}/card.yml is not valid YAML: {error}") from error
    return parse_card(raw, f"papers/{slug}/card.yml", slug)


def parse_card(raw: Any, where: str, slug: str | None = None) -> Card:
    """Validate a card's mapping; `where` names its file in errors, `slug` is what its slug must be."""
    errors = sorted(jsonschema.Draft202012Validator(_SCHEMA).iter_errors(raw), key=lambda e: list(map(str, e.path)))
    if errors:
        raise CardError("\n".join(f"{where}: {_location(raw, e)}: {e.message}" for e in errors))
    if slug is not None and raw["slug"] != slug:
        raise CardError(f"{where}: slug: {raw['slug']!r} differs from its folder's name {slug!r}")
    claims: dict[str, ClaimCard] = {}
    for claim in raw["claims"]:
        if claim["id"] in claims:
            raise CardError(f"{where}: claims: the id {claim['id']!r} stands there twice")
        claims[claim["id"]] = _claim(claim, where)
    return Card(raw["slug"], raw["title"], raw["theme"], claims, raw)


def _claim(claim: dict[str, Any], where: str) -> ClaimCard:
    try:
        check = Check.parse(claim["check"])
    except ValueError as error:
        raise CardError(f"{where}: claims.{claim['id']}.check: {error}") from error
    reported = claim["reported"]
    return ClaimCard(
        id=claim["id"],
        statement=claim["statement"],
        reported=str(reported["value"]),
        source=reported["source"],
        measures=claim["measures"],
        check=check,
        control=claim["control"],
        digits=claim.get("digits", 2),
        only_at_paper_scale=claim.get("only_at_paper_scale"),
    )


def _location(raw: Any, error: jsonschema.ValidationError) -> str:
    """`claims.localisation.reported` rather than `claims[3].reported`: claims are found by their id."""
    parts: list[str] = []
    node = raw
    for step in error.path:
        node = node[step]
        named = isinstance(step, int) and isinstance(node, dict) and isinstance(node.get("id"), str)
        parts.append(node["id"] if named else str(step))
    return ".".join(parts) or "top level"
