"""What the site shows of one paper: its card, its notebooks, its figures, and where its numbers come from."""

from __future__ import annotations

import ast
import base64
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from shared.compendium import Card, load_card
from shared.compendium.ledger import KINDS, counts, fresh_results, in_words, rows
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import PAPERS, ROOT, known_notebooks, known_papers, run_dir

COMPARED = "# NBVAL_CHECK_OUTPUT"


@dataclass
class Entry:
    """What the gallery shows of one paper; `results` is empty before its first official run here."""

    card: Card
    notebook: nbformat.NotebookNode
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return self.card.slug

    @property
    def page(self) -> str:
        """Where its page lies: as in the repository, so that links between notebooks hold."""
        return f"papers/{self.slug}/{self.slug}"

    @property
    def short(self) -> str:
        """A title for the side bar: what stands before the colon, if that isn't long."""
        head, colon, _ = self.card.title.partition(": ")
        title = head if colon and len(head) < 40 else self.card.title
        return title if len(title) <= 60 else f"{title[:57].rsplit(' ', 1)[0]} …"

    def further(self) -> dict[str, nbformat.NotebookNode]:
        """Its `more_<topic>` notebooks by name."""
        names = [name for name in known_notebooks(self.slug) if "/" in name]
        return {name.partition("/")[2]: nbformat.read(notebook_path(name), as_version=4) for name in names}

    def figures(self) -> dict[str, tuple[bytes, str]]:
        """Picture and caption by name: of the last official run here, else as the notebook is stored with them."""
        if self.results:
            found = {name: (run_dir(self.slug) / f"{name}.png", said) for name, said in self.results["figures"].items()}
            return {name: (path.read_bytes(), said) for name, (path, said) in found.items() if path.is_file()}
        return stored_figures(self.notebook)

    @property
    def claims(self) -> list[dict[str, str]]:
        """The report's rows: of the last official run here, else of the stored one."""
        return rows(self.slug)

    def verdicts(self) -> str:
        """The papers' claims and our own questions, counted apart."""
        counted = counts(self.claims)
        said = [f"{name}: {in_words(counted[kind])}" for kind, name in KINDS.items() if counted[kind]]
        return "; ".join(said) or "not run here yet"

    def origin(self) -> str:
        """Which run the numbers are of: an official one here, or the stored one; its date and its machine."""
        if self.results:
            return f"run here on {self.results.get('finished', '')[:10] or 'an unknown day'} ({self._device()})"
        if not self.claims:
            return ""
        if kept := self.notebook.metadata.get("reprise"):
            return f"stored run of {kept['stored']} ({kept['machine']})"
        day = _last_commit(notebook_path(self.slug))  # stored before runs were dated: no later than that
        return f"stored run{f', last changed {day}' if day else ''} (one x86-64 machine without GPU)"

    def _device(self) -> str:
        return f"{self.results.get('device', 'cpu')}, torch {self.results.get('versions', {}).get('torch', 'unknown')}"


def entries() -> list[Entry]:
    """Every paper that has a notebook."""
    found = []
    for slug in known_papers():
        path = PAPERS / slug / f"{slug}.ipynb"
        if path.is_file():
            found.append(Entry(load_card(slug), nbformat.read(path, as_version=4), fresh_results(slug)))
    return found


def stored_figures(notebook: nbformat.NotebookNode) -> dict[str, tuple[bytes, str]]:
    """Pictures that a notebook is stored with, by the name and with the caption that its cell gives."""
    found = {}
    for cell in notebook.cells:
        if png := picture(cell):
            name, caption = named_figure(cell.source) or (f"figure{len(found) + 1}", "")
            found[name] = (png, caption)
    return found


def picture(cell: nbformat.NotebookNode) -> bytes | None:
    """The picture that a cell is stored with; of several the last."""
    data = [output["data"]["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    return base64.b64decode(data[-1]) if data else None


def named_figure(source: str) -> tuple[str, str] | None:
    """Name and caption of the last `paper.figure(figure, name, caption)` of a cell; of f-strings the fixed parts."""
    if "paper.figure(" not in source:
        return None
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    figures = [call for call in calls if ast.unparse(call.func) == "paper.figure" and len(call.args) >= 3]
    if not figures:
        return None
    name, caption = map(_fixed, max(figures, key=lambda call: call.lineno).args[1:3])
    return (name, caption) if name else None


def _fixed(node: ast.expr) -> str:
    parts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))
    return "".join(parts)


def _last_commit(path: Path) -> str:
    """The day on which a file last changed, by git; empty outside a git checkout."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%cs", "--", str(path)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def bibtex(card: Card) -> str:
    """The card's citation."""
    raw = card.raw
    kept = {
        "title": f"{{{raw['title']}}}",
        "author": " and ".join(raw["authors"]),
        "year": str(raw["year"]),
        "howpublished": raw["venue"],
        "doi": raw.get("doi", ""),
        "eprint": raw.get("arxiv", ""),
        "archivePrefix": "arXiv" if raw.get("arxiv") else "",
    }
    lines = [f"  {name} = {{{value}}}" for name, value in kept.items() if value]
    return "@misc{" + ",\n".join([card.slug, *lines]) + "\n}"
