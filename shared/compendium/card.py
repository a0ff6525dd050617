"""A paper's card: citation, claims and budget, validated against a JSON schema."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
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
class GateCard:
    """A gate as the card states it: what must be so before a claim can be tested.

    Parameters
    ----------
    id : its name, which claims give as their gate.
    statement : what must be so.
    measures : what its number is, with the unit.
    check : what the whole interval must satisfy.
    """

    id: str
    statement: str
    measures: str
    check: Check


@dataclass(frozen=True)
class ClaimCard:
    """One claim as the card states it, before anything is measured.

    Parameters
    ----------
    id : its name.
    kind : "paper", a statement of the paper, or "own", a question of ours.
    statement, measures : what is said, and what the measured number is.
    reported, source : the paper's number and where it stands; a dash for our own questions.
    unit : the independent unit that gives one number (plural: "seeds").
    check : what the mean must satisfy.
    null, rival : the null version and the rivals, in words.
    gates : names of the gates that must pass first.
    notebook : the further notebook (`more_topic`) that measures it; empty for the main one.
    post_hoc : what changed after the number was seen, and why.
    only_at_paper_scale : why there is no test at small scale.
    timed : whether its numbers are times, which another machine doesn't repeat.
    """

    id: str
    kind: str
    statement: str
    reported: str
    source: str
    measures: str
    unit: str
    check: Check
    null: str
    rival: str = ""
    gates: tuple[str, ...] = ()
    notebook: str = ""
    post_hoc: str = ""
    only_at_paper_scale: str = ""
    timed: bool = False


@dataclass(frozen=True)
class Card:
    """What `card.yml` says of a paper.

    Parameters
    ----------
    slug, title, theme : as in the card.
    gates, claims : by id.
    methods : dotted names in `shared` of what the paper's method is made of.
    raw : the whole mapping, for the gallery.
    """

    slug: str
    title: str
    theme: str
    gates: dict[str, GateCard]
    claims: dict[str, ClaimCard]
    methods: tuple[str, ...]
    raw: dict[str, Any] = field(repr=False)


def load_card(slug: str, *, folder: Path = PAPERS) -> Card:
    """Read and validate `papers/<slug>/card.yml`.

    Parameters
    ----------
    slug : the paper's folder.
    folder : where the papers are.

    Returns
    -------
    The card.

    Raises
    ------
    UnknownNameError
        for a slug without a card; those that exist are listed.
    CardError
        for a card that breaks the schema.
    """
    check_choice("paper", slug, known_papers(folder=folder))
    where = f"papers/{slug}/card.yml"
    return parse_card(read_yaml(folder / slug / "card.yml", where), where=where, slug=slug)


def read_yaml(path: Path, where: str) -> Any:
    """What a YAML file holds; `CardError` in one line, with the place, where it is none."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        hint = "; quote a text that holds `: `" if problem and problem.startswith("mapping values") else ""
        said = problem or " ".join(str(error).split())
        raise CardError(f"{where}: {place}no valid YAML: {said}{hint}") from error


def parse_card(raw: Any, *, where: str, slug: str | None = None) -> Card:
    """Validate a card's mapping.

    Parameters
    ----------
    raw : what the file holds.
    where : names the file in errors.
    slug : what its slug must be.

    Returns
    -------
    The card.

    Raises
    ------
    CardError
        where it breaks the schema: in which file, where, and what is accepted.
    """
    errors = sorted(jsonschema.Draft202012Validator(_SCHEMA).iter_errors(raw), key=lambda e: list(map(str, e.path)))
    if errors:
        raise CardError("\n".join(f"{where}: {_location(raw, e)}: {_said(e)}" for e in errors))
    if slug is not None and raw["slug"] != slug:
        raise CardError(f"{where}: slug: {raw['slug']!r} differs from its folder's name {slug!r}")
    gates = {gate["id"]: _gate(gate, where) for gate in raw.get("gates", [])}
    claims = {claim["id"]: _claim(claim, gates, raw.get("more", {}), where) for claim in raw["claims"]}
    for kind in ("gates", "claims"):
        ids = [entry["id"] for entry in raw.get(kind, [])]
        if twice := sorted({id for id in ids if ids.count(id) > 1}):
            raise CardError(f"{where}: {kind}: the id {twice[0]!r} stands there twice")
    return Card(raw["slug"], raw["title"], raw["theme"], gates, claims, tuple(raw["methods"]), raw)


def _gate(gate: dict[str, Any], where: str) -> GateCard:
    check = _check(gate["check"], f"{where}: gates.{gate['id']}.check")
    if check.against_rival:
        raise CardError(f"{where}: gates.{gate['id']}.check: a gate has no rival, only a number")
    return GateCard(gate["id"], gate["statement"], gate["measures"], check)


def _claim(claim: dict[str, Any], gates: Mapping[str, GateCard], listed: Iterable[str], where: str) -> ClaimCard:
    at = f"{where}: claims.{claim['id']}"
    check = _check(claim["check"], f"{at}.check")
    if check.against_rival and "rival" not in claim:
        raise CardError(f"{at}.check: {check.text!r} needs `rival`: say who it is")
    named = claim.get("gate", [])
    named = (named,) if isinstance(named, str) else tuple(named)
    if unknown := [gate for gate in named if gate not in gates]:
        raise CardError(f"{at}.gate: {unknown[0]!r} is no gate of the card; known: {', '.join(gates) or 'none'}")
    more = claim.get("notebook")
    if more and more not in listed:
        raise CardError(f"{at}.notebook: {more!r} is not listed under `more`; listed: {', '.join(listed) or 'none'}")
    reported = claim.get("reported", {"value": "–", "source": "–"})
    return ClaimCard(
        id=claim["id"],
        kind=claim["kind"],
        statement=claim["statement"],
        reported=str(reported["value"]),
        source=reported["source"],
        measures=claim["measures"],
        unit=claim["unit"],
        check=check,
        null=claim["null_version"],  # `null` alone is no key in YAML
        rival=claim.get("rival", ""),
        gates=named,
        notebook=claim.get("notebook", ""),
        post_hoc=claim.get("post_hoc", ""),
        only_at_paper_scale=claim.get("only_at_paper_scale", ""),
        timed=claim.get("timed", False),
    )


def _check(text: str, where: str) -> Check:
    try:
        return Check.parse(text)
    except ValueError as error:
        raise CardError(f"{where}: {error}") from error


def _said(error: jsonschema.ValidationError) -> str:
    """An error in one line: of an unknown key what it may have meant, of a mapping that lacks one not its content."""
    if error.validator != "additionalProperties" or not isinstance(error.schema.get("properties"), dict):
        return " ".join(error.message.split())
    accepted = list(error.schema["properties"])
    said = []
    for key in (key for key in error.instance if key not in accepted):
        close = difflib.get_close_matches(str(key), accepted, n=1)
        said.append(f"unknown key {key!r}; " + (f"did you mean {close[0]!r}? " if close else ""))
    return "".join(said) + f"accepted: {', '.join(accepted)}"


def _location(raw: Any, error: jsonschema.ValidationError) -> str:
    """`claims.localisation.reported` rather than `claims[3].reported`: claims are found by their id."""
    parts: list[str] = []
    node = raw
    for step in error.path:
        node = node[step]
        named = isinstance(step, int) and isinstance(node, dict) and isinstance(node.get("id"), str)
        parts.append(node["id"] if named else str(step))
    return ".".join(parts) or "top level"
