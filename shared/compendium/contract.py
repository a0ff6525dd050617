"""The notebook's contract of papers/README.md, as far as a program can check it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import yaml

from shared.compendium.card import load_card
from shared.compendium.paths import PAPERS

LARGEST = 400_000  # bytes
_COMPARED = "# NBVAL_CHECK_OUTPUT"


def problems(slug: str, executed: bool = True) -> list[str]:
    """What of the contract `papers/<slug>` breaks, one line each; `executed=False` allows a notebook without outputs.

    A card that breaks its schema raises `CardError`.
    """
    card = load_card(slug)
    path = PAPERS / slug / f"{slug}.ipynb"
    if not path.is_file():
        return [f"papers/{slug}/{slug}.ipynb is missing"]
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [*_text(notebook, code, slug), *_paper_scale(slug), *_names(code, card)]
    if executed:
        found += _outputs(code)
    if path.stat().st_size > LARGEST:
        found.append(f"the notebook has {path.stat().st_size} bytes; at most {LARGEST}")
    return [f"papers/{slug}: {problem}" for problem in found]


def notebook_parameters(slug: str) -> dict[str, Any]:
    """Names and values of the cell tagged `parameters`."""
    notebook = nbformat.read(PAPERS / slug / f"{slug}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    values: dict[str, Any] = {}
    for node in ast.parse("\n".join(cell.source for cell in cells)).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            values[ast.unparse(target)] = ast.literal_eval(node.value)
    return values


def _text(notebook: nbformat.NotebookNode, code: list[nbformat.NotebookNode], slug: str) -> Iterator[str]:
    first, prose = notebook.cells[0], "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is no title (`# …`)"
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    if tags.count("parameters") != 1:
        yield f"{tags.count('parameters')} cells are tagged `parameters`; exactly one must be"
    if "injected-parameters" in tags:
        yield "it holds papermill's injected parameters; store it with `make store`"
    if not re.search(rf'Paper\(\s*"{slug}"', "\n".join(cell.source for cell in code)):
        yield f'no cell makes `Paper("{slug}", …)`'
    compared = [cell.source for cell in code if _COMPARED in cell.source]
    if [source.split() for source in compared] != [[*_COMPARED.split(), "paper.report()"]]:
        yield f"exactly one cell must be `{_COMPARED}` and `paper.report()`, nothing else compared"
    for heading in ("Limits", "Exercises"):
        if not any(line.startswith("#") and heading in line for line in prose.splitlines()):
            yield f"no heading says {heading!r}"
    if "<details>" not in prose:
        yield "no solution in `<details>`"


def _paper_scale(slug: str) -> Iterator[str]:
    path = PAPERS / slug / "paper.yml"
    if not path.is_file():
        yield "paper.yml is missing"
        return
    named, known = yaml.safe_load(path.read_text(encoding="utf-8")), notebook_parameters(slug)
    if unknown := named.keys() - known.keys():
        yield f"paper.yml names {', '.join(sorted(unknown))}, which the parameters cell doesn't have"
    if named.get("scale") != "paper":
        yield "paper.yml must say `scale: paper`"
    for name, value in {"scale": "small", "seed": 0, "device": "auto"}.items():
        if known.get(name) != value:
            yield f"the parameters cell must say `{name} = {value!r}`"


def _names(code: list[nbformat.NotebookNode], card: Any) -> Iterator[str]:
    source = "\n".join(cell.source for cell in code)
    for claim in card.claims:
        if claim not in source:
            yield f"claim {claim!r} of the card appears in no code cell"
    thumbnail = card.raw.get("thumbnail")
    if thumbnail and thumbnail not in source:
        yield f"thumbnail {thumbnail!r} of the card is no figure of the notebook"


def _outputs(code: list[nbformat.NotebookNode]) -> Iterator[str]:
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"it wasn't executed top to bottom in a fresh kernel (execution counts {counts}); use `make store`"
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {cell.execution_count} is stored with an error: {output.ename}"
            if output.get("name") == "stderr":
                yield f"cell {cell.execution_count} is stored with stderr output; use `make store`"
