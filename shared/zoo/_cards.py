"""Provenance cards: one YAML file per entry of the zoo, saying where it is from and what it was tested to do."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from shared._checks import check_choice

CARDS = Path(__file__).parent / "cards"
Kind = Literal["model", "data"]

_TEXT = {"type": "string", "minLength": 1}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_WHEEL = {
    "type": "object",
    "required": ["requirement", "sha256"],
    "additionalProperties": False,
    "properties": {"requirement": {"type": "string", "pattern": "^[a-z0-9-]+==[0-9.]+$"}, "sha256": _SHA256},
}
_TEST = {
    "type": "object",
    "required": ["what", "measured"],
    "additionalProperties": False,
    "properties": {"what": _TEXT, "measured": {"type": ["number", "string"]}, "tolerance": {"type": "number"}},
}
SCHEMA = {
    "type": "object",
    "required": ["title", "kind", "task", "stored", "source", "licence", "tested"],
    "additionalProperties": False,
    "properties": {
        "title": _TEXT,
        "kind": {"enum": ["model", "data"]},
        "task": {
            "enum": [
                "causal-lm",
                "text-encoder",
                "image-classification",
                "image-text",
                "text-to-image",
                "patch-text",
                "autoencoder",
                "dictionaries",
                "images",
                "table",
                "text",
            ]
        },
        "stored": {"enum": ["fetched", "shipped", "installed"]},
        "source": _TEXT,
        "original": _TEXT,
        "licence": _TEXT,
        "wheels": {"type": "array", "minItems": 1, "items": _WHEEL},
        "sha256": {"type": "object", "minProperties": 1, "additionalProperties": _SHA256},
        "tested": {"type": "array", "minItems": 1, "items": _TEST},
        "recipe": _TEXT,
        "seed": {"type": "integer"},
        "notes": _TEXT,
    },
    "allOf": [
        {"if": {"properties": {"stored": {"const": "fetched"}}}, "then": {"required": ["wheels", "sha256"]}},
        {"if": {"properties": {"stored": {"const": "shipped"}}}, "then": {"required": ["sha256", "recipe"]}},
    ],
}


class CardError(ValueError):
    """A provenance card that breaks the schema; says which file, where and why."""


@dataclass(frozen=True)
class Card:
    """One entry's provenance. `sha256` maps file names to digests, `tested` lists what was measured."""

    name: str
    title: str
    kind: Kind
    task: str
    stored: str
    source: str
    licence: str
    tested: list[dict[str, Any]]
    original: str | None = None
    wheels: list[dict[str, str]] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)
    recipe: str | None = None
    seed: int | None = None
    notes: str | None = None

    def measured(self, what: str) -> Any:
        """The number that the card states for the test called `what`."""
        return {test["what"]: test["measured"] for test in self.tested}[
            check_choice("what", what, [test["what"] for test in self.tested])
        ]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", f"  source   {self.source}", f"  licence  {self.licence}"]
        lines += [f"  original {self.original}"] if self.original else []
        lines += [f"  stored   {self.stored}"]
        lines += [f"  sha256   {digest[:16]}…  {file}" for file, digest in self.sha256.items()]
        lines += [f"  tested   {test['what']}: {test['measured']}" for test in self.tested]
        lines += [f"  notes    {self.notes}"] if self.notes else []
        return "\n".join(lines)


def read_card(path: Path) -> Card:
    """Read and validate one card; raises `CardError` naming the file, the key and what is accepted."""
    import jsonschema  # slow to import, and only the tests and recipes validate

    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    problem = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(raw))
    if problem:
        raise CardError(f"{path.name}: {'.'.join(map(str, problem.absolute_path)) or 'top level'}: {problem.message}")
    return Card(name=path.stem, **raw)


@functools.cache
def all_cards() -> dict[str, Card]:
    """Every entry of the zoo by name. The tests validate these cards (`read_card`)."""
    return {
        path.stem: Card(name=path.stem, **yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in sorted(CARDS.glob("*.yml"))
    }


def names(kind: Kind) -> list[str]:
    """Names of all models, or of all data sets."""
    return [card.name for card in all_cards().values() if card.kind == kind]


def describe(name: str) -> Card:
    """The provenance card of an entry; print it to read it. A wrong name raises an error that lists what exists."""
    return all_cards()[check_choice("name", name, all_cards())]
