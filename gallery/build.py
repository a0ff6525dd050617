"""`make gallery`: the static site in build/gallery, from the stored notebooks, the cards and the last run's results."""

from __future__ import annotations

import base64
import html
import io
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from sphinx.cmd.build import main as sphinx

from shared.compendium import Card, ClaimCard, load_card
from shared.compendium.card import THEMES
from shared.compendium.ledger import KINDS, counts, fresh_results, in_words, rows, verdict
from shared.compendium.notebook import METADATA
from shared.compendium.paths import PAPERS, ROOT, known_papers, run_dir

HERE = Path(__file__).parent
SOURCE, SITE = ROOT / "build" / "gallery-source", ROOT / "build" / "gallery"
MARKS = {
    "held": ("held", "✓"),
    "yes": ("held", "✓"),
    "not reproduced": ("failed", "✗"),
    "no": ("failed", "✗"),
    "open": ("open", "?"),
}
HEAD = ("paper", "claim", "reported", "measured", "null", "rival", "check", "verdict")


@dataclass
class Entry:
    """What the gallery shows of one paper; `results` is empty before its first run here."""

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

    def pictures(self) -> dict[str, bytes]:
        """Its figures by name, from the last run at small scale, else as the notebook is stored with them."""
        if self.results:
            files = {name: run_dir(self.slug) / f"{name}.png" for name in self.results["figures"]}
            return {name: path.read_bytes() for name, path in files.items() if path.is_file()}
        cells = [cell for cell in self.notebook.cells if "paper.figure(" in cell.source]
        stored = (
            (c, o["data"]["image/png"]) for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
        )
        return {cell.source.split("paper.figure(")[-1].split('"')[1]: base64.b64decode(data) for cell, data in stored}

    @property
    def claims(self) -> list[dict[str, str]]:
        """The report's rows: of the last official run here, else of the stored one."""
        return rows(self.slug)

    def verdicts(self) -> str:
        """The papers' claims and our own questions, counted apart."""
        counted = counts(self.claims)
        said = [f"{name}: {in_words(counted[kind])}" for kind, name in KINDS.items() if counted[kind]]
        return "; ".join(said) or "not run here yet"


def entries() -> list[Entry]:
    """Every paper that has a notebook."""
    found = []
    for slug in known_papers():
        path = PAPERS / slug / f"{slug}.ipynb"
        if path.is_file():
            found.append(Entry(load_card(slug), nbformat.read(path, as_version=4), fresh_results(slug)))
    return found


