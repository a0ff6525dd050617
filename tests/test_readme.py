"""The README says what is true: its library example runs, its table lists every paper, its commands and links exist."""

import re

import pytest

from shared.compendium import known_papers
from shared.compendium.ledger import generated
from shared.compendium.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_library_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(example.strip().splitlines()) <= 10
    exec(compile(example, "README.md", "exec"), {})
    assert "France" in capsys.readouterr().out


def test_the_tables_say_what_cards_and_stored_runs_say():
    assert generated(README) == README, "run `make readme`"
    listed = re.findall(r"^\| \[(\w+)\]\(papers/\w+/\w+\.ipynb\)", README, flags=re.M)
    assert sorted(listed) == sorted(known_papers() * 2)  # papers and methods


def test_every_make_target_exists():
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.M))
    assert named
    assert named <= set(targets)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
