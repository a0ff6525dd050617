"""Storing a notebook, and the contract that a stored one keeps."""

import base64
import io
import os
import subprocess
import sys
from datetime import UTC, datetime

import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

from shared.compendium import card as card_module
from shared.compendium import contract, known_papers, notebook, parameters
from shared.compendium.notebook import _lighten
from tests.checkout import CLAIM, FIGURE

GATE = {"id": "works", "statement": "It works.", "measures": "a share", "check": ">= 0.8"}
ENDING = "## Limits\n\nSmall.\n\n## Exercises\n\n<details><summary>Solution</summary>1</details>"


@pytest.fixture
def paper(checkout, monkeypatch):
    """A paper that keeps the contract except that it wasn't executed; notebook and contract look at its checkout."""
    for module in (contract, notebook, parameters):
        monkeypatch.setattr(module, "PAPERS", checkout.root / "papers")
    monkeypatch.setattr(known_papers, "__kwdefaults__", {"folder": checkout.root / "papers"})
    monkeypatch.setattr(card_module.load_card, "__kwdefaults__", {"folder": checkout.root / "papers"})
    folder = checkout.add("tiny", FIGURE, CLAIM, thumbnail="fig1")
    edit(folder, lambda cells: cells.append(nbformat.v4.new_markdown_cell(ENDING)))
    return folder


def edit(folder, change):
    path = folder / "tiny.ipynb"
    content = nbformat.read(path, 4)
    change(content.cells)
    nbformat.write(content, path)


def test_stores_outputs_light_and_executed_in_order(paper, checkout):
    code, output = checkout.run("tiny", module="shared.compendium.notebook")
    assert code == 0
    assert output.endswith("papers/tiny/tiny.ipynb\n")
    assert problems() == []
    content = nbformat.read(paper / "tiny.ipynb", 4)
    code_cells = [cell for cell in content.cells if cell.cell_type == "code"]
    assert "held" in code_cells[-1].outputs[0].text
    assert set(content.metadata) == {"kernelspec", "language_info", "reprise"}
    assert content.metadata["reprise"]["stored"] == datetime.now(UTC).date().isoformat()


def test_nothing_is_stored_when_a_cell_fails(paper, checkout):
    edit(paper, lambda cells: cells.insert(1, nbformat.v4.new_code_cell("1 / 0")))
    before = (paper / "tiny.ipynb").read_bytes()
    code, output = checkout.run("tiny", module="shared.compendium.notebook")
    assert code != 0
    assert "ZeroDivisionError" in output
    assert (paper / "tiny.ipynb").read_bytes() == before


# A run under baseline instruction sets comes to another number, within the interval of the first or beyond it.
DIFFERS = """import os
shift = SHIFT if "ATEN_CPU_CAPABILITY" in os.environ else 0
print("run under", os.environ.get("OPENBLAS_CORETYPE"))
mean, low, high = (f"{value + shift:.2f}" for value in (0.8, 0.75, 0.85))"""
PRINTS = """# NBVAL_CHECK_OUTPUT
print("claim  measured")
print("-----  ------------------")
print(f"high   {mean} [{low}, {high}]")"""


@pytest.mark.parametrize(
    ("shift", "arguments", "stored"), [(0.01, [], True), (0.2, [], False), (0.2, ["--once"], True)]
)
def test_what_another_processor_would_contradict_isn_t_stored(checkout, shift, arguments, stored):
    folder = checkout.add("tiny", DIFFERS.replace("SHIFT", str(shift)), set_up="", last=PRINTS)
    before = (folder / "tiny.ipynb").read_bytes()
    code, output = checkout.run("tiny", *arguments, module="shared.compendium.notebook")
    assert (code == 0) == stored, output
    assert ((folder / "tiny.ipynb").read_bytes() != before) == stored
    if stored:
        assert "run under None" in (folder / "tiny.ipynb").read_text()
    else:
        assert "0.80 [0.75, 0.85]" in output
        assert "1.00 [0.95, 1.05]" in output


def test_a_run_beyond_its_cards_budget_is_told(paper):
    allowed = 1.25 * 10 + notebook.START_UP  # the card says 10
    notebook._check_budget("tiny", allowed - 0.1)
    with pytest.raises(notebook.BudgetError, match=r"is stored, but took 24 CPU seconds; .* allows 22 "):
        notebook._check_budget("tiny", 24.0)


def test_cpu_seconds_are_those_of_what_was_started():
    before = notebook._children_cpu()
    spins = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", spins], check=True)
    assert 0.25 < notebook._children_cpu() - before < 3


def test_baseline_instruction_sets_are_heard():
    """The libraries take what BASELINE says: numbers change in their last bits."""
    script = (
        "import numpy as np, torch; a = np.random.default_rng(0).normal(size=(90, 90)); t = torch.tensor(a).float();"
        "print((a @ a).sum(), np.exp(a).sum(), t.softmax(1).std().item(), (t @ t).std().item())"
    )
    one, other = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script], env=env, capture_output=True, text=True, check=True
        )
        for env in (os.environ, {**os.environ, **notebook.BASELINE})
    )
    numbers = [list(map(float, done.stdout.split())) for done in (one, other)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)


