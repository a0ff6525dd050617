"""papers/lessons.yml speaks of papers that exist; glossary terms are linked once, in prose only; guides run."""

import re
from pathlib import Path

import nbformat
import pytest

from gallery.build import HOW_TOS
from gallery.lessons import GLOSSARY, Lesson, glossary_terms, lessons, link_terms
from shared.compendium import known_papers, load_card
from shared.compendium.parameters import notebook_path

GUIDES = GLOSSARY.parent
SAID = lessons()


def test_every_line_is_of_a_paper():
    assert set(SAID["notebooks"]) <= set(known_papers())
    for theme, slugs in SAID["order"].items():
        assert {load_card(slug).theme for slug in slugs} == {theme}
        assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("slug", SAID["notebooks"])
def test_a_line_is_complete(slug):
    line = SAID["notebooks"][slug]
    assert line["difficulty"] in (1, 2, 3)
    assert 10 <= line["minutes"] <= 40
    assert line["exercise"]["difficulty"] in (1, 2, 3)
    assert line["exercise"]["hint"].strip()
    assert Lesson(20, 2, 15, 1).words() == (
        "intermediate, 20 minutes to read · coding exercise: introductory, 15 minutes"
    )


def test_the_course_has_nine_sessions_of_two_notebooks():
    sessions = SAID["course"]["sessions"]
    assert len(sessions) == 9
    for session in sessions:
        assert len(set(session["notebooks"])) == 2
        assert set(session["notebooks"]) <= set(known_papers())
        (named,) = re.findall(r"^The coding exercise of (\w+)\.", session["exercise"])
        assert named in session["notebooks"]


def test_a_term_is_linked_at_its_first_use_in_prose():
    left = {"logit": "logit", "logits": "logit", "client": "client", "clients": "client"}
    text = "# Logits\n\n`logit` and $logit$ and [logit](x.md), then Logits, the logit. Subclients. Clients."
    linked = link_terms(text, left)
    assert linked == text.replace("then Logits", "then {term}`Logits <logit>`").replace(
        " Clients.", " {term}`Clients <client>`."
    )
    assert left == {}
    assert link_terms("<details>logit</details>", {"logit": "logit"}) == "<details>logit</details>"


def test_the_glossary_is_sorted_and_used():
    block = GLOSSARY.read_text(encoding="utf-8").partition("```{glossary}\n")[2].partition("```")[0]
    spellings = [re.findall(r"^\S.*$", entry, flags=re.M) for entry in block.split("\n\n")]
    firsts = [names[0].lower() for names in spellings]
    assert firsts == sorted(firsts)
    assert {name for names in spellings for name in names} == set(glossary_terms().values())
    notebooks = [nbformat.read(notebook_path(slug), as_version=4) for slug in known_papers()]
    prose = "\n".join(c.source for nb in notebooks for c in nb.cells if c.cell_type == "markdown").lower()
    assert [names for names in spellings if not any(name.lower() in prose for name in names)] == []


def blocks(guide: str) -> list[str]:
    text = (Path(GUIDES) / f"{guide}.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("guide", HOW_TOS)
def test_a_guide_s_code_runs(guide, capsys):
    namespace = {}
    for block in blocks(guide):
        code = compile(block, f"{guide}.md", "exec")
        if "flwr" not in block and "federated.flower" not in block:  # needs an environment of its own
            exec(code, namespace)
    printed = capsys.readouterr().out
    expected = {
        "attribute": "Paris",
        "patterns": "country=UK ∧ device=phone",
        "dictionary": "explained 0.9",
        "federate": "0.",
    }
    assert expected[guide] in printed
