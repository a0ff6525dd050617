"""A notebook's page: what one can do with it at its head, its report as a table, its figures to enlarge."""

from __future__ import annotations

import copy
import html
import io
import re
import zipfile
from pathlib import Path

import nbformat
import yaml
from PIL import Image

from gallery.entries import COMPARED, Entry, bibtex, named_figure, picture, stored_figures
from gallery.ledger import own_table
from gallery.lessons import Lesson, link_terms
from shared.compendium.exercises import exercise
from shared.compendium.notebook import METADATA
from shared.compendium.paths import ROOT

LEDGER = "../../ledger.html"
DETAILS = re.compile(r"(?=<details>\s*<summary>Solution</summary>)")


def main_page(paper: Entry, lesson: Lesson, terms: dict[str, str], folder: Path) -> nbformat.NotebookNode:
    """The paper's notebook with a head, and methods, citation and further notebooks below; `folder` takes figures."""
    cells = _cells(paper.notebook, paper, "", terms)
    if lesson.hint:
        _add_hint(cells, lesson.hint)
    page = _page(paper, [cells[0], _raw(_head(paper, lesson)), *cells[1:]])
    methods = "".join(f"- {{py:obj}}`{name} <{name}>`\n" for name in paper.card.methods)
    page.cells.append(_markdown(f"## The method in `shared`\n\n{methods}"))
    if paper.card.raw.get("more"):
        names = "\n".join(f"{said} <{name}>" for name, said in paper.card.raw["more"].items())
        page.cells.append(_markdown(f"## Further notebooks\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```"))
    page.cells += [_markdown("## Cite"), _raw(_citation(paper))]
    if paper.results:
        page.cells.append(_markdown("\n\n".join(["## Figures of the last run", *_large(paper, folder / "figures")])))
    return page


def further_page(
    paper: Entry, name: str, notebook: nbformat.NotebookNode, terms: dict[str, str]
) -> nbformat.NotebookNode:
    """A `more_<topic>` notebook."""
    cells = _cells(notebook, paper, name, terms)
    actions = _actions(f"papers/{paper.slug}/{name}.ipynb", bool(stored_figures(notebook)))
    return _page(paper, [cells[0], _raw(f'<div class="about"><p>{actions}</p></div>'), *cells[1:]])


def downloads(paper: Entry, folder: Path) -> None:
    """The notebooks as they are stored, and their figures, where the pages' links look for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, notebook in {paper.slug: paper.notebook, **paper.further()}.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")
        figures = paper.figures() if name == paper.slug else stored_figures(notebook)
        if figures:
            with zipfile.ZipFile(folder / f"{name}-figures.zip", "w") as archive:
                for figure, (png, _) in figures.items():
                    archive.writestr(zipfile.ZipInfo(f"{figure}.png"), png)  # no time in it: same run, same bytes


def repository() -> str:
    """The address of the repository: `repository-code` of CITATION.cff, the one place it is set; empty if absent."""
    path = ROOT / "CITATION.cff"
    return yaml.safe_load(path.read_text(encoding="utf-8")).get("repository-code", "") if path.is_file() else ""


def _head(paper: Entry, lesson: Lesson) -> str:
    raw, slug = paper.card.raw, paper.slug
    lines = [f"{html.escape(paper.card.theme)} · {lesson.words()}"]
    links = {
        "arXiv": ("arxiv", "https://arxiv.org/abs/"),
        "DOI": ("doi", "https://doi.org/"),
        "code": ("code", "https://github.com/"),
    }
    out = [f'<a href="{base}{raw[key]}">{name}</a>' for name, (key, base) in links.items() if key in raw]
    lines.append(f"The paper: {html.escape(raw['venue'])}{''.join(f' · {link}' for link in out)}")
    origin = f" · {html.escape(paper.origin())}" if paper.origin() else ""
    lines.append(f'<a href="{LEDGER}?paper={slug}">Claims</a> {html.escape(paper.verdicts())}{origin}')
    lines.append(_actions(f"papers/{slug}/{slug}.ipynb", bool(paper.figures())))
    lines.append(
        f"<code>make paper P={slug}</code>, at the paper's own scale <code>make paper P={slug} SCALE=paper</code>"
    )
    return '<div class="about">' + "".join(f"<p>{line}</p>" for line in lines) + "</div>"


def _actions(path: str, figures: bool) -> str:
    """Download buttons, and where the repository's address is known, its source and services that open it."""
    name = path.rpartition("/")[2]
    links = {"notebook (.ipynb)": f'href="{name}" download'}
    if figures:
        links["figures (.zip)"] = f'href="{name.removesuffix(".ipynb")}-figures.zip" download'
    if base := repository().removesuffix("/"):
        links["source"] = f'href="{base}/blob/main/{path}"'
        if hosted := re.fullmatch(r"https://github\.com/(.+)", base):
            links["Colab"] = f'href="https://colab.research.google.com/github/{hosted[1]}/blob/main/{path}"'
            links["Binder"] = f'href="https://mybinder.org/v2/gh/{hosted[1]}/main?labpath={path}"'
    return " ".join(f'<a class="action" {where}>{said}</a>' for said, where in links.items())


