"""The API reference: a page per room from its docstrings, each opening with the room's tested example."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import yaml

from gallery.entries import Entry
from shared.compendium.paths import ROOT

SHARED = ROOT / "shared"
USES = "uses.json"
_OF_NODE = {ast.ClassDef: "autoclass", ast.FunctionDef: "autofunction"}  # by source: a mocked package hides it


def rooms() -> dict[str, str]:
    """The rooms that exist and what they hold, in the order of shared/rooms.yml."""
    table = yaml.safe_load((SHARED / "rooms.yml").read_text(encoding="utf-8"))["rooms"]
    return {name: row["holds"] for name, row in table.items() if not row.get("planned")}


def write_reference(source: Path, papers: list[Entry]) -> None:
    """Write api/<room>.rst for every room, their index, and who uses what for the links back."""
    folder = source / "api"
    folder.mkdir(parents=True, exist_ok=True)
    (source / USES).write_text(json.dumps(uses(papers)), encoding="utf-8")
    for room in rooms():
        using = [p for p in papers if any(name.startswith(f"shared.{room}.") for name in p.card.methods)]
        (folder / f"{room}.rst").write_text(room_page(room, using), encoding="utf-8")
    lines = ["# API reference", "", "`shared` by room. Each page opens with an example that the tests run.", ""]
    lines += ["| room | holds |", "|---|---|"]
    lines += [f"| {{doc}}`shared.{room} <{room}>` | {holds} |" for room, holds in rooms().items()]
    lines += ["", "```{toctree}", ":hidden:", "", *rooms(), "```", ""]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")


def uses(papers: list[Entry]) -> dict[str, list[tuple[str, str]]]:
    """Short title and page of the papers whose cards name a public name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for paper in papers:
        for name in paper.card.methods:
            found.setdefault(name, []).append((paper.short, f"/{paper.page}"))
    return found


def room_page(room: str, using: list[Entry]) -> str:
    module = import_module(f"shared.{room}")
    lines = [*_title(f"shared.{room}", "="), f".. automodule:: shared.{room}", "   :no-members:", ""]
    names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    lines += _overview(f"shared.{room}", names)
    lines += _entries(f"shared.{room}", names, module)
    for name, public in submodules(room).items():
        inner, path = f"shared.{room}.{name}", SHARED / room / f"{name}.py"
        lines += [*_title(inner, "-"), f".. automodule:: {inner}", "   :no-members:", "", *_overview(inner, public)]
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        defined = {node.name: _OF_NODE[type(node)] for node in nodes if type(node) in _OF_NODE}
        lines += [line for entry in public for line in _directive(inner, entry, defined.get(entry, "autodata"))]
    if using:
        lines += [*_title("Papers that use it", "-"), *_mini_gallery(using)]
    return "\n".join(lines)


def submodules(room: str) -> dict[str, list[str]]:
    """Public modules of a room and what they hold beside the room's flat names; `compendium` has flat names only."""
    flat = set(import_module(f"shared.{room}").__all__)
    found = [module.name for module in pkgutil.iter_modules([str(SHARED / room)]) if not module.ispkg]
    public = {name: _public(SHARED / room / f"{name}.py") for name in found if not name.startswith("_")}
    own = {name: [entry for entry in entries if entry not in flat] for name, entries in public.items()}
    return {name: entries for name, entries in own.items() if entries and room != "compendium"}


def _public(path: Path) -> list[str]:
    """`__all__` of a module, read without importing it, else its functions and classes."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return [node.name for node in nodes if type(node) in _OF_NODE and not node.name.startswith("_")]


def _overview(module: str, names: list[str]) -> list[str]:
    """Every public name with its first sentence."""
    return [
        f".. currentmodule:: {module}",
        "",
        ".. autosummary::",
        "   :nosignatures:",
        "",
        *(f"   {n}" for n in names),
        "",
    ]


def _entries(name: str, names: list[str], module: ModuleType) -> list[str]:
    kinds = {public: _kind(getattr(module, public)) for public in names}
    return [line for public, kind in kinds.items() for line in _directive(name, public, kind)]


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "autodata"


def _directive(module: str, name: str, kind: str) -> list[str]:
    options = ["   :members:"] if kind == "autoclass" else ["   :no-value:"] if kind == "autodata" else []
    return [f".. {kind}:: {module}.{name}", *options, ""]


def _mini_gallery(papers: list[Entry]) -> list[str]:
    lines = [".. grid:: 1 2 3 3", "   :gutter: 2", ""]
    for paper in papers:
        lines += [f"   .. grid-item-card:: {paper.short}", f"      :link: /{paper.page}", "      :link-type: doc"]
        if paper.figures():
            lines += [
                f"      :img-top: /thumbnails/{paper.slug}.png",
                f"      :img-alt: A figure of {paper.card.title}",
            ]
        lines += ["", f"      {paper.slug}", ""]
    return lines


def _title(text: str, mark: str) -> list[str]:
    return [text, mark * len(text), ""]
