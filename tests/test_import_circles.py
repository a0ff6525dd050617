"""No module of `shared` needs itself to be imported.

Read from the source, so that nothing is hidden by what was imported before. A module needs what its top level imports
(not what functions or `if TYPE_CHECKING` import); importing `shared.room._topic` also runs `shared/room/__init__.py`,
but a room's own modules may be on their way up to it: only names taken *from* a package need it whole.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SHARED = Path(__file__).resolve().parents[1] / "shared"


def modules(folder: Path, name: str) -> dict[str, Path]:
    """Every module below a package, by dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join((name, *parts)).removesuffix(".__init__")] = path
    return found


def at_the_top(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the module does."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from at_the_top(node.body)
            yield from at_the_top(node.orelse)
        elif isinstance(node, ast.Try):
            for part in (node.body, node.orelse, node.finalbody, *(handler.body for handler in node.handlers)):
                yield from at_the_top(part)
        elif isinstance(node, ast.With):
            yield from at_the_top(node.body)


def needed(name: str, source: str, known: set[str]) -> set[str]:
    """The modules among `known` that a module's top level takes names from."""
    found = set()
    for node in at_the_top(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.level == 0 and node.module:
            # `from shared.room import thing` takes a module if there is one of that name, else the package's own name
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in known else node.module for full in inner.values()}
    return (found & known) - {name}


def graph(folder: Path, name: str) -> dict[str, set[str]]:
    """What every module of a package needs."""
    paths = modules(folder, name)
    return {module: needed(module, path.read_text(encoding="utf-8"), set(paths)) for module, path in paths.items()}


def circle(needs: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in order, or none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_shared_has_no_circle():
    assert circle(graph(SHARED, "shared")) == []


def test_a_circle_is_found_and_what_only_types_need_is_none(tmp_path):
    (tmp_path / "__init__.py").write_text("from room._a import thing\n")
    (tmp_path / "_a.py").write_text("try:\n    from room import _b\nexcept ImportError:\n    pass\n")
    (tmp_path / "_b.py").write_text("from room._a import thing\n")
    assert set(circle(graph(tmp_path, "room"))) == {"room._a", "room._b"}
    (tmp_path / "_b.py").write_text("if TYPE_CHECKING:\n    from room._a import thing\ndef f():\n    import room._a\n")
    assert circle(graph(tmp_path, "room")) == []
    (tmp_path / "_b.py").write_text("from room import thing\n")  # by way of the package
    assert set(circle(graph(tmp_path, "room"))) == {"room", "room._a", "room._b"}
