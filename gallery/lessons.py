"""What teachers need beside the notebooks: papers/lessons.yml and the glossary, made into pages and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from gallery.entries import Entry
from shared.compendium.card import THEMES
from shared.compendium.paths import PAPERS

LESSONS = PAPERS / "lessons.yml"
GLOSSARY = Path(__file__).parent / "guides" / "glossary.md"
LEVELS = {1: "introductory", 2: "intermediate", 3: "advanced"}
_WORDS_A_MINUTE, _LINES_A_MINUTE = 180, 18  # prose is read, code is understood
# code, formulas, links, markup and headings keep their text as it is
_KEPT = re.compile(
    r"(```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|<[^>]*>|^#[^\n]*$)", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Lesson:
    """How hard a notebook is and how long it takes, in minutes; the same of its coding exercise, with a hint."""

    minutes: int
    difficulty: int | None = None
    exercise_minutes: int | None = None
    exercise_difficulty: int | None = None
    hint: str = ""

    def words(self) -> str:
        said = [f"{LEVELS[self.difficulty]}, "] if self.difficulty else []
        said.append(f"{self.minutes} minutes to read")
        if self.exercise_minutes:
            level = f"{LEVELS[self.exercise_difficulty]}, " if self.exercise_difficulty else ""
            said.append(f" · coding exercise: {level}{self.exercise_minutes} minutes")
        return "".join(said)


def lessons() -> dict[str, Any]:
    """papers/lessons.yml: `notebooks` by slug, `order` by theme, `course`; empty where there is none."""
    return yaml.safe_load(LESSONS.read_text(encoding="utf-8")) if LESSONS.is_file() else {}


def lesson(paper: Entry, said: dict[str, Any]) -> Lesson:
    """A paper's own line; of a paper that has none the minutes are counted from its words and lines."""
    row = said.get("notebooks", {}).get(paper.slug, {})
    exercise = row.get("exercise", {})
    return Lesson(
        row.get("minutes") or _counted(paper.notebook),
        row.get("difficulty"),
        exercise.get("minutes"),
        exercise.get("difficulty"),
        exercise.get("hint", ""),
    )


def in_order(papers: list[Entry], said: dict[str, Any]) -> dict[str, list[Entry]]:
    """The papers of each theme in the order in which they are best read; those without a place come last."""
    ordered: dict[str, list[Entry]] = {}
    for theme in THEMES:
        place = {slug: i for i, slug in enumerate(said.get("order", {}).get(theme, []))}
        of_theme = [paper for paper in papers if paper.card.theme == theme]
        if of_theme:
            ordered[theme] = sorted(of_theme, key=lambda paper: (place.get(paper.slug, len(place)), paper.slug))
    return ordered


def course_page(papers: list[Entry], said: dict[str, Any]) -> str:
    """The seminar: nine sessions with two notebooks and an exercise each, as far as those are here."""
    known, course = {paper.slug: paper for paper in papers}, said["course"]
    lines = ["# A course", "", course["about"].strip(), ""]
    for number, session in enumerate(course["sessions"], start=1):
        if not set(session["notebooks"]) <= known.keys():
            continue
        lines += [f"## {number}. {session['title']}", "", session["about"].strip(), ""]
        for slug in session["notebooks"]:
            lines.append(f"- {{doc}}`{known[slug].short} </{known[slug].page}>`: {lesson(known[slug], said).words()}")
        lines += ["", f"**Exercise.** {session['exercise'].strip()}", ""]
    return "\n".join(lines)


def order_page(ordered: dict[str, list[Entry]], said: dict[str, Any]) -> str:
    """Reading order by theme, with difficulty and minutes."""
    lines = ["# Reading order", "", "Within a theme each notebook builds on those before it.", ""]
    for theme, papers in ordered.items():
        lines += [f"## {theme}", ""]
        lines += [f"1. {{doc}}`{p.short} </{p.page}>`: {lesson(p, said).words()}" for p in papers]
        lines.append("")
    return "\n".join(lines)


def glossary_terms() -> dict[str, str]:
    """The glossary's entry for each spelling of each term: as it stands there, and its plain plural."""
    block = GLOSSARY.read_text(encoding="utf-8").partition("```{glossary}\n")[2].partition("```")[0]
    entries = [line for line in block.splitlines() if line and not line.startswith((" ", "\t"))]
    plain = {entry.lower(): entry for entry in entries}
    return {**{f"{spelt}s": entry for spelt, entry in plain.items()}, **plain}


def link_terms(source: str, left: dict[str, str]) -> str:
    """Link the first use of each glossary term in prose; terms that are linked leave `left`."""
    if not left or "<details>" in source:
        return source
    parts = _KEPT.split(source)
    for i in range(0, len(parts), 2):  # odd parts are what is kept
        parts[i] = _link(parts[i], left)
    return "".join(parts)


def _link(text: str, left: dict[str, str]) -> str:
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(left, key=len, reverse=True)))})(?![\w-])", re.I)

    def link(match: re.Match[str]) -> str:
        entry = left.get(match[1].lower())
        if entry is None:
            return match[0]
        for spelt in [spelt for spelt, same in left.items() if same == entry]:
            del left[spelt]
        return f"{{term}}`{match[1]} <{entry}>`"

    return pattern.sub(link, text) if left else text


def _counted(notebook: nbformat.NotebookNode) -> int:
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [
        c.source for c in notebook.cells if c.cell_type == "code" and "hide-input" not in c.metadata.get("tags", [])
    ]
    words, lines = sum(len(text.split()) for text in prose), sum(len(text.splitlines()) for text in code)
    return max(5, 5 * round((words / _WORDS_A_MINUTE + lines / _LINES_A_MINUTE) / 5))