def test_pictures_lose_colours_not_pixels():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    output = nbformat.v4.new_output(
        "display_data", data={"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "<Figure>"}
    )
    light = Image.open(io.BytesIO(base64.b64decode(_lighten(output).data["image/png"])))
    assert light.size == (60, 40)
    assert light.mode == "P"


def test_progress_bars_and_warnings_are_dropped():
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar"}
    assert _lighten(nbformat.v4.new_output("display_data", data=widget)) is None
    assert _lighten(nbformat.v4.new_output("stream", name="stderr", text="50%")) is None
    kept = nbformat.v4.new_output("stream", name="stdout", text="held")
    assert _lighten(kept) == kept


def problems(**options):
    """What of the contract the paper breaks, but for its single claim."""
    return [line for line in contract.problems("tiny", **options) if "claims of kind" not in line]


def source(index, text):
    return lambda cells: cells[index].update(source=text)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (source(0, "no title"), "the first cell is no title"),
        (lambda cells: cells[1].metadata.update(tags=[]), "0 cells are tagged `parameters`"),
        (lambda cells: cells[2].metadata.update(tags=["injected-parameters"]), "injected parameters"),
        (source(1, 'scale = "paper"\nseed = 0\ndevice = "auto"\nsize = 3'), "must say `scale = 'small'`"),
        (source(1, 'scale = "small"\nseed = 0\ndevice = "auto"'), "paper.yml names size"),
        (source(2, "1"), 'no cell makes `Paper("tiny", globals())`'),
        (source(3, "1"), "thumbnail 'fig1' of the card is no figure"),
        (source(4, "1"), "claim 'high' of the card appears in no code cell"),
        (source(5, "paper.report()"), "exactly one cell must be `# NBVAL_CHECK_OUTPUT`"),
        (source(4, "# NBVAL_CHECK_OUTPUT\nprint('high')"), "exactly one cell must be `# NBVAL_CHECK_OUTPUT`"),
        (source(6, ENDING.replace("## Limits", "")), "no heading says 'Limits'"),
        (source(6, ENDING.replace("details", "p")), "no solution in `<details>`"),
        (source(6, ENDING + "x" * 400_000), "at most 400000"),
        (source(6, ENDING + " word" * 1500), "words; at most 1500"),
        (source(4, CLAIM + "\n1" * 26), "has over 25 lines"),
        (source(4, CLAIM + "\n1" * 250), "lines of code outside cells tagged hide-input; at most 250"),
        (source(4, CLAIM.replace("high", "low")), "claim 'high' of the card appears in no code cell"),
    ],
)
def test_says_what_of_the_contract_is_broken(paper, change, problem):
    assert problems(executed=False) == []
    edit(paper, change)
    found = problems(executed=False)
    assert [line for line in found if problem in line], found
    assert all(line.startswith("papers/tiny: ") for line in found)


def test_cells_of_further_notebooks_are_short_too(paper):
    further = nbformat.read(paper / "tiny.ipynb", 4)
    further.cells[4].source = "1\n" * 26
    further.cells[4].metadata.tags = []
    nbformat.write(further, paper / "more_sizes.ipynb")
    assert [line for line in problems(executed=False) if "more_sizes.ipynb: cell [" in line and "over 25 lines" in line]


def test_a_notebook_must_be_executed_in_order_without_errors(paper):
    assert "wasn't executed top to bottom" in problems()[0]

    def failed(cells):
        for count, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
            cell.execution_count = count
        cells[2].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])]
        cells[3].outputs = [nbformat.v4.new_output("stream", name="stderr", text="warning")]

    edit(paper, failed)
    error, stderr = problems()
    assert "cell 2 is stored with an error: ValueError" in error
    assert "cell 3 is stored with stderr output" in stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"methods": ["shared.hooks.nothing"]}, "methods: shared.hooks.nothing is no public name"),
        ({"methods": ["shared.nowhere.nothing"]}, "methods: shared.nowhere.nothing is no public name"),
        ({"more": {"more_sizes": "other sizes"}}, "more lists more_sizes; there are none"),
        ({"gates": [GATE]}, "gate 'works' of the card appears in no code cell"),
        ({}, "1 claims of kind paper; 3 to 6 are asked for"),
    ],
)
def test_says_what_of_the_card_is_broken(paper, change, problem):
    path = paper / "card.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    assert [line for line in contract.problems("tiny", executed=False) if problem in line]


def test_missing_files_are_named(paper):
    (paper / "paper.yml").unlink()
    assert problems(executed=False) == ["papers/tiny: paper.yml is missing"]
    (paper / "tiny.ipynb").unlink()
    assert problems() == ["papers/tiny/tiny.ipynb is missing"]
