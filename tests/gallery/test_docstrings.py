"""Docstrings of both styles become fields; marks in prose and examples come through unharmed."""

import pytest

from gallery.docstrings import converted

DOCSTRING = """What it does, |x| * 2.

Parameters
----------
model : any module, as `f(x)` or *args;
    and more of it.
k, n : int
    How many.

Returns
-------
The `Part`s, in order.

Raises
------
ValueError
    for a bad k.

>>> 2 * |3|
"""


def test_a_docstring_of_the_house():
    text = "\n".join(converted(DOCSTRING.splitlines()))
    assert "What it does, \\|x\\| \\* 2." in text
    assert ":param model: any module, as `f(x)` or \\*args;\n    and more of it." in text
    assert ":param k/n: int –\n    How many." in text
    assert ":returns: The `Part`\\ s, in order." in text
    assert ":raises ValueError: \n    for a bad k." in text


@pytest.mark.parametrize("line", [">>> a = {'x_': 1 | 2}", "..."])
def test_examples_stay_as_they_are(line):
    assert converted([">>> 1", line]) == [">>> 1", line]


def test_an_indented_block_of_a_module_is_code():
    assert converted(["Use it:", "", "    f(*x)", "", "Then |more|."], literal=True) == [
        *("Use it:", "", "::", "", "    f(*x)", "", "Then \\|more\\|.")
    ]


def test_several_results_become_a_list():
    lines = ["Returns", "-------", "points : (n, 2)", "    Where.", "labels : (n,)", "    Which."]
    expected = [":returns:", "", "    - points : (n, 2)", "      Where.", "    - labels : (n,)", "      Which."]
    assert [line for line in converted(lines) if line] == [line for line in expected if line]
    assert converted([*lines[:2], "float", "    How far."])[1:3] == [":returns: float", "    How far."]
