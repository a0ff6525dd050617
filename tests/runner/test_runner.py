"""`make figures`: results per paper, only what changed runs again, one failure leaves the others alone."""

import nbformat
import pytest

from tests.checkout import CLAIM, FIGURE

PLAIN = "import matplotlib\npaper.claim('high', 0.8, control=0.1);"
THREADS = "import os\nassert os.environ['NUMBA_NUM_THREADS'] == os.environ['OMP_NUM_THREADS'] == '1'"
PLOTS = "from shared.plots import figure\n" + CLAIM


@pytest.fixture(scope="module")
def first(module_checkout):
    """The first run over three papers, of which one fails, and a folder that is no paper."""
    module_checkout.add("draws", THREADS, FIGURE, CLAIM)
    module_checkout.add("plots", PLOTS)
    module_checkout.add("broken", "raise ValueError('not\\ntoday')", set_up="")
    (module_checkout.root / "papers" / "draft").mkdir()
    code, output = module_checkout.run("--all")
    return module_checkout, code, output


def test_leaves_figures_results_log_and_executed_notebook(first):
    checkout, _, _ = first
    files = {path.name for path in (checkout.figures / "draws").iterdir()}
    assert files == {"fig1.png", "fig1.svg", "results.json", "run.log", "draws.ipynb"}
    assert checkout.results("draws")["claims"][0]["verdict"] == "held"
    executed = nbformat.read(checkout.figures / "draws" / "draws.ipynb", 4)
    assert "held" in executed.cells[-1].outputs[0].text


def test_a_failure_is_named_and_leaves_the_others_their_results(first):
    checkout, code, output = first
    assert code != 0
    assert "broken failed in cell [2]: ValueError: not today" in output
    assert "2 of 3 papers have results" in output
    assert "without results: broken" in output
    assert checkout.results("plots")["parameters"] == {"scale": "small", "seed": 0, "device": "auto", "size": 3}
    failed = nbformat.read(checkout.figures / "broken" / "broken.failed.ipynb", 4)
    assert "not" in next(out for cell in failed.cells for out in cell.get("outputs", []) if "ename" in out).evalue


def test_runs_again_only_what_changed(first):
    checkout, _, _ = first
    before = {slug: checkout.results(slug) for slug in ("draws", "plots")}
    with (checkout.root / "shared" / "plots" / "_style.py").open("a") as file:
        file.write("# changed\n")
    code, output = checkout.run("draws", "plots")
    assert code == 0, output
    assert checkout.results("draws") == before["draws"]
    assert checkout.results("plots")["finished"] > before["plots"]["finished"]
    code, output = checkout.run("draws", "plots")
    assert code == 0
    assert "Nothing to be done" in output


def test_paper_scale_takes_its_parameters_from_paper_yml(first):
    checkout, _, _ = first
    code, output = checkout.run("plots", "--scale", "paper")
    assert code == 0, output
    results = checkout.results("plots/paper")
    assert results["parameters"] == {"scale": "paper", "seed": 0, "device": "auto", "size": 5}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope"], "P='nope' is unknown; known: tiny, tony"),
        (["tine"], "P='tine' is unknown; did you mean 'tiny'? known: tiny, tony"),
        ([], "which paper? P=SLUG; known: tiny, tony"),
        (["tiny", "--scale", "huge"], "scale='huge' is unknown; known: small, paper"),
    ],
)
def test_wrong_names_get_one_line(checkout, arguments, line):
    checkout.add("tiny")
    checkout.add("tony")
    assert checkout.run(*arguments) == (2, line + "\n")
    assert not checkout.figures.exists()
