"""`make gallery`: the static site in build/gallery, from the stored notebooks, the cards and the last run's results."""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from sphinx.cmd.build import main as sphinx

from gallery.entries import Entry, entries
from gallery.ledger import ledger_page
from gallery.lessons import course_page, glossary_terms, in_order, lesson, lessons, order_page
from gallery.notebooks import downloads, further_page, main_page
from gallery.reference import write_reference
from shared.compendium import CardError
from shared.compendium.paths import ROOT

HERE = Path(__file__).parent
SOURCE, SITE = ROOT / "build" / "gallery-source", ROOT / "build" / "gallery"
GUIDES = HERE / "guides"
_LINK = re.compile(r"\{doc\}`(/papers/[^`]*)`")
HOW_TOS = ("attribute", "patterns", "dictionary", "federate")
WHAT = (
    "Papers on explaining, verifying, compressing and federating neural networks, each reproduced by one notebook "
    "that runs in a minute on a laptop and, with the paper's own parameters, on a GPU."
)


def front_page(ordered: dict[str, list[Entry]], pages: dict[str, list[str]]) -> str:
    """Thumbnails by theme, and the side bar's contents."""
    lines = [
        *("---", "hide-toc: true", "myst:", "  html_meta:", f"    description: {WHAT}", "---", ""),
        *("# Reprise", "", f"{WHAT} [Every claim](ledger) stands beside what was measured, its interval, a null "),
        "version and the strongest rival.",
        "",
    ]
    if not ordered:
        lines += ["There is no paper here yet: `make new P=<slug>` starts one, `make store P=<slug>` executes it.", ""]
    for theme, papers in ordered.items():
        lines += [f"## {theme}", "", "::::{grid} 1 2 2 2", ":gutter: 3", "", *map(_thumbnail_card, papers), "::::", ""]
    listed = {**pages, **{theme: [f"{p.short} <{p.page}>" for p in papers] for theme, papers in ordered.items()}}
    for caption, names in listed.items():
        lines += ["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""]
    return "\n".join(lines)


def _thumbnail_card(paper: Entry) -> str:
    figures = {name: png for name, (png, _) in paper.figures().items()}
    chosen = figures.get(paper.card.raw.get("thumbnail", ""), next(iter(figures.values()), None))
    lines = [f":::{{grid-item-card}} {paper.card.title}", f":link: {paper.page}", ":link-type: doc"]
    if chosen:
        _write_thumbnail(chosen, SOURCE / "thumbnails" / f"{paper.slug}.png")
        lines += [f":img-top: thumbnails/{paper.slug}.png", f":img-alt: A figure of {paper.card.title}"]
    origin = f" · {paper.origin()}" if paper.origin() else ""
    footer = ["```{card-footer}", f"{paper.verdicts()}{origin}", "```"]
    return "\n".join([*lines, "", " ".join(paper.card.raw["summary"].split()), "", *footer, ":::", ""])


def _write_thumbnail(png: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((720, 720))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def write_pages(papers: list[Entry], *, reference: bool) -> None:
    """Everything that Sphinx reads, into SOURCE."""
    said = lessons()
    ordered, terms = in_order(papers, said), glossary_terms()
    pages = {"Learn": _guides(papers, ordered, said), "Look up": ["ledger"]}
    if reference:
        write_reference(SOURCE, papers)
        pages["Look up"].append("api/index")
    _write("index.md", front_page(ordered, pages))
    _write("ledger.md", ledger_page(papers))
    for paper in papers:
        folder = (SOURCE / paper.page).parent
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(main_page(paper, lesson(paper, said), terms, folder), SOURCE / f"{paper.page}.ipynb")
        for name, notebook in paper.further().items():
            nbformat.write(further_page(paper, name, notebook, terms), folder / f"{name}.ipynb")


def _guides(papers: list[Entry], ordered: dict[str, list[Entry]], said: dict[str, Any]) -> list[str]:
    """How-tos and glossary as they are written; reading order and course from papers/lessons.yml."""
    (SOURCE / "guides").mkdir()
    known = {f"/{paper.page}": paper.short for paper in papers}
    for path in GUIDES.glob("*.md"):
        _write(
            f"guides/{path.name}", _LINK.sub(lambda match: _linked(match[1], known), path.read_text(encoding="utf-8"))
        )
    names = [f"guides/{name}" for name in HOW_TOS]
    if papers:
        _write("guides/order.md", order_page(ordered, said))
        names.insert(0, "guides/order")
    if said.get("course"):
        _write("guides/course.md", course_page(papers, said))
        names.insert(1, "guides/course")
    return [*names, "guides/glossary"]


def _linked(page: str, known: dict[str, str]) -> str:
    """A guide's link to a notebook; of one that isn't here its name."""
    return f"{{doc}}`{known[page]} <{page}>`" if page in known else f"`{page.rpartition('/')[2]}`"


def _write(name: str, text: str) -> None:
    (SOURCE / name).write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make gallery", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--without-reference", action="store_true", help="leave out the API pages, which import every room"
    )
    reference = not parser.parse_args().without_reference
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    try:
        papers = entries()
    except CardError as error:
        sys.exit(str(error))
    write_pages(papers, reference=reference)
    failed = sphinx(["-q", "-j", "auto", "-b", "html", "-c", str(HERE), str(SOURCE), str(SITE)])
    if not failed:
        for paper in papers:
            downloads(paper, (SITE / paper.page).parent)
        print(f"{SITE / 'index.html'}: {len(papers)} papers, {sum(bool(p.results) for p in papers)} of them run here")
    return failed


if __name__ == "__main__":
    sys.exit(main())
