"""`make figures`: results per notebook, only what changed runs again, one failure leaves the others alone."""

import json
import shutil

import nbformat
import pytest

from tests.checkout import CLAIM, DRAWS, FIGURE

THREADS = "import os\nassert os.environ['NUMBA_NUM_THREADS'] == os.environ['OMP_NUM_THREADS'] == '1'"


@pytest.fixture(scope="module")
def first(module_checkout):
    """The first run over three papers, of which one fails and one has two notebooks, and a folder that is no paper."""
    module_checkout.add("real", THREADS, FIGURE, CLAIM)
    module_checkout.add_bare("broken", "", "raise ValueError('not\\ntoday')")
    folder = module_checkout.add_bare("draws", DRAWS)
    shutil.copy(folder / "draws.ipynb", folder / "more_size.ipynb")
    (module_checkout.root / "papers" / "draft").mkdir()
    kept = module_checkout.figures / "draws"
    (kept / ".ipynb_checkpoints").mkdir(parents=True)  # somebody looked at an executed notebook
    for name in (".draws-x1.ipynb", "fig0_old.png", "fig0_old.svg"):  # left by a kill and by an earlier version
        (kept / name).write_text("")
    code, output = module_checkout.run("--all")
    return module_checkout, code, output


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_leaves_figures_results_log_and_executed_notebook(first):
    checkout, _, _ = first
    assert names(checkout.figures / "real") == {"fig1.png", "fig1.svg", "results.json", "run.log", "real.ipynb"}
    results = checkout.results("real")
    assert results["claims"][0]["verdict"] == "held"
    assert len(results["key"]) == 64
    executed = nbformat.read(checkout.figures / "real" / "real.ipynb", 4)
    assert "held" in executed.cells[-1].outputs[0].text


def test_more_notebooks_run_too_and_what_isn_t_of_this_run_goes(first):
    checkout, _, _ = first
    made = {"fig1.png", "fig1.svg", "results.json", "run.log"}
    assert names(checkout.figures / "draws") == made | {"draws.ipynb", "more_size", ".ipynb_checkpoints"}
    assert names(checkout.figures / "draws" / "more_size") == made | {"more_size.ipynb"}


def test_a_failure_is_named_and_leaves_the_others_their_results(first):
    checkout, code, output = first
    assert code != 0
    assert "2 of 3 papers have results" in output
    assert "without results: broken" in output
    folder = checkout.figures / "broken"
    said = next(line for line in output.splitlines() if line.startswith("broken failed"))
    assert said == (
        f"broken failed in cell [3]: ValueError: not today (log: {folder}/run.log; "
        f"the notebook as far as it came: {folder}/broken.failed.ipynb)"
    )
    cells = nbformat.read(folder / "broken.failed.ipynb", 4).cells
    (cell,) = (cell for cell in cells if any("ename" in output for output in cell.get("outputs", [])))
    assert (cell.execution_count, cell.outputs[-1].ename) == (3, "ValueError")  # as Jupyter numbers it
    log = (folder / "run.log").read_text()
    assert "Cell In[3], line 1" in log
    assert log.splitlines()[-1] == "failed in cell [3]"


def test_runs_again_only_what_isn_t_current(first):
    """Of draws the code changed, of draws/more_size a figure is gone."""
    checkout, _, _ = first
    before = checkout.results("real")
    notebook = checkout.root / "papers" / "draws" / "draws.ipynb"
    notebook.write_text(notebook.read_text().replace("size = 3", "size = 4"))
    gone = checkout.figures / "draws" / "more_size" / "fig1.svg"
    gone.unlink()
    code, output = checkout.run("draws", "real")
    assert code == 0, output
    assert checkout.results("real") == before
    assert checkout.results("draws")["parameters"]["size"] == 4
    assert gone.is_file()
    assert "2 of 2 steps" in output
    card = checkout.root / "papers" / "draws" / "card.yml"
    card.write_text(card.read_text().replace("Measures one", "Counts one"))
    code, output = checkout.run("draws", "real")
    assert code == 0
    assert "Nothing to be done" in output


def test_paper_scale_takes_its_parameters_from_paper_yml(first):
    checkout, _, _ = first
    official = checkout.results("draws")
    code, output = checkout.run("draws/more_size", "--scale", "paper", module="shared.compendium.execute")
    assert code == 0, output
    assert checkout.results("draws/more_size/paper")["parameters"] == {"scale": "paper", "seed": 0, "size": 5}
    assert checkout.results("draws") == official


def test_more_notebooks_take_what_they_share_with_paper_yml_or_their_own(first):
    checkout, _, _ = first
    folder = checkout.root / "papers" / "draws"
    (folder / "paper.yml").write_text("scale: paper\nsize: 5\nonly_in_main: 1\n")
    script = "from shared.compendium.results import given_parameters as g; print(g('draws/more_size', 'paper'))"
    assert checkout.python(script) == "{'scale': 'paper', 'size': 5}\n"
    (folder / "more_size.yml").write_text("scale: paper\nsize: 7\n")
    assert checkout.python(script) == "{'scale': 'paper', 'size': 7}\n"


def test_other_parameters_leave_the_official_results_alone(first):
    checkout, _, _ = first
    official = checkout.results("draws")
    code, output = checkout.run("draws", "-p", "seed", "1")
    assert code == 0, output
    assert checkout.results("draws") == official
    (run,) = (checkout.figures / "draws" / "runs").iterdir()
    assert output == f"draws: results in {run}\n"
    assert json.loads((run / "results.json").read_text())["parameters"]["seed"] == 1
    code, output = checkout.run("draws", "-p", "sede", "1")
    assert code == 2
    assert output.startswith("parameter 'sede' is unknown; did you mean 'seed'?")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope"], "P='nope' is unknown; known: tiny, tony"),
        (["tine"], "P='tine' is unknown; did you mean 'tiny'? known: tiny, tony"),
        (["tiny/more_costs"], "P='tiny/more_costs' is unknown; known: tiny, tony"),
        ([], "which paper? P=SLUG; known: tiny, tony"),
        (["tiny", "--scale", "huge"], "scale='huge' is unknown; known: small, paper"),
        (["tiny", "tony", "-p", "seed", "1"], "-p goes with one notebook"),
    ],
)
def test_wrong_names_get_one_line(checkout, arguments, line):
    checkout.add("tiny")
    checkout.add("tony")
    assert checkout.run(*arguments) == (2, line + "\n")
    assert not checkout.figures.exists()
