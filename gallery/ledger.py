"""The ledger of claims: one table for its page, and the same rows on each paper's own."""

from __future__ import annotations

import html

from gallery.entries import Entry
from shared.compendium import ClaimCard
from shared.compendium.card import THEMES
from shared.compendium.ledger import KINDS, counts, in_words, verdict

MARKS = {
    "held": ("held", "✓"),
    "yes": ("held", "✓"),
    "not reproduced": ("failed", "✗"),
    "no": ("failed", "✗"),
    "open": ("open", "?"),
}
HEAD = ("claim", "reported", "measured", "null", "rival", "check", "verdict")
NOT_RUN = "not run here yet"
ABOUT = (
    "Each number is a mean over independent units with its 95 % interval. A claim is held if the whole interval "
    "satisfies the check and the difference to its null version excludes zero, not reproduced if the whole interval "
    "fails it, else open. Our own questions are answered yes, no or open. `~`: the deciding end lies within rounding "
    "of its bound; `†`: something changed after the number was seen."
)


def ledger_page(papers: list[Entry]) -> str:
    counted = counts(row for paper in papers for row in paper.claims)
    total = "; ".join(f"{name}: {in_words(counted[kind])}" for kind, name in KINDS.items())
    intro = f"Claims at small scale, {total if any(counted.values()) else 'none yet'}. {ABOUT}"
    described = "    description: Every claim of every paper beside what was measured"
    head = ["---", "hide-toc: true", "myst:", "  html_meta:", described]
    bodies = [_body(paper) for paper in sorted(papers, key=lambda p: (THEMES.index(p.card.theme), p.slug))]
    content = [filters(papers), claims_table(bodies)] if papers else []
    raw = ["```{raw} html", *content, "```", ""] if content else []
    return "\n".join([*head, "---", "", "# Claims", "", intro, "", *raw])


def filters(papers: list[Entry]) -> str:
    """Form controls; site.js shows the rows that fit. Without scripts every row is there."""
    themes = [theme for theme in THEMES if any(paper.card.theme == theme for paper in papers)]
    said = sorted(
        {_verdict(row) for paper in papers for row in _measured(paper)}, key=[*MARKS, "no test here", NOT_RUN].index
    )
    choices = {"theme": themes, "paper": sorted(paper.slug for paper in papers), "verdict": said}
    selects = "".join(
        f'<label>{name} <select name="{name}"><option value="">all</option>'
        + "".join(f"<option>{html.escape(value)}</option>" for value in values)
        + "</select></label>"
        for name, values in choices.items()
    )
    kind = (
        '<label>whose <select name="kind"><option value="">all</option><option value="paper">the papers\'</option>'
        '<option value="own">our own</option></select></label>'
    )
    return (
        f'<form class="filters" role="search" aria-label="Filter the claims">{selects}{kind}'
        '<label>text <input type="search" name="text" autocomplete="off"></label>'
        '<label class="check"><input type="checkbox" name="columns"> all columns</label>'
        '<button type="reset">show all</button><output role="status"></output></form>'
    )


def claims_table(bodies: list[str]) -> str:
    """The report as HTML, in a container that scrolls by itself."""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
    table = f'<table class="ledger"><thead><tr>{head}</tr></thead>{"".join(bodies)}</table>'
    return f'<div class="scrolls" tabindex="0" role="region" aria-label="Table of claims">{table}</div>'


def _body(paper: Entry) -> str:
    """A paper's rows below a line with its name, which folds them."""
    words = f"{html.escape(paper.verdicts())}{f' · {html.escape(origin)}' if (origin := paper.origin()) else ''}"
    head = (
        f'<tr class="paper"><th colspan="{len(HEAD)}" scope="rowgroup"><button type="button" aria-expanded="true">'
        f'{paper.slug}</button> <a href="{paper.page}.html">{html.escape(paper.card.title)}</a>'
        f'<br><span class="source">{words}</span></th></tr>'
    )
    rows = "".join(claim_rows(paper, prefix=f"{paper.slug}-"))
    return f'<tbody data-paper="{paper.slug}" data-theme="{html.escape(paper.card.theme)}">{head}{rows}</tbody>'


def own_table(paper: Entry, notebook: str, ledger: str) -> str:
    """The claims that one notebook measures, as they stand on its page; empty where it measures none."""
    rows = claim_rows(paper, prefix="claim-", notebook=notebook, ledger=ledger)
    return claims_table([f"<tbody>{''.join(rows)}</tbody>"]) if rows else ""


def claim_rows(paper: Entry, *, prefix: str, notebook: str | None = None, ledger: str = "") -> list[str]:
    """A row for each claim of the card, measured or not; of one notebook's where it is given."""
    measured = {row["id"]: row for row in paper.claims}
    claims = [claim for claim in paper.card.claims.values() if notebook is None or claim.notebook == notebook]
    return [_row(paper.slug, claim, measured.get(claim.id, {}), prefix, ledger) for claim in claims]


def _row(slug: str, card: ClaimCard, row: dict[str, str], prefix: str, ledger: str) -> str:
    said = _verdict(row)
    kind, mark = MARKS.get(said, ("open", "–"))
    whose = "" if card.kind == "paper" else "our question: "
    changed = f'<br><span class="statement">† {html.escape(card.post_hoc)}</span>' if card.post_hoc else ""
    link = f"{ledger}#{slug}-{card.id}" if ledger else f"#{prefix}{card.id}"
    cells = (
        f'<span><a href="{link}"><b>{card.id}</b></a><br>'
        f'<span class="statement">{whose}{html.escape(card.statement)}</span>{changed}</span>',
        f'<span>{html.escape(card.reported)}<br><span class="source">{html.escape(card.source)}</span></span>',
        f'<span title="{html.escape(card.measures)}">{_cell(row, "measured")}<br>'
        f'<span class="source">{_cell(row, "n")}</span></span>',
        f'<span title="{html.escape(card.null)}">{_cell(row, "null")}</span>',
        f'<span title="{html.escape(card.rival)}">{_cell(row, "rival")}</span>',
        f"<span>{html.escape(card.check.text)}</span>",
        f'<span class="verdict {kind}">{mark} {html.escape(row.get("verdict", row.get("answer", said)))}</span>',
    )
    styles = ("", "", *[' class="number"'] * 4, "")
    columns = "".join(f'<td data-label="{h}"{s}>{c}</td>' for h, s, c in zip(HEAD, styles, cells))
    return f'<tr id="{prefix}{card.id}" data-kind="{card.kind}" data-verdict="{said}">{columns}</tr>'


def _measured(paper: Entry) -> list[dict[str, str]]:
    found = {row["id"]: row for row in paper.claims}
    return [found.get(id, {}) for id in paper.card.claims]


def _verdict(row: dict[str, str]) -> str:
    said = verdict(row) if row else NOT_RUN
    return said if said in {*MARKS, NOT_RUN} else "no test here"


def _cell(row: dict[str, str], name: str) -> str:
    return html.escape(row.get(name, "–"))
