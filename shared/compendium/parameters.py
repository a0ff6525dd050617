"""The parameters of a notebook: the names its tagged cell assigns, recorded by themselves and never retyped."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared._checks import UnknownNameError, check_choice
from shared.compendium.paths import PAPERS, known_papers

_INJECTED = "# Parameters\n"  # how the cell begins that papermill puts below the tagged one


def notebook_path(notebook: str) -> Path:
    """The file of a notebook: `slug` means papers/slug/slug.ipynb, `slug/more_x` means papers/slug/more_x.ipynb."""
    slug, _, more = notebook.partition("/")
    check_choice("paper", slug, known_papers())
    path = PAPERS / slug / f"{more or slug}.ipynb"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.ipynb"))
        raise UnknownNameError(f"notebook={notebook!r} is no file of papers/{slug}; known: {', '.join(known)}")
    return path


def notebook_parameters(notebook: str) -> dict[str, Any]:
    """Names and values of the cell tagged `parameters` of a notebook, as stored."""
    cells = json.loads(notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    tagged = ("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    return assigned("\n".join(tagged))


def assigned(source: str) -> dict[str, Any]:
    """Names and literal values that `source` assigns."""
    values: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            values[ast.unparse(target)] = ast.literal_eval(node.value)
    return values


def recorded(notebook: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook's parameters as they stand in `namespace`, its `globals()`.

    Raises `UnknownNameError` for a name that papermill injected and the parameters cell doesn't have (a mistyped `-p`),
    `ValueError` for a parameter that isn't defined, `TypeError` for a value that JSON can't hold.
    """
    names = list(notebook_parameters(notebook))
    for cell in namespace.get("In", ()):  # what the kernel ran so far
        for name in assigned(cell) if cell.startswith(_INJECTED) else ():
            check_parameter(name, names)
    if missing := [name for name in names if name not in namespace]:
        raise ValueError(f"namespace lacks {', '.join(missing)}, which the parameters cell of {notebook} defines")
    values = {name: namespace[name] for name in names}
    json.dumps(values)  # fails here, not at the end of a long run, on what results.json can't hold
    return values


def check_parameter(name: str, names: list[str]) -> None:
    """Raise `UnknownNameError` unless a notebook with the parameters `names` has `name`; the closest is named."""
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownNameError(f"parameter {name!r} is unknown; {hint}the parameters cell has: {', '.join(names)}")
