"""The coding exercise of a notebook: its stub must fail its check and its stored solution pass it."""

from __future__ import annotations

import ast
import re

import nbformat

PASSED, SOLUTION = "(right|good)", re.compile(r"```python\n(.*?)```", re.DOTALL)


def exercise(notebook: nbformat.NotebookNode) -> tuple[list[nbformat.NotebookNode], str]:
    """The code cells below the heading *Exercises*, and the solution's code (empty where there is none)."""
    headings = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown" and _heads(cell.source)]
    below = notebook.cells[headings[-1] :] if headings else []
    prose = "\n".join(cell.source for cell in below if cell.cell_type == "markdown")
    solutions = SOLUTION.findall(prose)
    return [cell for cell in below if cell.cell_type == "code"], solutions[-1] if solutions else ""


def stub_problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with the exercise as the notebook is stored or was run."""
    cells, solution = exercise(notebook)
    if not cells:
        return ["no code cell below the heading Exercises"]
    found = [] if solution else ["the exercise has no solution in a ```python block"]
    return found + (["the untouched stub passes the exercise's check"] if passed(cells[-1]) else [])


def solved(notebook: nbformat.NotebookNode) -> str:
    """The exercise's cells with the solution in place of the stub, to be run at the notebook's end."""
    cells, solution = exercise(notebook)
    answered = _names(solution)
    kept = []
    for cell in cells:
        for node in ast.parse(cell.source).body:
            if not answered & _defines(node):
                kept.append(ast.unparse(node))
    return "\n".join([solution, *kept])


def passed(cell: nbformat.NotebookNode) -> bool:
    """Whether the check's last word is that the answer is right."""
    said = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])
    )
    return bool(re.search(rf"\b{PASSED}\b", said)) and "not yet" not in said and "still to do" not in said


def _heads(source: str) -> bool:
    return any(line.startswith("#") and "Exercises" in line for line in source.splitlines())


def _names(source: str) -> set[str]:
    return set().union(*(_defines(node) for node in ast.parse(source).body)) if source else set()


def _defines(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
