"""Which files of `shared` a piece of code reaches, name by name.

`from shared.patterns import Premise` runs the whole room's `__init__`, but depends on the module that defines
`Premise` and on what that module reaches: `__init__` files only hand names on (also the lazy ones, whose names stand
under `if TYPE_CHECKING`). A module that registers something with another (a call or decorator `register…` at its top
level) counts for whoever reaches that other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from shared.compendium.paths import ROOT

SHARED = ROOT / "shared"


def reached_files(source: str) -> set[Path]:
    """Files of `shared` that `source` imports, directly or through them."""
    found: set[Path] = set()
    queue = _files(references(nodes_of(ast.parse(source))))
    while queue:
        path = queue.pop()
        found.add(path)
        queue |= (_files(_file_references(path)) | _registered_with(path, SHARED)) - found
    return found


def imported_names(source: str, package: str = "") -> Iterator[str]:
    """Dotted names that `source`, a module of `package`, imports anywhere: modules, and what is taken from them."""
    for node in nodes_of(ast.parse(source), typing=True):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def references(nodes: list[ast.AST], package: str = "") -> set[tuple[str, str | None]]:
    """What of `shared` the code of a module of `package` uses: (module, name), or (module, None) for all of it."""
    chains, bare = _uses(nodes)
    found: set[tuple[str, str | None]] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _through(alias.name, alias.asname, chains, bare) if alias.asname else {(alias.name, None)}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            for alias in node.names:
                if _is_module(module, alias.name):
                    found |= _through(f"{module}.{alias.name}", alias.asname or alias.name, chains, bare)
                else:
                    found.add((module, None if alias.name == "*" else alias.name))
        elif isinstance(node, ast.Call) and _called(node) == "import_module":
            found |= {(text.value, None) for text in node.args[:1] if isinstance(text, ast.Constant)}
    return {(module, name) for module, name in found if module.split(".")[0] == "shared"}


def _through(module: str, alias: str, chains: dict[str, set[tuple[str, ...]]], bare: set[str]) -> set:
    """What is used of a module that goes by `alias`: its attributes, or all of it where it is handed around."""
    if alias in bare or alias not in chains:
        return {(module, None)}
    found = set()
    for chain in chains[alias]:
        inner, rest = module, list(chain)
        while len(rest) > 1 and _is_module(inner, rest[0]):
            inner = f"{inner}.{rest.pop(0)}"
        found.add((inner, rest[0]))
    return found


def _uses(nodes: list[ast.AST]) -> tuple[dict[str, set[tuple[str, ...]]], set[str]]:
    """Attribute chains by the name they start from (`zoo.cards.x`: zoo -> (cards, x)), and names used bare."""
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    chains: dict[str, set[tuple[str, ...]]] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            chain: list[str] = []
            while isinstance(node, ast.Attribute):
                chain.insert(0, node.attr)
                node = node.value
            if isinstance(node, ast.Name):
                chains.setdefault(node.id, set()).add(tuple(chain))
    bare = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in inner}
    return chains, bare


def _files(wanted: Iterable[tuple[str, str | None]]) -> set[Path]:
    return set().union(*(_home(module, name, set()) for module, name in wanted))


def _home(module: str, name: str | None, seen: set[tuple[str, str | None]]) -> set[Path]:
    """The file that defines `name`, followed through the packages that hand it on; all of a package for None."""
    path = _file(module)
    if path is None or (module, name) in seen:
        return set()
    seen.add((module, name))
    if path.name != "__init__.py" or (name is None and not _is_lazy(path)):
        return {path}
    handed_on, defined, stars = _names(path)
    if name in defined:
        return {path}
    if name in handed_on:
        return _home(*handed_on[name], seen)
    if name is not None and _file(f"{module}.{name}"):
        return _home(f"{module}.{name}", None, seen)
    if found := set().union(*(_home(star, name, seen) for star in stars)):
        return found
    return {path, *path.parent.glob("*.py")} if _is_lazy(path) else {path}


@cache
def _names(path: Path) -> tuple[dict[str, tuple[str, str | None]], set[str], list[str]]:
    """Of an `__init__`: the names it hands on and from where, those it defines, and modules it imports by star."""
    package = _package(path)
    handed_on: dict[str, tuple[str, str | None]] = {}
    stars = []
    for node in module_nodes(path):
        if isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            stars += [module for alias in node.names if alias.name == "*"]
            handed_on |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
    defined = set()
    for node in module_nodes(path)[0].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    return handed_on, defined, stars


def _is_lazy(path: Path) -> bool:
    return "__getattr__" in _names(path)[1]


def _is_module(module: str, name: str) -> bool:
    """Whether `from module import name` gives a module, as a package's own names come before its modules."""
    if (path := _file(module)) is None or _file(f"{module}.{name}") is None:
        return False
    handed_on, defined, _ = _names(path)
    return name not in defined and name not in handed_on


def _file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != "shared":
        return None
    base = SHARED.joinpath(*parts[1:])
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@cache
def _file_references(path: Path) -> frozenset[tuple[str, str | None]]:
    return frozenset(references(module_nodes(path), _package(path)))


def _registered_with(path: Path, root: Path) -> set[Path]:
    return _registrants(root).get(path, set())


@cache
def _registrants(root: Path) -> dict[Path, set[Path]]:
    """Modules by the one whose `register…` they call when they are imported."""
    found: dict[Path, set[Path]] = {}
    for path in root.rglob("*.py"):
        body = module_nodes(path)[0].body
        calls = [node.value for node in body if isinstance(node, ast.Expr)]
        calls += [mark for node in body for mark in getattr(node, "decorator_list", [])]
        called = {_called(call) if isinstance(call, ast.Call) else getattr(call, "id", "") for call in calls}
        if names := {name for name in called if name.startswith("register")}:
            homes = {ref for ref in _file_references(path) if ref[1] in names}
            for home in _files(homes) - {path}:
                found.setdefault(home, set()).add(path)
    return found


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def nodes_of(tree: ast.AST, typing: bool = False) -> list[ast.AST]:
    """Every node of a tree, itself first; `typing` with what only type checkers see."""
    nodes: list[ast.AST] = []
    queue = [tree]
    while queue:
        node = queue.pop()
        nodes.append(node)
        parts = vars(node)
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            parts = {"orelse": node.orelse}
        for part in parts.values():
            if isinstance(part, list):
                queue.extend(child for child in part if isinstance(child, ast.AST))
            elif isinstance(part, ast.AST) and not isinstance(part, ast.expr_context):
                queue.append(part)
    return nodes


@cache
def module_nodes(path: Path) -> list[ast.AST]:
    """The nodes of a file of `shared`; of a package, which may be lazy, with what type checkers see."""
    return nodes_of(ast.parse(path.read_text(encoding="utf-8")), typing=path.name == "__init__.py")


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _package(path: Path) -> str:
    return ".".join(("shared", *path.parent.relative_to(SHARED).parts))