def _citation(paper: Entry) -> str:
    return (
        '<div class="bibtex"><button type="button" class="copy" aria-label="Copy the BibTeX entry">copy</button>'
        f"<pre>{html.escape(bibtex(paper.card))}</pre></div>"
    )


def _page(paper: Entry, cells: list[nbformat.NotebookNode]) -> nbformat.NotebookNode:
    described = {"html_meta": {"description": " ".join(paper.card.raw["summary"].split())}}
    return nbformat.v4.new_notebook(metadata={**METADATA, "myst": described}, cells=cells)


def _cells(
    notebook: nbformat.NotebookNode, paper: Entry, name: str, terms: dict[str, str]
) -> list[nbformat.NotebookNode]:
    cells = copy.deepcopy(notebook.cells)
    left = dict(terms)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = link_terms(cell.source, left)
        elif COMPARED in cell.source:
            _report_as_table(cell, own_table(paper, name, LEDGER))
        elif png := picture(cell):
            _describe(cell, png)
    return cells


def _report_as_table(cell: nbformat.NotebookNode, table: str) -> None:
    """The HTML table in front of what the notebook printed, which is folded."""
    printed = "".join(output.get("text", "") for output in cell.outputs)
    folded = f"<details><summary>as printed</summary><pre>{html.escape(printed)}</pre></details>" if printed else ""
    if table:
        data = {"text/html": f'<div class="report">{table}{folded}</div>'}
        cell.outputs = [nbformat.v4.new_output("display_data", data=data)]


def _describe(cell: nbformat.NotebookNode, png: bytes) -> None:
    """The caption as text for those who don't see it, and the picture's own size, by which it links to itself."""
    _, caption = named_figure(cell.source) or ("", "")
    said = " ".join(caption.split()) or "Output of the code above"
    cell.metadata["mystnb"] = {"image": {"alt": said, "width": f"{Image.open(io.BytesIO(png)).width}px"}}


def _add_hint(cells: list[nbformat.NotebookNode], hint: str) -> None:
    """Folded, before the solution of the coding exercise."""
    below = exercise(nbformat.v4.new_notebook(cells=cells))[0]
    start = cells.index(below[-1]) if below else len(cells)
    for cell in cells[start:]:
        if cell.cell_type == "markdown" and DETAILS.search(cell.source):
            folded = f"<details><summary>Hint</summary>\n\n{hint}\n</details>\n\n"
            before, solution = DETAILS.split(cell.source, maxsplit=1)
            cell.source = before + folded + solution
            return


def _large(paper: Entry, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for name, (png, caption) in paper.figures().items():
        (folder / f"{name}.png").write_bytes(png)
        shown += [f"[![{caption}](figures/{name}.png)](figures/{name}.png)", f"*{caption}*"]
    return shown


def _markdown(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text)


def _raw(text: str) -> nbformat.NotebookNode:
    return _markdown(f"```{{raw}} html\n{text}\n```")