def front_page(papers: list[Entry]) -> str:
    lines = [
        "---\nhide-toc: true\n---\n",
        "# Reprise",
        "",
        "Papers on explaining, verifying, compressing and federating neural networks, each reproduced by one notebook "
        "that runs in a minute on a laptop and, with the paper's own parameters, on a GPU. [Every claim](ledger) "
        "stands beside what was measured, its interval, a null version and the strongest rival.",
        "",
    ]
    if not papers:
        lines += ["There is no paper here yet: `make new P=<slug>` starts one, `make store P=<slug>` executes it.", ""]
    for theme in THEMES:
        of_theme = [paper for paper in papers if paper.card.theme == theme]
        if of_theme:
            lines += [
                f"## {theme}",
                "",
                "::::{grid} 1 2 2 2",
                ":gutter: 3",
                "",
                *map(_thumbnail_card, of_theme),
                "::::",
                "",
            ]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", "ledger", *(p.page for p in papers), "```", ""])


def _thumbnail_card(paper: Entry) -> str:
    pictures = paper.pictures()
    chosen = pictures.get(paper.card.raw.get("thumbnail", ""), next(iter(pictures.values()), None))
    lines = [f":::{{grid-item-card}} {paper.card.title}", f":link: {paper.page}", ":link-type: doc"]
    if chosen:
        _write_thumbnail(chosen, SOURCE / "thumbnails" / f"{paper.slug}.png")
        lines += [f":img-top: thumbnails/{paper.slug}.png", f":img-alt: A figure of {paper.card.title}"]
    footer = ["```{card-footer}", paper.verdicts(), "```"]
    return "\n".join([*lines, "", " ".join(paper.card.raw["summary"].split()), "", *footer, ":::", ""])


def _write_thumbnail(png: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((720, 720))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def ledger(papers: list[Entry]) -> str:
    rows = [row for paper in papers for row in claims_rows(paper)]
    counted = counts(row for paper in papers for row in paper.claims)
    total = "; ".join(f"{name}: {in_words(counted[kind])}" for kind, name in KINDS.items())
    intro = (
        f"Claims at small scale, {total if any(counted.values()) else 'none yet'}. "
        "Each number is a mean over independent units with its 95 % interval. A claim "
        "is held if the whole interval satisfies the check and the difference to its null version excludes zero, not "
        "reproduced if the whole interval fails it, else open. Our own questions are answered yes, no or open."
    )
    return "\n".join(
        ["---\nhide-toc: true\n---\n", "# Claims", "", intro, "", "```{raw} html", claims_table(rows), "```", ""]
    )


def claims_table(rows: list[str]) -> str:
    """The report as HTML."""
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    return f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def claims_rows(paper: Entry) -> list[str]:
    """A row for each claim of the paper's card, measured or not."""
    measured = {row["id"]: row for row in paper.claims}
    return [_row(paper, card, measured.get(id, {})) for id, card in paper.card.claims.items()]


def _row(paper: Entry, card: ClaimCard, row: dict[str, str]) -> str:
    said = verdict(row) if row else "not run here yet"
    kind, mark = MARKS.get(said, ("open", "–"))
    whose = "" if card.kind == "paper" else "our question: "
    statement = f"{whose}{html.escape(card.statement)}"
    changed = f'<br><span class="statement">† {html.escape(card.post_hoc)}</span>' if card.post_hoc else ""
    cells = (
        f'<a href="{paper.page}.html">{paper.slug}</a>',
        f'<span><b>{card.id}</b><br><span class="statement">{statement}</span>{changed}</span>',
        f'<span>{html.escape(card.reported)}<br><span class="source">{html.escape(card.source)}</span></span>',
        f'<span title="{html.escape(card.measures)}">{_cell(row, "measured")}<br>'
        f'<span class="source">{_cell(row, "n")}</span></span>',
        f'<span title="{html.escape(card.null)}">{_cell(row, "null")}</span>',
        f'<span title="{html.escape(card.rival)}">{_cell(row, "rival")}</span>',
        f"<span>{html.escape(card.check.text)}</span>",
        f'<span class="verdict {kind}">{mark} {html.escape(row.get("verdict", row.get("answer", said)))}</span>',
    )
    styles = ("", "", "", *[' class="number"'] * 4, "")
    return "<tr>" + "".join(f'<td data-label="{h}"{s}>{c}</td>' for h, s, c in zip(HEAD, styles, cells)) + "</tr>"


def _cell(row: dict[str, str], name: str) -> str:
    return html.escape(row.get(name, "–"))


def notebook_page(paper: Entry) -> nbformat.NotebookNode:
    """The notebook with a line on where it comes from below its title and its figures, larger, at the end."""
    cells = list(paper.notebook.cells)
    at_paper_scale = f"at paper scale `make paper P={paper.slug} SCALE=paper`"
    about = f"`make paper P={paper.slug}` · {at_paper_scale} · [claims](../../ledger): {paper.verdicts()}"
    page = nbformat.v4.new_notebook(metadata=METADATA, cells=[*cells[:1], _markdown(about), *cells[1:]])
    page.cells.append(_markdown(f"## The claims\n\n{_on_page(paper)}"))
    methods = "".join(f"- `{name}`\n" for name in paper.card.methods)
    page.cells.append(_markdown(f"## The method in `shared`\n\n{methods}"))
    if paper.results:
        page.cells.append(_markdown("\n\n".join(["## Figures of the last run", *_figures(paper)])))
    return page


def _on_page(paper: Entry) -> str:
    """The paper's own claims as an HTML table; its links lead from the page to itself."""
    return claims_table([row.replace(f'href="{paper.page}.html"', 'href="#"') for row in claims_rows(paper)])


def _figures(paper: Entry) -> list[str]:
    folder = SOURCE / "papers" / paper.slug / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for name, png in paper.pictures().items():
        (folder / f"{name}.png").write_bytes(png)
        caption = paper.results["figures"][name]
        shown += [f"[![{caption}](figures/{name}.png)](figures/{name}.png)", f"*{caption}*"]
    return shown


def _markdown(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text)


def main() -> int:
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    papers = entries()
    (SOURCE / "index.md").write_text(front_page(papers), encoding="utf-8")
    (SOURCE / "ledger.md").write_text(ledger(papers), encoding="utf-8")
    for paper in papers:
        (SOURCE / paper.page).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook_page(paper), SOURCE / f"{paper.page}.ipynb")
    failed = sphinx(["-q", "-b", "html", "-c", str(HERE), str(SOURCE), str(SITE)])
    if not failed:
        print(f"{SITE / 'index.html'}: {len(papers)} papers, {sum(bool(p.results) for p in papers)} of them run here")
    return failed


if __name__ == "__main__":
    sys.exit(main())
