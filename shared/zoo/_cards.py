"""Provenance cards: `data/<asset>/card.yml` says where an asset is from and what it was tested to do."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from shared._checks import check_choice
from shared.compendium.paths import data_dir

Kind = Literal["model", "data"]
FILE = "card.yml"
LOADERS = {"text-to-image": "load_pipeline", "dictionaries": "dictionary_folder"}  # tasks that load_model doesn't load

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "minItems": 1, "items": _TEXT}
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
                "arrays",
                "table",
                "text",
            ]
        },
        "stored": {"enum": ["fetched", "shipped", "installed"]},
        "optional": {"const": True},
        "reader": _TEXT,
        "splits": _TEXTS,
        "options": {"type": "object", "minProperties": 1, "additionalProperties": _TEXT},
        "source": _TEXT,
        "original": _TEXT,
        "licence": _TEXT,
        "converter": _TEXT,
        "wheels": {"type": "array", "minItems": 1, "items": _WHEEL},
        "sha256": {"type": "object", "minProperties": 1, "additionalProperties": _SHA256},
        "made_from": _TEXTS,
        "tested": {"type": "array", "minItems": 1, "items": _TEST},
        "seed": {"type": "integer"},
        "notes": _TEXT,
    },
    "allOf": [
        {"if": {"properties": {"kind": {"const": "data"}}}, "then": {"required": ["reader", "splits"]}},
        {
            "if": {"properties": {"stored": {"const": "fetched"}}},
            "then": {"required": ["converter", "wheels", "sha256"]},
        },
        {"if": {"properties": {"stored": {"const": "shipped"}}}, "then": {"required": ["sha256"]}},
        {"if": {"required": ["optional"]}, "then": {"properties": {"stored": {"const": "fetched"}}}},
    ],
}


class CardError(ValueError):
    """A provenance card that breaks the schema; says which file, where and why."""


@dataclass(frozen=True)
class Card:
    """One asset's provenance, as `data/<name>/card.yml` states it.

    Parameters
    ----------
    name : the asset's, which is its folder's.
    title : one line on what it is.
    kind : "model" or "data".
    task : what it is for; decides which function loads it.
    stored : "shipped" in its folder, "fetched" into the cache, or "installed" with a package.
    optional : fetched only when it is named: no stored run reads it, and its licence or size is one's own choice.
    source : where it is from, or how it was made.
    licence : under which its files are.
    tested : what was measured, by what, measured and (for numbers that may differ) tolerance.
    reader : the name of what reads it as data.
    splits : of a data set; the first is the default.
    options : of `load_data`, by name, with what each does.
    original : the work or the hub id behind the source.
    converter : the name of what turns its wheels into files.
    wheels : requirement and sha256 of each pinned wheel.
    sha256 : digests of its files.
    made_from : other assets that its recipe reads.
    seed : of its recipe.
    notes : whatever else one should know.
    """

    name: str
    title: str
    kind: Kind
    task: str
    stored: str
    source: str
    licence: str
    tested: list[dict[str, Any]]
    reader: str | None = None
    splits: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    optional: bool = False
    original: str | None = None
    converter: str | None = None
    wheels: list[dict[str, str]] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)
    made_from: list[str] = field(default_factory=list)
    seed: int | None = None
    notes: str | None = None

    @property
    def folder(self) -> Path:
        """The asset's own: its card, what it ships, and its recipe."""
        return data_dir() / self.name

    @property
    def loader(self) -> str:
        """Name of the function of `shared.zoo` that loads it."""
        return "load_data" if self.kind == "data" else LOADERS.get(self.task, "load_model")

    def measured(self, what: str) -> Any:
        """The number that the card states.

        Parameters
        ----------
        what : name of one of its tests.

        Returns
        -------
        A number or a string.

        Raises
        ------
        UnknownNameError
            If there is no such test.
        """
        stated = {test["what"]: test["measured"] for test in self.tested}
        return stated[check_choice("what", what, stated)]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", f"  source   {self.source}", f"  licence  {self.licence}"]
        lines += [f"  original {self.original}"] if self.original else []
        lines += [f"  stored   {self.stored}{', optional' if self.optional else ''}"]
        lines += [f"  splits   {', '.join(self.splits)}"] if self.splits else []
        lines += [f"  option   {name}: {text}" for name, text in self.options.items()]
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
        where = ".".join(map(str, problem.absolute_path)) or "top level"
        raise CardError(f"{path.parent.name}/{path.name}: {where}: {problem.message}")
    return Card(name=path.parent.name, **raw)


@functools.cache
def all_cards() -> dict[str, Card]:
    """Every asset by name, which is its folder's. The tests validate these cards (`read_card`)."""
    return {
        path.parent.name: Card(name=path.parent.name, **yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in sorted(data_dir().glob(f"*/{FILE}"))
    }


def names(kind: Kind) -> list[str]:
    """Names of all models, or of all data sets."""
    return [card.name for card in all_cards().values() if card.kind == kind]


def describe(name: str) -> Card:
    """The provenance card of an asset; print it to read it.

    Parameters
    ----------
    name : one of `available_data()` or `available_models()`.

    Returns
    -------
    The `Card`.

    Raises
    ------
    UnknownNameError
        If there is none; says what exists.
    """
    return all_cards()[check_choice("name", name, all_cards())]
