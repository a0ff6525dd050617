"""What is known of each claim: the stored run's report, or a fresh official run's; README's tables are made from it.

`python -m shared.compendium.ledger` rewrites the generated tables of README.md.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from shared.compendium.card import THEMES, Card, CardError, load_card
from shared.compendium.claims import ANSWERS, NO_TEST
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import ROOT, known_notebooks, known_papers, run_dir
from shared.compendium.report import bare, read_report

KINDS = {"paper": "the papers'", "own": "our own"}
_ORDER = [*ANSWERS, *ANSWERS.values()]
_COMPARED = "# NBVAL_CHECK_OUTPUT"
_MARKED = r"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)"


def stored_rows(slug: str) -> list[dict[str, str]]:
    """The claims of a paper as its stored notebooks printed them: `id`, `kind` and the cells of the report by head."""
    return [row for notebook in known_notebooks(slug) if (text := stored_report(notebook)) for row in read_report(text)]


def stored_report(notebook: str) -> str:
    """The report that a notebook is stored with, or an empty text."""
    cells = json.loads(notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    outputs = [c["outputs"] for c in cells if c["cell_type"] == "code" and _COMPARED in "".join(c["source"])]
    return "".join("".join(out["text"]) for out in (outputs[0] if outputs else []) if out.get("name") == "stdout")


def fresh_results(notebook: str) -> dict[str, Any]:
    """results.json of a notebook's official run on this machine, or an empty mapping."""
    path = run_dir(notebook) / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def rows(slug: str) -> list[dict[str, str]]:
    """Each claim as a fresh official run printed it, else the stored run; empty before the first."""
    fresh = [claim for notebook in known_notebooks(slug) for claim in fresh_results(notebook).get("claims", [])]
    printed = {claim["printed"]["id"]: claim["printed"] for claim in fresh}
    return list({**{row["id"]: row for row in stored_rows(slug)}, **printed}.values())


def verdict(row: Mapping[str, str]) -> str:
    """A row's verdict without its marks."""
    return bare(row.get("verdict", row.get("answer", NO_TEST)))


def counts(found: Iterable[Mapping[str, str]]) -> dict[str, Counter[str]]:
    """How often each verdict stands there, the papers' claims and our own questions apart."""
    counted: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for row in found:
        counted[row["kind"]][verdict(row)] += 1
    return counted


def in_words(counted: Mapping[str, int]) -> str:
    """`3 held, 1 open`, or a dash."""
    known = sorted(counted.items(), key=lambda entry: _ORDER.index(entry[0]) if entry[0] in _ORDER else len(_ORDER))
    return ", ".join(f"{n} {word}" for word, n in known) or "–"


def papers_table() -> str:
    """README's table of papers: notebook, theme, paper, and the stored run's verdicts."""
    lines = ["| notebook | theme | paper | its claims | our questions |", "|---|---|---|---|---|"]
    for card in _cards():
        counted = counts(stored_rows(card.slug))
        link = f"[{card.slug}](papers/{card.slug}/{card.slug}.ipynb)"
        verdicts = " | ".join(in_words(counted[kind]) for kind in KINDS)
        lines.append(f"| {link} | {card.theme} | {card.title} ({card.raw['venue']}) | {verdicts} |")
    total = counts(row for card in _cards() for row in stored_rows(card.slug))
    words = "; ".join(f"{name}: {in_words(total[kind])}" for kind, name in KINDS.items())
    return "\n".join([*lines, "", f"Claims of the stored runs, {words}.", ""])


def methods_table() -> str:
    """README's index from a paper to its functions in `shared`."""
    lines = ["| paper | its method in `shared` |", "|---|---|"]
    for card in _cards():
        named = ", ".join(f"`{name.removeprefix('shared.')}`" for name in card.methods)
        lines.append(f"| [{card.slug}](papers/{card.slug}/{card.slug}.ipynb) | {named} |")
    return "\n".join([*lines, ""])


TABLES = {"papers": papers_table, "methods": methods_table}


def generated(text: str) -> str:
    """`text` of README.md with its marked tables made anew."""
    for name, table in TABLES.items():
        text = re.sub(_MARKED.format(name=name), lambda _, made=table: made(), text, flags=re.DOTALL)
    return text


def _cards() -> list[Card]:
    cards = [load_card(slug) for slug in known_papers()]
    return sorted(cards, key=lambda card: (THEMES.index(card.theme), card.slug))


if __name__ == "__main__":
    readme = ROOT / "README.md"
    try:
        text = generated(readme.read_text(encoding="utf-8"))
    except CardError as error:
        sys.exit(str(error))
    readme.write_text(text, encoding="utf-8")
