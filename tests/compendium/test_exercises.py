"""The exercise: found below its heading, its stub fails, its solution takes the stub's place."""

import nbformat
import pytest

from shared.compendium.exercises import exercise, solved, stub_problems
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import known_papers

STUB = 'n = 3\n\n\ndef double(x):\n    return x\n\n\nprint("right" if double(n) == 6 else "not yet: twice")'
SOLUTION = "<details><summary>Solution</summary>\n\n```python\ndef double(x):\n    return 2 * x\n```\n</details>"


def notebook(stub=STUB, said="not yet: twice", solution=SOLUTION):
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cell = code(stub, outputs=[nbformat.v4.new_output("stream", name="stdout", text=said)])
    return nbformat.v4.new_notebook(cells=[code("0"), markdown("## Exercises\n\n1. Why?"), cell, markdown(solution)])


def test_the_solution_takes_the_stub_s_place(capsys):
    assert len(exercise(notebook())[0]) == 1
    exec(solved(notebook()), {})
    assert capsys.readouterr().out == "right\n"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"said": "right"}, "the untouched stub passes"),
        ({"said": "'right: so it is'"}, "the untouched stub passes"),
        ({"said": "not yet: the right end is open"}, None),
        ({"solution": "Think."}, "no solution in a ```python block"),
    ],
)
def test_what_is_wrong_is_said(changed, problem):
    found = stub_problems(notebook(**changed))
    assert [problem in line for line in found] == ([True] if problem else [])


def test_a_notebook_without_exercise_is_told():
    assert stub_problems(nbformat.v4.new_notebook()) == ["no code cell below the heading Exercises"]


@pytest.mark.parametrize("slug", known_papers())
def test_every_paper_s_stub_is_stored_failing(slug):
    assert stub_problems(nbformat.read(notebook_path(slug), as_version=4)) == []
