"""`make new`: a paper that runs and keeps the contract from its first minute."""

import json

import pytest

NEW = "shared.compendium.new"


@pytest.fixture(scope="module")
def made(module_checkout):
    code, output = module_checkout.run("my_paper", module=NEW)
    assert code == 0, output
    return module_checkout


def test_makes_three_files(made):
    folder = made.root / "papers" / "my_paper"
    assert {path.name for path in folder.iterdir()} == {"my_paper.ipynb", "card.yml", "paper.yml"}
    assert not any("SLUG" in path.read_text() for path in folder.iterdir())
    assert not list(folder.parent.glob(".new-*"))
    assert (made.root / "tests" / "papers" / "stand_ins" / "my_paper.py").is_file()


@pytest.mark.slow
def test_runs_and_keeps_the_contract(made):
    code, output = made.run("my_paper", "--once", module="shared.compendium.notebook")
    assert code == 0, output
    script = "from shared.compendium.contract import problems; print(*problems('my_paper'), sep='\\n')"
    refused = made.python(script).splitlines()
    assert [line.partition(": still")[0] for line in refused] == [
        "papers/my_paper: card.yml: title, authors, venue, summary, reproduces, reconstructed",
        *(f"papers/my_paper: card.yml: claims.{id}" for id in ("halves", "quarters", "as-theory-says", "beats-median")),
    ], "an untouched template is no paper"
    card = made.root / "papers" / "my_paper" / "card.yml"
    filled = {"What": "That", "First Author": "A. Author", "Where it": "It", "Everything": "All", "The paper's": "A"}
    text = card.read_text()
    for old, new in {
        **filled,
        "textbook; replace it by the paper's table or figure": "textbook",
        "Is the": "Is a",
    }.items():
        text = text.replace(old, new)
    card.write_text(text)
    assert made.python(script) == "\n"
    (ran,) = (made.figures / "my_paper" / "runs").iterdir()
    verdicts = [claim["verdict"] for claim in json.loads((ran / "results.json").read_text())["claims"]]
    assert verdicts == ["held", "held", "held", "yes"]


@pytest.mark.slow
def test_check_says_what_is_wrong_step_by_step(made):
    steps = ["--only", "contract", "--only", "run", "--only", "preflight"]
    code, output = made.run("my_paper", *steps, module="shared.compendium.check")
    assert (code, "contract: fine" in output, "run: fine" in output, "preflight: fine" in output) == (
        0,
        True,
        True,
        True,
    )
    path = made.root / "papers" / "my_paper" / "my_paper.ipynb"
    whole = path.read_text()
    wrong = whole.replace("np.sort(x, axis=1)[:, n // 4 : n - n // 4]", "x")
    path.write_text(wrong)
    code, output = made.run("my_paper", "--only", "run", module="shared.compendium.check")
    path.write_text(whole)
    assert code == 1
    assert "my_paper.ipynb: the stored solution doesn't pass the exercise's check" in output


def test_check_wants_a_known_paper(made):
    code, output = made.run("nobody", module="shared.compendium.check")
    assert (code, output) == (1, "P='nobody' is unknown; known: my_paper\n")


@pytest.mark.parametrize(
    ("slug", "line"),
    [
        ("my_paper", "papers/my_paper exists already"),
        ("My-Paper", "P='My-Paper' is no slug; it must consist of a-z, 0-9 and _, and start with a letter"),
        ("../x", "P='../x' is no slug; it must consist of a-z, 0-9 and _, and start with a letter"),
        ("", "P='' is no slug; it must consist of a-z, 0-9 and _, and start with a letter"),
    ],
)
def test_refuses_in_one_line(made, slug, line):
    assert made.run(slug, module=NEW) == (1, line + "\n")
    assert {path.name for path in (made.root / "papers").iterdir()} == {"Snakefile", "my_paper"}


def test_asks_for_a_slug(made):
    assert made.run(module=NEW) == (1, "which paper? make new P=SLUG\n")


TOOLS = ("runner", "notebook", "preflight", "check")


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_a_slip_in_a_card_is_told_in_one_line(checkout, tool):
    card = checkout.add("tiny") / "card.yml"
    card.write_text(card.read_text().replace("title: A", "title: A: a"))
    code, output = checkout.run("tiny", module=f"shared.compendium.{tool}")
    assert code != 0
    assert output.startswith(
        "papers/tiny/card.yml: line 2, column 9: no valid YAML: mapping values are not allowed here"
    )
    assert len(output.splitlines()) == 1
