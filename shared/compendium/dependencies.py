"""What a paper's results depend on: its own files and the modules of `shared` that its notebook reaches."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from shared.compendium.paths import PAPERS, ROOT, canonical, sha256

_SHARED = ROOT / "shared"


def inputs(slug: str) -> list[Path]:
    """The files whose change makes `figures/<slug>/results.json` stale, sorted."""
    folder = PAPERS / slug
    own = [path for path in folder.iterdir() if path.suffix in {".ipynb", ".yml", ".py"}]
    try:
        reached = shared_files(notebook_source(folder / f"{slug}.ipynb"))
    except (OSError, ValueError, SyntaxError, KeyError):  # no notebook or a broken one: its own job will say so
        reached = set()
    return sorted({*own, *reached})


def run_key(notebook: str, parameters: Mapping[str, Any]) -> str:
    """What decides the numbers of a run of `notebook`, as one hash: its inputs' contents, the locked packages,
    Python's minor version and the parameters."""
    files = [*inputs(notebook), ROOT / "requirements.lock"]
    parts = {
        "inputs": {path.relative_to(ROOT).as_posix(): sha256(path) for path in files},
        "python": list(sys.version_info[:2]),
        "parameters": dict(parameters),
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def notebook_source(path: Path) -> str:
    """The code of a notebook as one module; lines of magics and shell commands are left out."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    lines = (line for cell in code if not cell.startswith("%%") for line in cell.splitlines())
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def shared_files(source: str) -> set[Path]:
    """Files of `shared` that `source` imports, directly or through them; always `_checks.py`.

    A room that is reached brings its data files (schemas, cards) along.
    """
    found: set[Path] = set()
    queue = {_SHARED / "_checks.py", *_modules(imported_names(source))}
    while queue:
        path = queue.pop()
        found.add(path)
        queue |= _imports(path) - found
    rooms = {_SHARED / path.relative_to(_SHARED).parts[0] for path in found}
    return found.union(*map(_data_files, filter(Path.is_dir, rooms)))


def imported_names(source: str, package: str = "") -> Iterator[str]:
    """Dotted names that `source`, a module of `package`, imports anywhere: modules, and what is taken from them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _modules(names: Iterator[str]) -> set[Path]:
    """The files that importing these names runs: a module's own and those of the packages it lies in."""
    found = set()
    for parts in (name.split(".") for name in names):
        for length in range(1, len(parts) + 1) if parts[0] == "shared" else ():
            path = _SHARED.parent.joinpath(*parts[:length])
            found |= {p for p in (path / "__init__.py", path.with_suffix(".py")) if p.is_file()}
    return found


@cache
def _imports(path: Path) -> frozenset[Path]:
    package = ".".join(path.parent.relative_to(_SHARED.parent).parts)
    return frozenset(_modules(imported_names(path.read_text(encoding="utf-8"), package)))


@cache
def _data_files(room: Path) -> frozenset[Path]:
    skipped = {"__pycache__", "template"}
    files = (path for path in room.rglob("*") if path.is_file() and path.suffix not in {".py", ".md"})
    return frozenset(path for path in files if not skipped & set(path.relative_to(room).parts))
