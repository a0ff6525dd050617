"""`make gallery`: the static site in build/gallery, from the stored notebooks, the cards and the last run's results."""

from __future__ import annotations

import base64
import html
import io
import json
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from sphinx.cmd.build import main as sphinx

from shared.compendium import Card, load_card
from shared.compendium.card import THEMES
from shared.compendium.notebook import METADATA
from shared.compendium.paths import PAPERS, ROOT, known_papers, run_dir

HERE = Path(__file__).parent
SOURCE, SITE = ROOT / "build" / "gallery-source", ROOT / "build" / "gallery"
MARKS = {"held": ("held", "✓"), "not reproduced": ("failed", "✗")}


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

    def verdicts(self) -> str:
        counts = Counter(claim["verdict"] for claim in self.results.get("claims", []))
        return ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())) or "not run here yet"


def entries() -> list[Entry]:
    """Every paper that has a notebook."""
    found = []
    for slug in known_papers():
        path, results = PAPERS / slug / f"{slug}.ipynb", run_dir(slug) / "results.json"
        if path.is_file():
            read = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
            found.append(Entry(load_card(slug), nbformat.read(path, as_version=4), read))
    return found


def front_page(papers: list[Entry]) -> str:
    lines = [
        "---\nhide-toc: true\n---\n",
        "# Reprise",
        "",
        "Papers on explaining, verifying, compressing and federating neural networks, each reproduced by one notebook "
        "that runs in a minute on a laptop and, with the paper's own parameters, on a GPU. [Every claim](ledger) "
        "stands beside what was measured and a control that must fail.",
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
    head = ("paper", "claim", "reported", "measured", "control", "check", "verdict")
    rows = [_row(paper, claim, head) for paper in papers for claim in _claims(paper)]
    table = [
        '<table class="ledger">',
        f"<thead><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr></thead>",
        f"<tbody>{''.join(rows)}</tbody></table>",
    ]
    total = Counter(claim["verdict"] for paper in papers for claim in _claims(paper))
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(total.items())) or "none yet"
    intro = (
        f"Claims: {counts}. Measured at small scale in the last run on this machine. A claim holds if the measured "
        "number satisfies the check; its control, the same number for a null version of the method, must not."
    )
    return "\n".join(
        ["---\nhide-toc: true\n---\n", "# Claims", "", intro, "", "```{raw} html", *(table if rows else []), "```", ""]
    )


def _claims(paper: Entry) -> list[dict[str, Any]]:
    if paper.results:
        return paper.results["claims"]
    cards = paper.card.claims.values()
    said = [{"id": c.id, "statement": c.statement, "reported": c.reported, "source": c.source} for c in cards]
    texts = [{"measures": c.measures, "control": c.control, "check": c.check.text, "digits": c.digits} for c in cards]
    return [
        {**a, **b, "value": None, "control_value": None, "verdict": "not run here yet"} for a, b in zip(said, texts)
    ]


def _row(paper: Entry, claim: dict[str, Any], head: tuple[str, ...]) -> str:
    text = {key: html.escape(str(value)) for key, value in claim.items()}
    kind, mark = MARKS.get(claim["verdict"], ("open", "–"))
    cells = (
        f'<a href="{paper.page}.html">{paper.slug}</a>',
        f'<span><b>{text["id"]}</b><br><span class="statement">{text["statement"]}</span></span>',
        f'<span>{text["reported"]}<br><span class="source">{text["source"]}</span></span>',
        f'<span title="{text["measures"]}">{_number(claim["value"], claim["digits"])}</span>',
        f'<span title="{text["control"]}">{_number(claim["control_value"], claim["digits"])}</span>',
        f"<span>{text['check']}</span>",
        f'<span class="verdict {kind}">{mark} {text["verdict"]}</span>',
    )
    styles = ("", "", "", ' class="number"', ' class="number"', ' class="number"', "")
    return "<tr>" + "".join(f'<td data-label="{h}"{s}>{c}</td>' for h, s, c in zip(head, styles, cells)) + "</tr>"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def notebook_page(paper: Entry) -> nbformat.NotebookNode:
    """The notebook with a line on where it comes from below its title and its figures, larger, at the end."""
    cells = list(paper.notebook.cells)
    at_paper_scale = f"at paper scale `make paper P={paper.slug} SCALE=paper`"
    about = f"`make paper P={paper.slug}` · {at_paper_scale} · [claims](../../ledger): {paper.verdicts()}"
    page = nbformat.v4.new_notebook(metadata=METADATA, cells=[*cells[:1], _markdown(about), *cells[1:]])
    if paper.results:
        page.cells.append(_markdown("\n\n".join(["## Figures of the last run", *_figures(paper)])))
    return page


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
