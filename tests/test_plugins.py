"""What our own test plugins do: one execution per notebook, forked dry runs, the summary of time."""

import json
from types import SimpleNamespace

import nbformat
import pytest
from nbval.plugin import NbCellError

from tests import notebooks
from tests.papers.dry import DryRunError, run_forked
from tests.shards import in_shard, paper_of
from tests.timing import Clock, kind

REPORT = "claim  measured  n        verdict\n-----  --------  -------  -------\nhigh   0.90      5 seeds  held"


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """A compared cell of `papers/tiny/tiny.ipynb`, stored with REPORT, and the names of kernels that were started."""
    monkeypatch.setattr(notebooks, "PAPERS", tmp_path / "papers")
    monkeypatch.setattr(notebooks, "OFFICIAL", {"REPRISE_FIGURES": str(tmp_path / "figures")})
    monkeypatch.setattr(notebooks, "run_key", lambda name, parameters: f"key of {name} at {parameters['scale']}")
    monkeypatch.delenv("REPRISE_ALL", raising=False)
    output = nbformat.v4.new_output("stream", name="stdout", text=REPORT)
    stored = nbformat.v4.new_code_cell("# NBVAL_CHECK_OUTPUT\npaper.report()", outputs=[output])

    def raise_cell_error(message, *arguments):
        raise NbCellError(0, message, "", *arguments)

    file = SimpleNamespace(path=tmp_path / "papers" / "tiny" / "tiny.ipynb", started=[])
    return SimpleNamespace(parent=file, cell=stored, raise_cell_error=raise_cell_error)


def run(cell):
    """Set the cell's file up and run the cell, with a kernel that only notes its environment."""
    file = cell.parent
    notebooks._setup(lambda f: f.started.append({**notebooks.os.environ}))(file)
    notebooks._runtest(lambda c: file.started.append("executed"))(cell)
    return file.started


def write_results(cell, key, report):
    folder = cell.parent.path.parents[2] / "figures" / "tiny"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"key": key, "report": report}))


def test_a_run_whose_key_fits_is_compared_and_not_made_again(cell):
    write_results(cell, "key of tiny at small", REPORT.replace("0.90", "0.91"))
    assert run(cell) == []


def test_a_run_that_says_otherwise_fails(cell):
    write_results(cell, "key of tiny at small", REPORT.replace("held", "open"))
    with pytest.raises(NbCellError, match="Cell outputs differ"):
        run(cell)


@pytest.mark.parametrize("key", [None, "another"])
def test_otherwise_nbval_makes_the_official_run(cell, key):
    if key:
        write_results(cell, key, REPORT)
    environment, executed = run(cell)
    assert executed == "executed"
    assert environment["REPRISE_KEY"] == "key of tiny at small"
    assert environment["REPRISE_RUN"].endswith("figures/tiny")
    assert "REPRISE_RUN" not in notebooks.os.environ


def test_all_executes_in_any_case(cell, monkeypatch):
    write_results(cell, "key of tiny at small", REPORT)
    monkeypatch.setenv("REPRISE_ALL", "1")
    assert run(cell)[1] == "executed"


def test_other_notebooks_are_nbval_s_alone(cell):
    cell.parent.path = cell.parent.path.parents[1] / "other.ipynb"
    assert "REPRISE_KEY" not in run(cell)[0]


@pytest.fixture
def notebook(tmp_path):
    """A notebook of three cells that writes what it was given."""
    cells = [
        nbformat.v4.new_code_cell("size = 3"),
        nbformat.v4.new_code_cell("import os, pathlib\n%precision 3\nassert size < 9, 'too large'"),
        nbformat.v4.new_code_cell("pathlib.Path(os.environ['OUT']).write_text(f'{size} {In[2]!r} {os.getcwd()}')"),
    ]
    cells[0].metadata.tags = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "tiny.ipynb")
    return tmp_path / "tiny.ipynb"


@pytest.mark.slow
def test_a_dry_run_injects_parameters_as_papermill_does(notebook):
    out = notebook.parent / "out.txt"
    run_forked(notebook, {"size": 5}, {"OUT": str(out)})
    assert out.read_text() == f"5 '# Parameters\\nsize = 5' {notebook.parent}"
    with pytest.raises(DryRunError, match=r"AssertionError: too large[\s\S]*cell \[2\] failed"):
        run_forked(notebook, {"size": 10}, {"OUT": str(out)})


def test_kinds_of_tests():
    assert kind("papers/feddc/feddc.ipynb::Cell 3") == "notebooks"
    assert kind("tests/papers/test_dry_run.py::test_runs_at_paper_scale[feddc]") == "dry runs"
    assert kind("tests/runner/test_runner.py::test_x") == "faults"
    assert kind("tests/lrp/test_rules.py::test_x") == "units"


def test_the_summary_is_arithmetic():
    clock = Clock()
    for nodeid, duration in {
        "papers/a/a.ipynb::Cell 0": 10.0,
        "papers/a/a.ipynb::Cell 1": 20.0,
        "papers/b/b.ipynb::Cell 0": 50.0,
        "tests/papers/test_dry_run.py::test_runs_at_paper_scale[a]": 8.0,
        "tests/lrp/test_rules.py::test_x": 100.0,
    }.items():
        clock.add(nodeid, duration)
    first, second = clock.lines(workers=2)
    assert first == "worker seconds: units 100 s (1), notebooks 80 s (2), dry runs 8 s (1); workers: 2"
    assert second.endswith("(75 x (40 + 8) + 100) s / 2 = 31 min")


NODES = {
    "papers/feddc/feddc.ipynb::Cell 3": "feddc",
    "papers/var/more_vit.ipynb::Cell 0": "var",
    "tests/papers/test_dry_run.py::test_runs_at_paper_scale[mercat]": "mercat",
    "tests/papers/test_contract.py::test_keeps_the_contract[var]": None,
    "tests/lrp/test_rules.py::test_x": None,
}


@pytest.mark.parametrize(("nodeid", "paper"), NODES.items())
def test_shards_part_the_tests(nodeid, paper):
    papers = ["feddc", "mercat", "var"]
    assert paper_of(nodeid) == paper
    assert in_shard(nodeid, "", papers)
    assert sum(in_shard(nodeid, shard, papers) for shard in ("units", "1/2", "2/2")) == 1


@pytest.mark.parametrize("shard", ["0/2", "3/2", "half", "1/", "1/0"])
def test_no_shard_is_refused(shard):
    with pytest.raises(ValueError, match="is no shard; accepted: units, or k/n"):
        in_shard("tests/lrp/test_rules.py::test_x", shard, ["feddc"])
