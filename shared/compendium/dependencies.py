"""What a notebook's results depend on, and the key that says whether they are still those of the present code."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from shared.compendium.imports import module_nodes, nodes_of, reached_files
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import PAPERS, ROOT, canonical, data_dir, sha256

# Fields of a card's gates and claims whose rewording changes no number and no verdict.
PROSE = {"statement", "measures", "source", "null_version", "rival", "post_hoc", "only_at_paper_scale"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_LOADER = re.compile(r"zoo\.\w+|load_(?:data|model|pipeline)|(?:dictionary|hub)_folder")


def run_key(notebook: str, parameters: Mapping[str, Any]) -> str:
    """What decides the numbers of a run of `notebook`, as one hash: its code and its card's checks, the modules of
    `shared` and the assets it reaches, the locked packages, Python's minor version, and the parameters it is given."""
    parts = {
        "notebook": _code_cells(notebook_path(notebook)),
        "checks": _checks(notebook),
        "files": {_name(path): _digest(path) for path in inputs(notebook, parameters)},
        "locked": _locked(),
        "python": list(sys.version_info[:2]),
        "parameters": dict(parameters),
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def inputs(notebook: str, parameters: Mapping[str, Any] | None = None) -> list[Path]:
    """The files beside notebook and card whose change makes its results stale, sorted: python files in its folder,
    modules of `shared` it reaches, assets it loads by a name in its code or among `parameters`."""
    path = notebook_path(notebook)
    own = set(path.parent.glob("*.py"))
    source = "\n".join([notebook_source(path), *(file.read_text(encoding="utf-8") for file in sorted(own))])
    reached = reached_files(source)
    assets = asset_names(source, parameters or {}).union(*map(_assets_of_module, reached))
    return sorted({*own, *reached}.union(*map(_asset_files, assets)))


def notebook_source(path: Path) -> str:
    """The code of a notebook as one module; lines of magics and shell commands are left out."""
    code = (cell["source"] for cell in _code_cells(path))
    lines = (line for cell in code if not cell.startswith("%%") for line in cell.splitlines())
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def asset_names(source: str, parameters: Mapping[str, Any]) -> set[str]:
    """Assets of `data/` that code may load: those whose name stands in it or among the values of `parameters`.

    Where it loads one by a name that it puts together, as `f"{net}-patches"`, all that fit count.
    """
    nodes = nodes_of(ast.parse(source))
    names = {text.partition("/")[0] for text in _literals(nodes).union(_texts(dict(parameters)))}
    patterns = [re.compile(pattern) for pattern in _patterns(nodes)]
    known = {path.parent.name for path in data_dir().glob("*/card.yml")}
    return {name for name in known if name in names or any(pattern.fullmatch(name) for pattern in patterns)}


def _literals(nodes: list[ast.AST]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _patterns(nodes: list[ast.AST]) -> set[str]:
    """Regular expressions of the names put together in a loader's first argument, or in a variable that reaches it."""
    values: dict[str, list[ast.AST]] = {}
    for node in nodes:
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                values.setdefault(target.id, []).append(getattr(node, "value", None) or getattr(node, "iter", node))
    calls = [node for node in nodes if isinstance(node, ast.Call) and _LOADER.fullmatch(ast.unparse(node.func))]
    queue = [call.args[0] for call in calls if call.args]
    found = {_pattern(argument) for argument in queue if isinstance(argument, ast.BinOp)}
    seen: set[str] = set()
    while queue:
        for node in nodes_of(queue.pop()):
            if isinstance(node, ast.Name) and node.id not in seen:
                seen.add(node.id)
                queue += values.get(node.id, [])
            elif (pattern := _pattern(node)) and pattern.strip(".*"):  # a lone variable stands elsewhere as it is
                found.add(pattern)
    return {pattern.partition("/")[0] for pattern in found} - {"", ".*"}


def _pattern(node: ast.AST) -> str:
    """What a text that is put together can be, as a regular expression; "" for what is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) or ".*" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_pattern(node.left) or ".*") + (_pattern(node.right) or ".*")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and (text := _pattern(node.left)):
        return re.sub(r"%[a-z]", ".*", text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (text := _pattern(node.func.value)):
        fills = {"format": re.sub(r"\\\{.*?\\\}", ".*", text), "join": f".*{text}.*"}
        return fills.get(node.func.attr, "")
    return ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


@cache
def _assets_of_module(path: Path) -> frozenset[str]:
    """Assets that a module of `shared` names: a default, or what a helper loads."""
    texts = _literals(module_nodes(path))
    return frozenset(path.parent.name for path in data_dir().glob("*/card.yml") if path.parent.name in texts)


@cache
def _asset_files(name: str) -> frozenset[Path]:
    """An asset's card and files, without the recipe that made them."""
    skipped = {".py", ".pyc", ".md"}
    return frozenset(p for p in (data_dir() / name).rglob("*") if p.is_file() and p.suffix not in skipped)


def _code_cells(path: Path) -> list[dict[str, Any]]:
    """Source and tags of a notebook's code cells; outputs and prose decide nothing."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = (cell for cell in cells if cell["cell_type"] == "code")
    return [{"source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])} for cell in code]


def _checks(notebook: str) -> Any:
    """The gates of a card and the claims that a notebook measures; of their prose only whether it is there."""
    slug, _, more = notebook.partition("/")
    text = (PAPERS / slug / "card.yml").read_text(encoding="utf-8")
    raw = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    claims = [claim for claim in raw.get("claims", []) if claim.get("notebook", "") == more]
    return _without_prose({"gates": raw.get("gates", []), "claims": claims})


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: name in PROSE or _without_prose(part) for name, part in value.items()}
    return [_without_prose(part) for part in value] if isinstance(value, list) else value


def _locked() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@cache
def _digest(path: Path) -> str:
    """Hash of a file's content; of a python file's without docstrings, comment lines and blank lines."""
    if path.suffix != ".py":
        return sha256(path)
    text = path.read_text(encoding="utf-8")
    nodes = module_nodes(path)
    docstrings = _lines(node.body[0] for node in nodes if isinstance(node, _DOCUMENTED) and _has_docstring(node))
    strings = _lines(node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr))
    kept = (
        line
        for number, line in enumerate(text.splitlines(), 1)
        if number not in docstrings and (number in strings or (not line.lstrip().startswith("#") and line.strip()))
    )
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _has_docstring(node: ast.AST) -> bool:
    return bool(node.body) and ast.get_docstring(node, clean=False) is not None


def _lines(nodes: Iterable[ast.AST]) -> set[int]:
    return {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}


def _name(path: Path) -> str:
    root = data_dir().parent if path.is_relative_to(data_dir()) else ROOT
    return path.relative_to(root).as_posix()
